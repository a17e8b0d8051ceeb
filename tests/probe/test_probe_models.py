"""The probe on the real host: in every family it measures what the stock sampler gives with a dense reference in one
block, and it leaves nothing behind."""

import gc
import math
import weakref
from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.sample
import pytest
import torch
from comfy.nested_tensor import NestedTensor

from kvshare_core.bank.bank import KeyValueBank
from kvshare_core.config import KVShareConfig
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.host.sampling.probe_run import probe_model
from kvshare_core.probe.figures import BlockFigures, ProbeSettings
from kvshare_core.probe.measured_preset import MeasuredPreset
from kvshare_core.timeline.pictures import as_pictures
from kvshare_core.timeline.timeline import Timeline
from tests.oracles.dense_reference import dense_attention
from tests.support.family_cases import CASES, FamilyCase, model_of
from tests.support.windows import share, tiny_timeline
from tests.tiny import minimax_h3 as tiny_h3
from tests.tiny.ltx2 import AUDIO_BANDS, AUDIO_CHANNELS

SEED = 3


def probed(case: FamilyCase, model: Any = None, **settings: Any) -> MeasuredPreset:
    """A probe of the case's model, or of another one of it."""
    timeline = case.timeline(1)
    with torch.inference_mode():
        return probe_model(
            model or model_of(case.name),
            timeline,
            case.positive(timeline),
            case.negative(timeline),
            latent_of(case, timeline),
            "fox",
            ProbeSettings(SEED, **{"steps": 2, "cfg": 3.0, **settings}),
        )


def latent_of(case: FamilyCase, timeline: Timeline) -> dict[str, Any]:
    video = torch.zeros(case.shape(timeline))
    if case.family == "unet":
        return {"samples": as_pictures(video)}
    if case.family == "minimax_h3":
        return {"samples": NestedTensor([video, torch.zeros(1, tiny_h3.AUDIO_CHANNELS, tiny_h3.EARS, 37)])}
    if case.family != "ltx2" or case.name == "ltx-2 without audio":
        return {"samples": video}
    pictures = timeline.frames
    return {"samples": NestedTensor([video, torch.zeros(1, AUDIO_CHANNELS, pictures, AUDIO_BANDS)])}


def numbers_of(figures: BlockFigures) -> list[float]:
    single = [figures.alone, figures.within, figures.beside, figures.pull]
    return [*figures.agreement, *figures.contrast, *single, *([] if figures.moved is None else [figures.moved])]


def predictions(case: FamilyCase, override: Callable[..., Any] | None = None) -> list[torch.Tensor]:
    """What the stock sampler predicts in its two steps for the probe's second clip; an override is in place in the
    second step alone, so that both runs come to it with the same latent."""
    timeline = tiny_timeline(1)
    model = model_of(case.name).clone()
    seen: list[torch.Tensor] = []
    if override is not None:

        def from_the_second_step(function: Any, *args: Any, **kwargs: Any) -> Any:
            return override(function, *args, **kwargs) if seen else function(*args, **kwargs)

        model.model_options["transformer_options"]["optimized_attention_override"] = from_the_second_step
    shape = case.shape(timeline)
    with torch.inference_mode():
        comfy.sample.sample(
            model,
            comfy.sample.prepare_noise(torch.zeros(shape), SEED + 1),
            2,
            1.0,
            "euler",
            "simple",
            case.positive(timeline),
            case.negative(timeline),
            torch.zeros(shape),
            disable_pbar=True,
            callback=lambda step, denoised, x, total: seen.append(denoised.clone()),
            seed=SEED,
        )
    return seen


