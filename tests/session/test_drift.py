"""Drift control keeps the colours of later segments near the first one's, alone and on the real host."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_custom_sampler import BasicScheduler, DualCFGGuider, KSamplerSelect, SamplerCustomAdvanced
from comfy_extras.nodes_slg import SkipLayerGuidanceDiT
from hypothesis import given, settings
from hypothesis import strategies as st

from kvshare_core.config import KVShareConfig
from kvshare_core.host import KEY
from kvshare_core.host.conditioning.encoding import empty_latent, encode_timeline
from kvshare_core.host.loading.loading import load_video_model
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.script.parsing import parse_script
from kvshare_core.session.drift import match_to_anchor
from kvshare_core.timeline.fades import fade_of, weights_over_time, window_weights
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.support.family_cases import CASES, FamilyCase, model_of
from tests.support.family_contracts import sample
from tests.support.present import present
from tests.support.timelines import timelines
from tests.support.windows import share, tiny_timeline
from tests.tiny.models import Sampling

OFF = KVShareConfig(mode="off")
MATCHED = replace(OFF, drift_control=1.0)


def statistics(latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of every channel, [batch, channels] each."""
    return latent.mean((2, 3, 4)), latent.std((2, 3, 4), correction=0)


def parts_of(timeline: Timeline) -> torch.Tensor:
    return weights_over_time(timeline, [window_weights(fade_of(segment)) for segment in timeline.segments])


