"""A film in two sizes, as the host's templates for LTX make it: half size, a latent upscaler, a few steps at full size.

The second sampler has the timeline of the first and starts with the masks that it recorded.
"""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, get_args

import comfy.model_patcher
import comfy.ops
import comfy.sample
import pytest
import torch
from comfy.nested_tensor import NestedTensor
from comfy.patcher_extension import WrappersMP
from comfy.samplers import sampler_object

from kvshare_core.config import KVShareConfig, MaskKind, MaskSettings
from kvshare_core.host import KEY
from kvshare_core.host.sampling.patch import apply
from kvshare_core.plan.making import make_plan
from kvshare_core.record.record import KVShareRecord
from kvshare_core.timeline.timeline import Timeline
from tests.support.family_cases import FamilyCase, model_of
from tests.support.present import present
from tests.support.windows import tiny_timeline
from tests.tiny.cross_attention import LTXV_CHANNELS, lively_state_dict
from tests.tiny.ltx2 import AUDIO_BANDS, AUDIO_CHANNELS

upsampler = pytest.importorskip("comfy.ldm.lightricks.latent_upsampler", reason="this ComfyUI has no LTX upscaler")
nodes = pytest.importorskip("comfy_extras.nodes_lt_upsampler", reason="this ComfyUI has no LTX upscaler")

KINDS = get_args(MaskKind)
HALF, FULL = (1.0, 0.95, 0.9, 0.5, 0.0), (0.909375, 0.725, 0.421875, 0.0)
CPU = torch.device("cpu")


class Upscaler:
    """What the host's node wants of a loaded latent upscaler and of the VAE."""

    def __init__(self) -> None:
        config = {"in_channels": LTXV_CHANNELS, "mid_channels": 32, "num_blocks_per_stage": 1, "dims": 3}
        model = upsampler.LatentUpsampler.from_config(config, operations=comfy.ops.disable_weight_init)
        model.load_state_dict(lively_state_dict(model), strict=False)
        self.model = comfy.model_patcher.CoreModelPatcher(model, load_device=CPU, offload_device=CPU)
        statistics = SimpleNamespace(un_normalize=lambda latent: latent, normalize=lambda latent: latent)
        self.vae = SimpleNamespace(first_stage_model=SimpleNamespace(per_channel_statistics=statistics))

    def __call__(self, latent: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            found = nodes.LTXVLatentUpsampler.execute({"samples": latent}, self.model, self.vae)
        return found.result[0]["samples"]


@pytest.fixture(scope="module")
def upscale() -> Upscaler:
    return Upscaler()


@pytest.fixture(params=["ltxv", "ltx-2.3"])
def case(request: pytest.FixtureRequest) -> FamilyCase:
    return present(request.param)


def settings(kind: str) -> KVShareConfig:
    return KVShareConfig(share_background=True, masks=MaskSettings(kind=kind))  # pyright: ignore[reportArgumentType]


def sample(
    case: FamilyCase, model: Any, timeline: Timeline, video: torch.Tensor, sigmas: tuple[float, ...]
) -> torch.Tensor:
    """The video that the sampler makes of a latent; LTX-2 with its audio."""
    generator = torch.Generator().manual_seed(5)
    noise, latent = torch.randn(video.shape, generator=generator), video
    if case.family == "ltx2":
        audio = torch.zeros(1, AUDIO_CHANNELS, timeline.frames, AUDIO_BANDS)
        noise = NestedTensor([noise, torch.randn(audio.shape, generator=generator)])
        latent = NestedTensor([video, audio])
    with torch.inference_mode():
        found = comfy.sample.sample_custom(
            model,
            noise,
            1.0,
            sampler_object("euler"),
            torch.tensor(sigmas),
            case.positive(timeline),
            case.negative(timeline),
            latent,
            disable_pbar=True,
        )
    return found.unbind()[0] if found.is_nested else found


def patched(
    case: FamilyCase, timeline: Timeline, config: KVShareConfig, earlier: KVShareRecord | None = None
) -> tuple[Any, KVShareRecord]:
    subject = "fox" if timeline.beats[0].words is not None else ""
    return apply(model_of(case.name), make_plan(timeline, config, subject, None), earlier)


def grown(values: torch.Tensor | None, side: int) -> torch.Tensor | None:
    """Values [..., tokens] of frames of side x side tokens at twice the size."""
    if values is None:
        return None
    frames = values.unflatten(-1, (-1, side, side))
    return frames.repeat_interleave(2, -1).repeat_interleave(2, -2).flatten(-3)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_the_half_size_hold_in_the_full_size(case: FamilyCase, upscale: Upscaler, kind: str) -> None:
    timeline, config = tiny_timeline(2), settings(kind)
    first, record = patched(case, timeline, config)
    half = sample(case, first, timeline, torch.zeros(case.shape(timeline)), HALF)
    full = upscale(half)
    assert full.shape[-2:] == (2 * half.shape[-2], 2 * half.shape[-1])
    begun: list[tuple[torch.Tensor, ...]] = []

    def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
        history = args[5][KEY].run.tracker._history
        if not begun:
            begun.append(tuple(history.masks[index].cpu().clone() for index in (0, 1)))
        return executor(*args, **kwargs)

    second, finished = patched(case, timeline, config, record)
    second.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    found = sample(case, second, timeline, full, FULL)
    assert torch.isfinite(found).all()
    recorded = record.latest()
    assert recorded is not None and recorded.segments is not None
    expected = [grown(mask, half.shape[-1]) for mask in recorded.segments.masks]
    assert all(torch.equal(*both) for both in zip(begun[0], expected, strict=True))
    last = finished.latest()
    assert last is not None and last.mask.shape == (1, timeline.latent_frames, *full.shape[-2:])
    # The same as with masks that somebody had drawn in the full size.
    segments = recorded.segments
    drawn = replace(
        segments,
        masks=tuple(expected),
        examples=tuple(
            known and replace(known, subject=grown(known.subject, 3), rest=grown(known.rest, 3))
            for known in segments.examples
        ),
        effects=tuple(grown(effects, 3) for effects in segments.effects),
    )
    large = KVShareRecord()
    large.put(replace(recorded, mask=torch.zeros(last.mask.shape), segments=drawn), None)
    assert torch.equal(found, sample(case, patched(case, timeline, config, large)[0], timeline, full, FULL))


def test_the_full_size_may_be_made_without_a_record(case: FamilyCase, upscale: Upscaler) -> None:
    """By the same MODEL, which has the timeline and finds its masks again."""
    timeline = tiny_timeline(2)
    model, record = patched(case, timeline, settings("appearance"))
    full = upscale(sample(case, model, timeline, torch.zeros(case.shape(timeline)), HALF))
    found = sample(case, model, timeline, full, FULL)
    assert torch.isfinite(found).all()
    last = record.latest()
    assert last is not None and last.mask.shape[-2:] == full.shape[-2:]
    assert torch.equal(found, sample(case, model, timeline, full, FULL))


def test_the_masks_of_the_half_size_count_from_the_first_step_of_the_full_size_on(
    case: FamilyCase, upscale: Upscaler
) -> None:
    timeline, config = tiny_timeline(2), settings("contrast")
    first, record = patched(case, timeline, config)
    full = upscale(sample(case, first, timeline, torch.zeros(case.shape(timeline)), HALF))
    outputs = [
        sample(case, patched(case, timeline, config, earlier)[0], timeline, full, (*FULL[:2], 0.0))
        for earlier in (record, None)
    ]
    assert not torch.equal(*outputs)
