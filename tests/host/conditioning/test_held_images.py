"""Images of beats in the latent of LTX: what the host's LTXVImgToVideoInplace gives, for every beat of a film."""

from typing import Any

import comfy_extras.nodes_lt
import pytest
import torch
from comfy.nested_tensor import NestedTensor
from comfy.patcher_extension import WrappersMP

from kvshare_core.config import KVShareConfig
from kvshare_core.host import BEAT_TAG
from kvshare_core.host.conditioning.beat_images import BeatImages, add_beat_images
from kvshare_core.script.film import Duration, Script, ScriptBeat
from kvshare_core.timeline.holding import hold_frames
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.support.family_cases import CASES, FamilyCase, model_of
from tests.support.node_calls import run_node
from tests.support.present import present
from tests.support.windows import share
from tests.tiny.ltx2 import AUDIO_BANDS, AUDIO_CHANNELS
from tests.tiny.ltx_vae import tiny_ltx_vae
from tests.tiny.models import Sampling

SIDE = 96
OFF = KVShareConfig(mode="off")
MODELS = ("ltxv", "ltx-2", "ltx-2.3", "ltx-2.5")

Latent = dict[str, Any]


@pytest.fixture(scope="module")
def vae() -> Any:
    return tiny_ltx_vae()


@pytest.fixture(params=MODELS)
def case(request: pytest.FixtureRequest) -> FamilyCase:
    return present(request.param)


def film(*frames: int, overlap: int = 1) -> Timeline:
    """Beats of so many latent frames in windows of 3."""
    beats = tuple(ScriptBeat("fox runs", Duration(count, "latent frames")) for count in frames)
    return plan_timeline(Script(beats), 3, overlap, 25, 8)


def picture(seed: int, pictures: int = 1, side: int = SIDE) -> torch.Tensor:
    return torch.rand(pictures, side, side, 3, generator=torch.Generator().manual_seed(seed))


def empty(case: FamilyCase, timeline: Timeline) -> Latent:
    return {"samples": torch.zeros(case.shape(timeline)), "downscale_ratio_spacial": 32}


def stock(vae: Any, image: torch.Tensor, latent: Latent, strength: float) -> Latent:
    """What the host's own node makes; skips the test where the host has none."""
    node = getattr(comfy_extras.nodes_lt, "LTXVImgToVideoInplace", None)
    if node is None:
        pytest.skip("this ComfyUI has no LTXVImgToVideoInplace")
    return node.execute(vae, image, latent, strength).result[0]


def held(case: FamilyCase, vae: Any, timeline: Timeline, latent: Latent, beat: int, images: BeatImages) -> Latent:
    """The latent with the images of a beat; the conditioning stays as it was."""
    texts = case.positive(timeline), case.negative(timeline)
    *same, result = add_beat_images(model_of(case.name), vae, timeline, latent, *texts, beat, images)
    assert same[0] is texts[0] and same[1] is texts[1]
    return result


def sample(
    case: FamilyCase,
    model: Any,
    timeline: Timeline,
    latent: Latent,
    noise: torch.Tensor | None = None,
    beat: int = 0,
    sound: bool = True,
) -> torch.Tensor:
    """The video that a model makes of a latent; with `sound` LTX-2 makes audio too, packed by the host's own node.
    beat: of a timeline of one, the number of its text."""
    positive = case.positive(timeline)
    if beat > 0:
        positive = [[case.text(10 + beat, 6)[0], positive[0][1]]]
    shape = latent["samples"].shape
    if noise is None:
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    if case.family == "ltx2" and sound:
        audio = torch.zeros(1, AUDIO_CHANNELS, timeline.frames, AUDIO_BANDS)
        packed = comfy_extras.nodes_lt.LTXVConcatAVLatent.execute(latent, {"samples": audio, "type": "audio"})
        latent = packed.result[0]
        noise = NestedTensor([noise, torch.randn(audio.shape, generator=torch.Generator().manual_seed(6))])
    result = Sampling(steps=3).run(
        model,
        positive,
        case.negative(timeline),
        shape,
        noise=noise,
        latent=latent["samples"],
        noise_mask=latent.get("noise_mask"),
    )
    return result.unbind()[0] if result.is_nested else result


