"""Reference pictures that the host's own nodes put in front of a video: VACE and Wan Animate."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_wan import WanAnimateToVideo, WanVaceToVideo

from kvshare_core.config import KVShareConfig, MaskSettings
from kvshare_core.embedded.model import CROSS_ATTENTION, load_embedded
from kvshare_core.families.wan import WanFamily
from kvshare_core.host.sampling.run_noise import arrange_noise
from kvshare_core.timeline.timeline import Timeline
from tests.support.family_cases import FamilyCase, model_of
from tests.support.present import present
from tests.support.windows import share, tiny_timeline
from tests.tiny.models import Sampling
from tests.tiny.wan_variants import vision

PIXELS = 48
OFF = KVShareConfig(mode="off")
EVERYTHING = KVShareConfig(mode="extend", position="same")
TOKENS = 9
"""Of a latent frame."""


@pytest.fixture(scope="module")
def vae() -> Any:
    return load_embedded(CROSS_ATTENTION).vae


def pictures(count: int, seed: int, side: int = PIXELS) -> torch.Tensor:
    return torch.rand(count, side, side, 3, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Node:
    """What a node of the host makes of a film's conditioning; made(vae, positive, negative, frames, first, **others):
    of `frames` pictures of a control video from number `first` on."""

    name: str
    made: Callable[..., Any]

    def of(self, vae: Any, timeline: Timeline, **others: Any) -> "Given":
        case = self.case
        conds = case.positive(timeline), case.negative(timeline)
        return Given(*self.made(vae, *conds, timeline.frames, 0, **others)[:3])

    @property
    def case(self) -> FamilyCase:
        return replace(present(self.name), per_video=lambda timeline: {})


@dataclass(frozen=True)
class Given:
    positive: list[Any]
    negative: list[Any]
    latent: dict[str, Any]

    def run(self, model: Any, noise: torch.Tensor | None = None, **options: Any) -> torch.Tensor:
        shape = tuple(self.latent["samples"].shape)
        sampling = Sampling(**{"steps": 2, "cfg": 3.0, **options})
        return sampling.run(model, self.positive, self.negative, shape, noise=noise)


def with_vace(vae: Any, positive: Any, negative: Any, frames: int, first: int, reference: bool = True) -> Any:
    """As from a control video of which a mask keeps a part."""
    control, masks = pictures(first + frames, 1)[first:], (pictures(first + frames, 2)[first:, ..., 0] > 0.5).float()
    return WanVaceToVideo.execute(
        positive, negative, vae, PIXELS, PIXELS, frames, 1, 0.8, control, masks, pictures(1, 3) if reference else None
    ).result


def with_animate(vae: Any, positive: Any, negative: Any, frames: int, first: int, face: bool = False) -> Any:
    """With the video of a pose, and maybe of a face, which takes a long time to read."""
    poses, faces = pictures(first + frames, 4)[first:], pictures(first + frames, 5, 64)[first:]
    return WanAnimateToVideo.execute(
        positive,
        negative,
        vae,
        PIXELS,
        PIXELS,
        frames,
        1,
        5,
        0,
        pictures(1, 6),
        vision(),
        face_video=faces if face else None,
        pose_video=poses,
    ).result


NODES = {"vace": Node("wan vace", with_vace), "animate": Node("wan animate", with_animate)}


@pytest.fixture(params=sorted(NODES))
def node(request: pytest.FixtureRequest) -> Node:
    return NODES[request.param]


def test_a_film_of_one_segment_is_the_stock_models(node: Node, vae: Any) -> None:
    timeline = tiny_timeline(1)
    given = node.of(vae, timeline)
    assert given.latent["samples"].shape[2] == timeline.latent_frames + 1
    model = model_of(node.name)
    patched, _ = share(model, timeline, KVShareConfig(), subject="")
    assert torch.equal(given.run(patched), given.run(model))


def test_every_segment_has_the_reference_in_front(node: Node, vae: Any) -> None:
    """In one step, which ends with the model's predictions, each segment is what the stock model makes of the reference
    and the segment's own part of everything, and the reference is the mean of what each makes of it."""
    timeline = tiny_timeline(3, overlap=0)
    given, model = node.of(vae, timeline), model_of(node.name)
    noise = torch.randn(given.latent["samples"].shape, generator=torch.Generator().manual_seed(1))
    patched, _ = share(model, timeline, OFF, subject="")
    found = given.run(patched, noise, steps=1)
    fronts: list[torch.Tensor] = []
    for segment in timeline.segments:
        own = torch.cat([noise[:, :, :1], noise[:, :, 1 + segment.start : 1 + segment.stop]], 2)
        alone = cut_by_hand(given, segment.start, segment.stop, timeline.latent_frames, segment.beat).run(
            model, own, steps=1
        )
        torch.testing.assert_close(
            found[:, :, 1 + segment.start : 1 + segment.stop], alone[:, :, 1:], rtol=1e-4, atol=1e-5
        )
        fronts.append(alone[:, :, :1])
    torch.testing.assert_close(found[:, :, :1], torch.stack(fronts).mean(0), rtol=1e-4, atol=1e-5)