class EveryTokenAlone:
    """An attention override that writes out the identity among the video's tokens of one block, in float64."""

    def __init__(self, block: int, video: int, video_start: int):
        self.block = block
        self.video = torch.arange(video_start, video_start + video)
        self.calls = 0

    def __call__(self, function: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        query, key, value = args[:3]
        heads = args[3] if len(args) > 3 else kwargs["heads"]
        split = bool(kwargs.get("skip_reshape"))
        tokens = query.shape[2 if split else 1]
        if tokens < len(self.video) or key.shape[2 if split else 1] != tokens:
            return function(*args, **kwargs)
        self.calls += 1
        if self.calls - 1 != self.block:
            return function(*args, **kwargs)
        bias = torch.zeros(tokens, tokens, dtype=torch.float64)
        bias[self.video[:, None], self.video] = torch.full([len(self.video)] * 2, -math.inf).double().fill_diagonal_(0)
        output = dense_attention(query, key, value, heads, 2 if split else 1, bias).to(query.dtype)
        return output.unflatten(-1, (heads, -1)).transpose(1, 2) if kwargs.get("skip_output_reshape") else output


@pytest.mark.parametrize("name", ["wan t2v", "hunyuan video"])
def test_a_block_alone_is_the_stock_sampler_with_a_dense_identity_in_it(name: str) -> None:
    case = CASES[name]
    # At guidance 1 the sampler's prediction is the one that is probed.
    found = probed(case, cfg=1.0, noise_levels=2)
    once = probed(case, cfg=1.0, noise_levels=1)
    plain = predictions(case)
    text_before = name == "hunyuan video" and not _text_last()
    for block, (both, first) in enumerate(zip(found.figures, once.figures, strict=True)):
        alone = predictions(case, EveryTokenAlone(block, 27, 6 if text_before else 0))
        assert torch.equal(alone[0], plain[0])
        moved = (alone[1] - plain[1]).square().mean().sqrt() / plain[1].square().mean().sqrt()
        assert moved > 1e-4
        assert 2 * both.alone - first.alone == pytest.approx(float(moved), rel=2e-3)


def _text_last() -> bool:
    """Whether this host's HunyuanVideo has the text behind the video."""
    blocks = model_of("hunyuan video").get_model_object("diffusion_model").double_blocks
    return bool(getattr(blocks[0], "flipped_img_txt", False))


def test_every_layout_can_be_probed(case: FamilyCase) -> None:
    family, info = model_info(model_of(case.name))
    if not info.text_in_every_block:
        with pytest.raises(ValueError, match="only some of its blocks attend to the text"):
            probed(case)
        return
    found = probed(case)
    scheme = family.rope_scheme(model_of(case.name).get_model_object("diffusion_model"), {})
    assert [figures.block for figures in found.figures] == list(range(info.blocks))
    assert found.model.blocks == info.blocks
    for figures in found.figures:
        assert all(map(math.isfinite, numbers_of(figures)))
        assert (figures.moved is None) == (scheme is None)
    assert max(figures.alone for figures in found.figures) > 0
    assert max(figures.within for figures in found.figures) > 0
    share(model_of(case.name), case.timeline(2), found.put_on(KVShareConfig()))


def test_a_probe_is_the_same_again_and_leaves_the_model_as_it_was() -> None:
    case = CASES["wan t2v"]
    before = predictions(case)
    found = probed(case)
    assert probed(case) == found
    assert all(map(torch.equal, predictions(case), before))
    assert not model_of(case.name).wrappers


class StoppedError(Exception):
    """Raised in the middle of a probe."""


@pytest.mark.parametrize("stop", ["none", "error", "interrupt"])
def test_nothing_stays_of_a_probe_however_it_ends(monkeypatch: pytest.MonkeyPatch, stop: str) -> None:
    banks: list[weakref.ref[KeyValueBank]] = []
    put = KeyValueBank.put

    def spy(self: KeyValueBank, *args: Any) -> None:
        banks.append(weakref.ref(self))
        put(self, *args)
        if stop == "error":
            raise StoppedError
        if stop == "interrupt":
            comfy.model_management.interrupt_current_processing()

    monkeypatch.setattr(KeyValueBank, "put", spy)
    raised: list[type[BaseException]] = []
    try:
        probed(CASES["wan t2v"])
    except (StoppedError, comfy.model_management.InterruptProcessingException) as error:
        raised.append(type(error))
    finally:
        comfy.model_management.interrupt_current_processing(False)
    expected = {"error": StoppedError, "interrupt": comfy.model_management.InterruptProcessingException}
    assert raised == ([expected[stop]] if stop in expected else [])
    gc.collect()
    assert banks and {bank() for bank in banks} == {None}


def test_other_overrides_stay_in_use() -> None:
    case, calls = CASES["hunyuan video"], []

    def override(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return function(*args, **kwargs)

    other = model_of(case.name).clone()
    other.model_options["transformer_options"]["optimized_attention_override"] = override
    assert probed(case, other) == probed(case)
    assert calls


def test_the_progress_ends_at_its_announced_total(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(
        "comfy.utils.PROGRESS_BAR_HOOK", lambda value, total, preview, **options: told.append((value, total))
    )
    settings = ProbeSettings(steps=4, noise_levels=2)
    probed(CASES["wan t2v"], steps=4, noise_levels=2)
    calls = settings.model_calls(3, True)
    assert told[-1] == (calls, calls) and told == sorted(told)
    assert {total for _, total in told} == {calls}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"timeline": tiny_timeline(2)},
            "timeline: it has 2 segments, but one is probed. Connect a Long Video Segmenter",
        ),
        ({"positive": []}, "positive: it has 0 conditionings, 0 of Long Video Segmenter, but one is probed"),
        ({"positive": "negative"}, "positive: it has 1 conditionings, 0 of Long Video Segmenter"),
        ({"latent": {"samples": torch.zeros(2, 16, 3, 6, 6)}}, "latent: it has 2 videos, but one is probed. Set batch"),
        ({"subject": ""}, "subject: the probe needs exactly one, but there is none. Name what"),
        ({"subject": "wolf"}, "subject: 'wolf' is not in the prompt 'fox runs'"),
        ({"model": "patched"}, "model: it has context windows. Connect the model that goes into Mask-Guided KV Share"),
        ({"model": "skipping"}, "model: its block . was left out of a forward. Take nodes off"),
    ],
)
def test_what_cannot_be_probed_is_explained(changes: dict[str, Any], complaint: str) -> None:
    case, timeline = CASES["wan t2v"], tiny_timeline(1)
    inputs: dict[str, Any] = {
        "model": model_of(case.name),
        "timeline": timeline,
        "positive": case.positive(timeline),
        "negative": case.negative(timeline),
        "latent": latent_of(case, timeline),
        "subject": "fox",
        **changes,
    }
    if inputs["positive"] == "negative":
        inputs["positive"] = case.negative(timeline)
    if inputs["model"] == "patched":
        inputs["model"] = share(model_of(case.name), tiny_timeline(2))[0]
    if inputs["model"] == "skipping":
        inputs["model"] = without_last_block(model_of(case.name))
    with pytest.raises(ValueError, match=complaint), torch.inference_mode():
        probe_model(**inputs, settings=ProbeSettings(steps=2))


def without_last_block(model: Any) -> Any:
    """A clone whose last block is skipped, as skip-layer guidance does it."""
    clone = model.clone()
    last = len(clone.get_model_object("diffusion_model").blocks) - 1
    clone.model_options["transformer_options"]["patches_replace"] = {
        "dit": {("double_block", last): lambda args, extra: {"img": args["img"]}}
    }
    return clone
