"""Positions of prompt and video tokens in every layout of HunyuanVideo's class."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from comfy.patcher_extension import WrappersMP

from kvshare_core.config import KVShareConfig, MaskSettings
from kvshare_core.families import UnsupportedModelError, find_family
from kvshare_core.families.base import AttentionCall, CallSite, UnexpectedCallError
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.host.sampling.patch import apply
from kvshare_core.plan.making import make_plan
from kvshare_core.timeline.timeline import Timeline
from tests.support.family_cases import CASES, model_of
from tests.support.family_contracts import sample
from tests.support.windows import share, tiny_timeline
from tests.tiny import hunyuan as tiny_hunyuan
from tests.tiny.models import Sampling

NAMES = [name for name, case in CASES.items() if case.family == "hunyuan"]
TEXT = 6
VIDEO = 27
REFINER, BLOCKS = 2, 4


@dataclass
class Seen:
    """Attention calls of the prompt's row in one forward of a stock run, and the shapes of what else the model got."""

    calls: list[tuple[torch.Tensor, ...]] = field(default_factory=list)
    inputs: dict[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)

    def sites(self, name: str) -> list[CallSite]:
        family, _ = model_info(model_of(name))
        diffusion_model = model_of(name).get_model_object("diffusion_model")
        return [
            family.classify(diffusion_model, number, AttentionCall(*tensors, inputs=self.inputs), VIDEO, TEXT)
            for number, tensors in enumerate(self.calls)
        ]