def cut_by_hand(given: Given, start: int, stop: int, frames: int, beat: int) -> Given:
    """The conditioning of one beat with what belongs to latent frames [start, stop), the reference in front."""

    def part(tensor: torch.Tensor, dim: int = 2, lead: int = 1) -> torch.Tensor:
        body = tensor.narrow(dim, lead + start, stop - start)
        return torch.cat([tensor.narrow(dim, 0, lead), body], dim) if lead else body

    def cut(extra: dict[str, Any]) -> dict[str, Any]:
        extra = {name: value for name, value in extra.items() if not name.startswith("kvshare")}
        for name in ("vace_frames", "vace_mask"):
            if name in extra:
                extra[name] = [part(tensor) for tensor in extra[name]]
        for name in ("concat_latent_image", "concat_mask"):
            if name in extra:
                extra[name] = part(extra[name])
        if "pose_video_latent" in extra:
            extra["pose_video_latent"] = part(extra["pose_video_latent"], lead=0)
        return extra

    def of_beat(entries: list[Any]) -> list[Any]:
        return [[text, cut(extra)] for text, extra in entries if extra.get("kvshare_beat", beat) == beat]

    latent = {"samples": given.latent["samples"][:, :, : 1 + stop - start]}
    return Given(of_beat(given.positive), of_beat(given.negative), latent)