def coloured(frames: int, seed: int = 0, batch: int = 2) -> torch.Tensor:
    """A latent [batch, 3, frames, 4, 5] in float64 whose frames all have statistics of their own."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, 3, frames, 1, 1)
    noise = torch.randn(batch, 3, frames, 4, 5, generator=generator, dtype=torch.float64)
    return noise * (0.5 + torch.rand(shape, generator=generator)) + 3 * torch.randn(shape, generator=generator)


# The algebra.


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 99), st.floats(0.0, 1.0))
def test_two_segments_side_by_side_come_as_near_as_was_asked(
    first: int, second: int, seed: int, strength: float
) -> None:
    latent = coloured(first + second, seed)
    parts = torch.zeros(2, first + second, dtype=torch.float64)
    parts[0, :first] = parts[1, first:] = 1
    found = match_to_anchor(latent, parts, strength)
    assert torch.equal(found[:, :, :first], latent[:, :, :first])
    anchor, own = statistics(latent[:, :, :first]), statistics(latent[:, :, first:])
    for before, target, after in zip(own, anchor, statistics(found[:, :, first:]), strict=True):
        torch.testing.assert_close(after, torch.lerp(before, target, strength))


@settings(max_examples=30)
@given(timelines(), st.integers(0, 99), st.floats(0.0, 1.0))
def test_each_segment_is_matched_to_the_first_and_then_blended(timeline: Timeline, seed: int, strength: float) -> None:
    latent, parts = coloured(timeline.latent_frames, seed), parts_of(timeline)
    expected = torch.zeros_like(latent)
    shown = [latent[:, :, (own > 0).nonzero()[:, 0]] for own in parts]
    mean, deviation = (values[..., None, None, None] for values in statistics(shown[0]))
    for own, frames in zip(parts, shown, strict=True):
        own_mean, own_deviation = (values[..., None, None, None] for values in statistics(frames))
        matched = (latent - own_mean) / own_deviation * deviation + mean
        expected += torch.lerp(latent, matched, strength) * own[:, None, None]
    torch.testing.assert_close(match_to_anchor(latent, parts, strength), expected)


def test_a_channel_without_contrast_is_moved_but_not_blown_up() -> None:
    latent = coloured(4)
    latent[:, 1, 2:] = 5.0
    parts = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]], dtype=torch.float64)
    found = match_to_anchor(latent, parts, 1.0)
    anchor = latent[:, 1, :2].mean((1, 2, 3))
    torch.testing.assert_close(found[:, 1, 2:], anchor[:, None, None, None].expand(-1, 2, 4, 5))


def test_latents_of_a_batch_have_statistics_of_their_own() -> None:
    timeline = tiny_timeline(3)
    latent, parts = coloured(timeline.latent_frames), parts_of(timeline)
    both = match_to_anchor(latent, parts, 0.7)
    alone = torch.cat([match_to_anchor(row[None], parts, 0.7) for row in latent])
    torch.testing.assert_close(both, alone, rtol=0, atol=1e-12)


# On the real host.


@pytest.fixture(params=["wan t2v", "hunyuan video"])
def case(request: pytest.FixtureRequest) -> FamilyCase:
    return CASES[request.param]


def distance(samples: torch.Tensor, split: int) -> float:
    """How far the statistics of the frames from `split` on are from those before it."""
    pairs = zip(statistics(samples[:, :, :split]), statistics(samples[:, :, split:]), strict=True)
    return float(sum((one - other).abs().mean() for one, other in pairs))


def test_without_drift_control_nothing_is_installed(case: FamilyCase) -> None:
    timeline = tiny_timeline(2)
    model = model_of(case.name)
    controlled = share(model, timeline, MATCHED)[0]
    plain = share(controlled, timeline, OFF)[0]
    single = share(model, tiny_timeline(1), MATCHED)[0]
    counts = [len(patched.get_wrappers(WrappersMP.PREDICT_NOISE, KEY)) for patched in (controlled, plain, single)]
    assert counts == [1, 0, 0]
    assert torch.equal(sample(case, plain, timeline), sample(case, share(model, timeline, OFF)[0], timeline))
    assert not torch.equal(sample(case, controlled, timeline), sample(case, plain, timeline))


@pytest.mark.parametrize("guidance", ["cfg", "skipped layers", "changed afterwards", "dual", "nested"])
def test_a_prediction_is_matched_once_after_all_guidance(case: FamilyCase, guidance: str) -> None:
    """After one step, what was sampled is what was predicted."""
    timeline = tiny_timeline(2, overlap=0)
    model = model_of(case.name)
    if guidance == "skipped layers":
        model = SkipLayerGuidanceDiT.execute(model, 3.0, 0.0, 1.0, double_layers="1").result[0]
    patched = share(model, timeline, MATCHED)[0]

    def change(args: dict[str, Any]) -> torch.Tensor:
        denoised = args["denoised"].clone()
        denoised[:, :, 3:] = denoised[:, :, 3:] * 2 + 1
        return denoised

    if guidance == "changed afterwards":
        patched.set_model_sampler_post_cfg_function(change)
    positive, negative, shape = case.positive(timeline), case.negative(timeline), case.shape(timeline)
    if guidance in ("dual", "nested"):
        # These guide once more after the host's hooks for changed predictions.
        found = sample_dual(patched, positive, negative, shape, "nested" if guidance == "nested" else "regular")
    else:
        found = Sampling(steps=1).run(patched, positive, negative, shape)
    for one, other in zip(statistics(found[:, :, :3]), statistics(found[:, :, 3:]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def sample_dual(
    model: Any, positive: list[Any], negative: list[Any], shape: tuple[int, ...], style: str
) -> torch.Tensor:
    guider = DualCFGGuider.execute(model, positive, positive[::-1], negative, 2.0, 3.0, style).result[0]
    sigmas = BasicScheduler.execute(model, "simple", 1, 1.0).result[0]
    sampler = KSamplerSelect.execute("euler").result[0]
    with torch.inference_mode():
        node = SamplerCustomAdvanced.execute(
            FixedNoise(shape), guider, sampler, sigmas, {"samples": torch.zeros(shape)}
        )
    return node.result[0]["samples"]


class FixedNoise:
    """A NOISE that is the same for every seed."""

    seed = 5

    def __init__(self, shape: tuple[int, ...]):
        self.noise = torch.randn(shape, generator=torch.Generator().manual_seed(5))

    def generate_noise(self, latent: dict[str, Any]) -> torch.Tensor:
        return self.noise


@pytest.mark.parametrize("order", ["lockstep", "ditctrl"])
def test_colours_of_later_segments_come_closer_over_a_run(case: FamilyCase, order: Any) -> None:
    timeline = tiny_timeline(3)
    distances: list[float] = []
    for strength in (0.0, 0.5, 1.0):
        config = KVShareConfig(order=order, sources="previous", drift_control=strength)
        found = sample(case, share(model_of(case.name), timeline, config)[0], timeline, steps=4)
        assert torch.isfinite(found).all()
        distances.append(distance(found, timeline.window))
    assert distances[2] < distances[1] < distances[0]
    assert distances[2] < 0.5 * distances[0]


def test_pictures_of_the_embedded_model_come_closer_too() -> None:
    """From a dark scene into a bright one."""
    with torch.inference_mode():
        model, clip, vae = load_video_model("embedded", "embedded", "embedded", "default")[:3]
        _, info = model_info(model)
        script = parse_script("a red circle moves right over night\na red circle moves left over sand")
        timeline = plan_timeline(script, info.native_frames, 1, 8, info.compression[0])
        timeline, positive, negative = encode_timeline(clip, timeline, "")
        shape = tuple(empty_latent(info, timeline, 48, 48, 1).shape)
        distances: list[float] = []
        for strength in (0.0, 1.0):
            patched = share(model, timeline, replace(OFF, drift_control=strength), subject="")[0]
            pictures = vae.decode(Sampling(steps=4).run(patched, positive, negative, shape))[0]
            anchor = timeline.picture_range(0, timeline.segments[0].shown_stop - timeline.segments[0].fall)[1]
            distances.append(distance(pictures.movedim(-1, 0)[None].float(), anchor))
    assert distances[1] < 0.5 * distances[0]


def test_the_sound_of_a_video_is_left_alone() -> None:
    case, timeline = present("ltx-2"), tiny_timeline(2)
    model = model_of(case.name)
    plain, found = (sample(case, share(model, timeline, config)[0], timeline, steps=1) for config in (OFF, MATCHED))
    channels, height, width = case.latent
    video = channels * height * width
    assert torch.equal(found[:, video:], plain[:, video:])
    assert not torch.equal(found[:, :video], plain[:, :video])