@pytest.mark.parametrize("strength", [1.0, 0.7])
@pytest.mark.parametrize("side", [SIDE, 70])
def test_a_film_of_one_beat_is_the_hosts_own_bit_for_bit(
    case: FamilyCase, vae: Any, strength: float, side: int
) -> None:
    timeline, image = film(3), picture(1, side=side)
    latent = empty(case, timeline)
    found = held(case, vae, timeline, latent, 1, BeatImages(image, strength=strength))
    expected = stock(vae, image, latent, strength)
    assert found.keys() == expected.keys() | {"downscale_ratio_spacial"}
    assert torch.equal(found["samples"], expected["samples"])
    assert torch.equal(found["noise_mask"], expected["noise_mask"])
    assert not latent["samples"].any()
    patched, _ = share(model_of(case.name), timeline, KVShareConfig(share_background=True), subject="")
    outputs = [sample(case, patched, timeline, found), sample(case, model_of(case.name), timeline, expected)]
    kept = found["noise_mask"].expand(outputs[0].shape) == 0
    assert kept.any() == (strength == 1)
    assert torch.equal(outputs[0][~kept], outputs[1][~kept])
    # The host's last step leaves rounding errors in what it holds.
    assert torch.equal(outputs[0][kept], found["samples"][kept])
    torch.testing.assert_close(outputs[0][kept], outputs[1][kept], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("strength", [1.0, 0.7])
def test_a_later_beat_is_the_hosts_own_run_of_its_segment(case: FamilyCase, vae: Any, strength: float) -> None:
    """Without an overlap nothing of the first beat reaches into the second."""
    timeline, alone, images = film(3, 3, overlap=0), film(3), (picture(1), picture(2))
    latent = empty(case, timeline)
    for beat, image in enumerate(images):
        latent = held(case, vae, timeline, latent, beat + 1, BeatImages(image, strength=strength))
    assert torch.equal(latent["noise_mask"][0, 0, :, 0, 0] < 1, torch.tensor([True, False, False] * 2))
    noise = torch.randn(case.shape(timeline), generator=torch.Generator().manual_seed(5))
    patched = share(model_of(case.name), timeline, OFF, subject="")[0]
    found = sample(case, patched, timeline, latent, noise, sound=False)
    for beat, image in enumerate(images):
        frames = slice(3 * beat, 3 * beat + 3)
        own = stock(vae, image, empty(case, alone), strength)
        expected = sample(case, model_of(case.name), alone, own, noise[:, :, frames], beat, sound=False)
        torch.testing.assert_close(found[:, :, frames], expected, rtol=1e-4, atol=1e-4)


def test_every_segment_knows_how_noisy_its_own_frames_are(case: FamilyCase, vae: Any) -> None:
    timeline = film(3, 4)
    seen: dict[int, torch.Tensor] = {}

    def spy(executor: Any, *args: Any, **kwargs: Any) -> Any:
        seen[args[5]["context_window"].segment.index] = kwargs["denoise_mask"][0, 0, :, 0, 0]
        return executor(*args, **kwargs)

    model = share(model_of(case.name), timeline, OFF, subject="")[0]
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "spy", spy)
    latent = held(case, vae, timeline, empty(case, timeline), 1, BeatImages(picture(1), picture(2), strength=0.75))
    latent = held(case, vae, timeline, latent, 2, BeatImages(middle=picture(3), middle_at=1 / 3))
    sample(case, model, timeline, latent)
    whole = torch.tensor([0.25, 1, 0.25, 1, 0, 1, 1])
    assert torch.equal(latent["noise_mask"][0, 0, :, 0, 0], whole)
    for segment in timeline.segments:
        assert torch.equal(seen[segment.index], whole[segment.start : segment.stop])