def test_each_segment_has_its_part_of_the_face_behind_the_reference(vae: Any) -> None:
    timeline = tiny_timeline(2, window=2, overlap=0)
    given = NODES["animate"].of(vae, timeline, face=True)
    whole = given.positive[0][1]["face_video_pixels"]
    model, _ = share(model_of("wan animate"), timeline, OFF, subject="")
    seen: list[tuple[int, Any]] = []

    def look(executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append((x.shape[2], kwargs["face_pixel_values"]))
        return torch.zeros_like(x)

    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    given.run(model, steps=1, cfg=1.0)
    assert [frames for frames, _ in seen] == [3, 3]
    assert torch.equal(seen[0][1], whole[:, :, :8]) and torch.equal(seen[1][1], whole[:, :, 8:])


@pytest.mark.parametrize("order", ["lockstep", "sources_first"])
def test_the_video_is_shared_and_the_reference_is_not(
    node: Node, order: Any, vae: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    timeline = tiny_timeline(2)
    given, model = node.of(vae, timeline), model_of(node.name)
    seen: set[tuple[int, int]] = set()
    classify = WanFamily.classify

    def look(family: WanFamily, diffusion_model: Any, index: int, call: Any, video: int, text: int) -> Any:
        seen.add((video, call.query_tokens))
        return classify(family, diffusion_model, index, call, video, text)

    monkeypatch.setattr(WanFamily, "classify", look)
    outputs = [
        given.run(share(model, timeline, config, subject="")[0], steps=1)
        for config in (OFF, replace(EVERYTHING, order=order))
    ]
    frames = timeline.segments[0].shown_stop - timeline.segments[0].fall
    assert {video for video, _ in seen} == {(1 + timeline.window) * TOKENS}
    assert not [record for record in caplog.records if "unshared" in record.getMessage()]
    difference = (outputs[1] - outputs[0]).abs()
    assert difference[:, :, 1 : 1 + frames].max() < 1e-5 < 1e-4 < difference[:, :, 1 + frames :].max()


@pytest.mark.parametrize("kind", ["appearance", "contrast"])
def test_a_subject_is_found_in_the_video_alone(node: Node, kind: Any, vae: Any) -> None:
    timeline = tiny_timeline(2)
    given = node.of(vae, timeline)
    config = KVShareConfig(share_background=True, drift_control=0.3, masks=MaskSettings(kind=kind))
    model, record = share(model_of(node.name), timeline, config)
    assert given.run(model).isfinite().all()
    masks = record.latest()
    assert masks is not None and masks.mask.shape[1] == timeline.latent_frames


def test_noise_of_segments_is_arranged_behind_the_reference() -> None:
    timeline = replace(tiny_timeline(3, overlap=0), noise="freenoise")
    noise = torch.randn(1, 4, timeline.latent_frames + 1, 2, 2, generator=torch.Generator().manual_seed(7))
    arranged = arrange_noise(timeline, noise, 7, [noise.shape], print, lead=1)
    expected = arrange_noise(timeline, noise[:, :, 1:], 7, [noise[:, :, 1:].shape], print)
    assert torch.equal(arranged[:, :, :1], noise[:, :, :1]) and torch.equal(arranged[:, :, 1:], expected)
    assert not torch.equal(arranged, noise)


def test_a_chain_with_a_reference_is_refused(node: Node, vae: Any) -> None:
    timeline = tiny_timeline(2)
    model, _ = share(model_of(node.name), timeline, KVShareConfig(order="chain"), subject="")
    with pytest.raises(ValueError, match=r"^Mask-Guided KV Share: order 'chain' .*Set order to lockstep"):
        node.of(vae, timeline).run(model)


def test_one_error_says_whose_latent_and_what_length(node: Node, vae: Any) -> None:
    timeline = tiny_timeline(2)
    model, _ = share(model_of(node.name), timeline, OFF, subject="")
    given = node.of(vae, timeline)
    of_segmenter = replace(given, latent={"samples": given.latent["samples"][:, :, 1:]})
    with pytest.raises(ValueError, match=r"1 latent frame\(s\) of a reference .* Connect the latent of the"):
        of_segmenter.run(model)
    conds = node.case.positive(timeline), node.case.negative(timeline)
    longer = Given(*node.made(vae, *conds, timeline.frames + 4, 0)[:3])
    with pytest.raises(ValueError, match=rf"latent has \d+ frames.* Set the length of .* to {timeline.frames}, as"):
        longer.run(model)


def test_vace_without_a_reference_has_no_frame_in_front(vae: Any) -> None:
    timeline, node = tiny_timeline(2), NODES["vace"]
    given = node.of(vae, timeline, reference=False)
    assert given.latent["samples"].shape[2] == timeline.latent_frames
    model, _ = share(model_of(node.name), timeline, OFF, subject="")
    assert given.run(model).isfinite().all()
    # One frame too many is no reference, whatever the number.
    conds = node.case.positive(timeline), node.case.negative(timeline)
    longer = Given(*node.made(vae, *conds, timeline.frames + 4, 0, reference=False)[:3])
    with pytest.raises(ValueError, match="Set the length of the node"):
        longer.run(model)