def stock_forward(name: str, noise: torch.Tensor, word: int | None = None) -> Seen:
    """The one forward of a stock run of one step without guidance. word: the refined prompt token that is changed."""
    case, timeline, seen = CASES[name], tiny_timeline(1), Seen()

    def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
        seen.inputs = {name: (tuple(value.shape),) for name, value in kwargs.items() if torch.is_tensor(value)}
        return executor(*args, **kwargs)

    def attend(function: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        seen.calls.append((query.clone(), key.clone(), value.clone()))
        return function(query, key, value, *args, **kwargs)

    def change(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        changed = output.clone()
        if word is not None:
            changed[:, word] += torch.linspace(-1, 2, output.shape[-1])
        return changed

    model = model_of(name).clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    model.model_options["transformer_options"]["optimized_attention_override"] = attend
    hook = model.get_model_object("diffusion_model").txt_in.register_forward_hook(change)
    try:
        arguments = (case.positive(timeline, TEXT), case.negative(timeline, TEXT), case.shape(timeline), noise)
        Sampling(steps=1, cfg=1.0).run(model, *arguments)
    finally:
        hook.remove()
    return seen


def noise_of(timeline: Timeline, name: str) -> torch.Tensor:
    return torch.randn(CASES[name].shape(timeline), generator=torch.Generator().manual_seed(5))


def changed_places(one: torch.Tensor, other: torch.Tensor) -> list[int]:
    return (one - other).abs().amax((0, 1, 3)).nonzero().flatten().tolist()


@pytest.mark.parametrize("name", NAMES)
def test_a_word_stands_where_the_family_says(name: str) -> None:
    """Changed behind the refiner, a word shows in the values of the first block at its own place and nowhere else."""
    noise = noise_of(tiny_timeline(1), name)
    before = stock_forward(name, noise)
    site = before.sites(name)[REFINER]
    for word in range(TEXT):
        after = stock_forward(name, noise, word)
        assert changed_places(before.calls[REFINER][2], after.calls[REFINER][2]) == [site.text_start + word]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", [(0, 0, 0), (1, 2, 0), (2, 2, 2)])
def test_a_token_of_the_video_stands_where_the_family_says(name: str, place: tuple[int, int, int]) -> None:
    noise = noise_of(tiny_timeline(1), name)
    before = stock_forward(name, noise)
    site, patch = before.sites(name)[REFINER], model_info(model_of(name))[1].patch
    changed = noise.clone()
    frame, row, column = (index * size for index, size in zip(place, patch, strict=True))
    changed[:, :, frame, row, column] += 1
    after = stock_forward(name, changed)
    token = (place[0] * 3 + place[1]) * 3 + place[2]
    assert changed_places(before.calls[REFINER][2], after.calls[REFINER][2]) == [site.video_start + token]


@pytest.mark.parametrize("name", NAMES)
def test_every_call_is_checked_by_its_own_shape(name: str) -> None:
    seen = stock_forward(name, noise_of(tiny_timeline(1), name))
    sites = seen.sites(name)
    assert [site.kind for site in sites] == ["other"] * REFINER + ["joint"] * BLOCKS
    assert [site.block for site in sites[REFINER:]] == list(range(BLOCKS))
    for number in range(len(seen.calls)):
        exact = list(seen.calls)
        query, key, value = exact[number]
        for misfit in (
            (query[:, :, 1:], key, value),
            (query[:, :, 1:], key[:, :, 1:], value[:, :, 1:]),
            tuple(torch.cat([tensor, tensor[:, :, :1]], 2) for tensor in (query, key, value)),
        ):
            seen.calls[number] = misfit
            with pytest.raises(UnexpectedCallError):
                seen.sites(name)
        seen.calls[number] = exact[number]
    seen.calls.append(seen.calls[-1])
    with pytest.raises(UnexpectedCallError, match="no block"):
        seen.sites(name)


@pytest.mark.parametrize(
    ("name", "patch", "compression", "frames"),
    [
        ("hunyuan video", (1, 2, 2), (4, 8, 8), 33),
        ("hunyuan video i2v", (1, 2, 2), (4, 8, 8), 33),
        ("skyreels i2v", (1, 2, 2), (4, 8, 8), 25),
        ("hunyuan video 1.5", (1, 1, 1), (4, 16, 16), 31),
    ],
)
def test_the_numbers_of_a_model_are_read_off_it(
    name: str, patch: tuple[int, int, int], compression: tuple[int, int, int], frames: int
) -> None:
    _, info = model_info(model_of(name))
    assert (info.family, info.blocks, info.head_dim, info.joint) == ("hunyuan", BLOCKS, 128, True)
    assert (info.patch, info.compression, info.native_frames) == (patch, compression, frames)


def test_super_resolution_has_the_hosts_own_class() -> None:
    assert type(model_of("hunyuan video 1.5 super resolution").model).__name__ == "HunyuanVideo15_SR_Distilled"


def test_models_of_pictures_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="the model is a HunyuanVideo"):
        find_family(tiny_hunyuan.tiny_hunyuan_layout(image=True), 64)
    refiner = tiny_hunyuan.tiny_hunyuan_layout(65, newer=True).get_model_object("diffusion_model")
    refiner.vision_in = None
    with pytest.raises(UnsupportedModelError, match="the model is a HunyuanVideo"):
        find_family(refiner, 64)


@pytest.mark.parametrize("name", NAMES)
def test_a_word_is_followed_to_its_own_key(name: str) -> None:
    """The heat is what the keys of the word's tokens give, found in the sequence by changing them."""
    noise, timeline = noise_of(tiny_timeline(1), name), tiny_timeline(1)
    before = stock_forward(name, noise)
    places = [
        changed_places(before.calls[REFINER][2], stock_forward(name, noise, word).calls[REFINER][2])[0]
        for word in range(3)
    ]
    video = before.sites(name)[REFINER].video_start
    total = torch.zeros(VIDEO, dtype=torch.float64)
    for query, key, _ in before.calls[REFINER:]:
        keys = key[0, :, places].double()
        looks = (query[0, :, video : video + VIDEO].double() @ keys.mT * 128**-0.5).softmax(-1).mean(0)
        score = looks[:, :2].mean(-1) - looks[:, 2]
        total += (score - score.mean()) / score.std(correction=0)
    plan = make_plan(timeline, KVShareConfig(masks=MaskSettings(start="maps")), "fox", None)
    patched, record = apply(model_of(name), plan)
    case = CASES[name]
    arguments = (case.positive(timeline, TEXT), case.negative(timeline, TEXT), case.shape(timeline), noise)
    Sampling(steps=1, cfg=1.0).run(patched, *arguments)
    masks = record.latest()
    assert masks is not None
    found = masks.heat[0].flatten().double()
    inside = (found > 0) & (found < 1)
    assert inside.sum() > 20
    assert torch.corrcoef(torch.stack([found[inside], total[inside]]))[0, 1] > 0.9999


# What a segment is told of the start.


def inputs_of_segments(name: str, timeline: Timeline) -> dict[int, list[dict[str, Any]]]:
    """What the model gets in the forwards of every segment, beside latent and text."""
    got: dict[int, list[dict[str, Any]]] = {}

    def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
        got.setdefault(args[5]["context_window"].segment.index, []).append({"c_concat": args[2], **kwargs})
        return executor(*args, **kwargs)

    patched, _ = share(model_of(name), timeline, subject="")
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    sample(CASES[name], patched, timeline, steps=1, cfg=1.0)
    return got


def test_only_the_first_segment_begins_with_the_given_picture() -> None:
    got = inputs_of_segments("hunyuan video i2v replacing", tiny_timeline(3))
    assert [["guiding_frame_index" in inputs for inputs in got[index]] for index in range(3)] == [
        [True],
        [False],
        [False],
    ]


@pytest.mark.parametrize("name", ["hunyuan video i2v", "skyreels i2v", "hunyuan video 1.5 i2v"])
def test_a_picture_to_concatenate_lies_in_its_own_frame(name: str) -> None:
    got = inputs_of_segments(name, tiny_timeline(2, overlap=0))
    first, second = (got[index][0]["c_concat"][:, : CASES[name].latent[0]] for index in range(2))
    assert first.shape[2] == second.shape[2] == 3
    blank = second[:, :, :1].expand_as(second)
    assert torch.equal(second, blank)
    assert torch.equal(first[:, :, 1:], blank[:, :, 1:]) and not torch.equal(first[:, :, :1], blank[:, :, :1])


@pytest.mark.parametrize("frames", [1, 3])
def test_every_segment_attends_to_the_whole_reference(monkeypatch: pytest.MonkeyPatch, frames: int) -> None:
    """Also one of as many frames as the video has: it is no frame-by-frame conditioning."""
    reference = torch.randn(1, 16, frames, 6, 6, generator=torch.Generator().manual_seed(5))
    case = CASES["hunyuan video i2v reference"]
    monkeypatch.setitem(
        CASES, case.name, type(case)(**{**vars(case), "per_video": lambda timeline: {"ref_latent": reference}})
    )
    for timeline in (tiny_timeline(1), tiny_timeline(3, window=1, overlap=0)):
        got = inputs_of_segments(case.name, timeline)
        assert len(got) == len(timeline.segments)
        shapes = [inputs["ref_latent"].shape for segment in got.values() for inputs in segment]
        assert all(shape == reference.shape for shape in shapes)


def test_a_reference_keeps_the_video_shared(caplog: pytest.LogCaptureFixture) -> None:
    """Its tokens are on one side of the conditioning only: forwards of two lengths share each with its like."""
    case, timeline = CASES["hunyuan video i2v reference"], tiny_timeline(2, overlap=0)
    outputs = [
        sample(case, share(model_of(case.name), timeline, config)[0], timeline)
        for config in (KVShareConfig(share_uncond=True), KVShareConfig(share_uncond=False))
    ]
    assert not [line for line in caplog.records if line.name == "kvshare"]
    assert (outputs[0] - outputs[1])[:, :, 3:].abs().max() > 1e-3