def test_images_stand_in_the_beats_own_time(vae: Any) -> None:
    case, timeline = CASES["ltxv"], film(5, 6)
    images = BeatImages(picture(1, pictures=9), picture(2), picture(3), middle_at=0.6)
    latent = held(case, vae, timeline, empty(case, timeline), 2, images)
    expected = torch.zeros(case.shape(timeline))
    for start, image in ((5, images.start), (8, images.middle), (10, images.end)):
        encoded = vae.encode(image)
        expected[:, :, start : start + encoded.shape[2]] = encoded
    assert torch.equal(latent["samples"], expected)
    assert latent["noise_mask"][0, 0, :, 0, 0].tolist() == [1.0] * 5 + [0.0, 0.0, 1.0, 0.0, 1.0, 0.0]


def test_what_is_held_already_stays_held(vae: Any) -> None:
    """By this node or by LongVideoContinue, in either order."""
    case, timeline = CASES["ltxv"], film(3, 3)
    existing = torch.randn(1, 128, 2, 3, 3, generator=torch.Generator().manual_seed(7))
    image = BeatImages(picture(1), strength=0.5)
    first = held(case, vae, timeline, empty(case, timeline), 2, image)
    samples, mask = hold_frames(timeline, first["samples"], first["noise_mask"], existing, 0)
    empty_samples, held_mask = hold_frames(timeline, empty(case, timeline)["samples"], None, existing, 0)
    other = held(case, vae, timeline, {"samples": empty_samples, "noise_mask": held_mask}, 2, image)
    assert torch.equal(samples, other["samples"]) and torch.equal(mask, other["noise_mask"])
    assert mask[0, 0, :, 1, 1].tolist() == [0.0, 0.0, 1.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(
    ("frames", "beat", "images", "message"),
    [
        (3, 3, BeatImages(picture(1)), "beat is 3; the timeline has prompts 1 to 2"),
        (3, 1, BeatImages(), "start_image: connect"),
        (3, 1, BeatImages(picture(1, pictures=10)), "start_image: it has 10 images; 1, 9, 17 and so on"),
        (3, 1, BeatImages(end=picture(1, pictures=33)), "end_image: it has 5 latent frames, but prompt 1 has 3"),
        (
            2,
            1,
            BeatImages(picture(1), picture(2), picture(3)),
            "middle_image: prompt 1 has 2 latent frames, of which start_image has the same",
        ),
        (3, 1, BeatImages(picture(1), vision=object()), "clip_vision_start_image: a ltxv model takes no output"),
    ],
)
def test_what_does_not_fit_is_reported(vae: Any, frames: int, beat: int, images: BeatImages, message: str) -> None:
    case, timeline = CASES["ltxv"], film(frames, 3)
    with pytest.raises(ValueError, match=message):
        held(case, vae, timeline, empty(case, timeline), beat, images)


def test_the_node_gives_the_latent_to_the_next(vae: Any) -> None:
    case, timeline = CASES["ltxv"], film(3, 3)
    latent = empty(case, timeline)
    texts = case.positive(timeline), case.negative(timeline)

    def with_image(given: dict[str, Any], beat: int) -> tuple[Any, ...]:
        links = {"model": model_of("ltxv"), "vae": vae, "timeline": timeline, "latent": given, "beat": beat}
        both = {"positive": texts[0], "negative": texts[1]}
        return run_node("LongVideoBeatImages", **links, **both, start_image=picture(beat), strength=0.7)

    for beat in (1, 2):
        *texts, latent = with_image(latent, beat)
    assert latent["noise_mask"][0, 0, [0, 3], 0, 0].tolist() == pytest.approx([0.3, 0.3])
    assert [entry[1][BEAT_TAG] for entry in texts[0]] == [0, 1]
    with pytest.raises(ValueError, match="Long Video Beat Images: latent: it has audio already"):
        with_image({"samples": NestedTensor([latent["samples"], torch.zeros(1, 8, 9, 16)])}, 1)
