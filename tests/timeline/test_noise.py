"""Initial noise of the frames of a long video, alone and on the real host."""

from dataclasses import replace
from typing import Any

import comfy.sample
import pytest
import torch
from comfy.nested_tensor import NestedTensor
from comfy.patcher_extension import WrappersMP
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kvshare_core.config import KVShareConfig
from kvshare_core.timeline.noise import SEEDS, same_order, shared_order, timeline_noise, wants_noise
from kvshare_core.timeline.timeline import Timeline
from tests.support.family_cases import CASES, model_of
from tests.support.present import present
from tests.support.timelines import timelines
from tests.support.windows import latent_shape, share, tiny_timeline
from tests.tiny.models import Sampling

OFF = KVShareConfig(mode="off")
SEED = 7


def with_offsets(timeline: Timeline, *offsets: int) -> Timeline:
    beats = tuple(
        replace(beat, script=replace(beat.script, seed_offset=offset))
        for beat, offset in zip(timeline.beats, offsets, strict=True)
    )
    return replace(timeline, beats=beats)


# The algebra.


@settings(max_examples=40)
@given(timelines(), st.integers(0, SEEDS - 1))
def test_every_window_has_the_noise_of_the_first_one(timeline: Timeline, seed: int) -> None:
    assume(not timeline.script.loop)
    order = shared_order(timeline.latent_frames, timeline.window, [s.stop for s in timeline.segments], seed)
    for segment in timeline.segments:
        assert sorted(order[segment.start : segment.stop].tolist()) == list(range(timeline.window))
    assert order[: timeline.window].tolist() == list(range(timeline.window))


@settings(max_examples=40)
@given(timelines(), st.integers(0, 5))
def test_a_loop_has_nothing_but_the_first_windows_noise(timeline: Timeline, seed: int) -> None:
    order = shared_order(timeline.latent_frames, timeline.window, [s.stop for s in timeline.segments], seed)
    assert set(order.tolist()) == set(range(timeline.window))


@settings(max_examples=40)
@given(timelines())
def test_every_beat_begins_with_the_noise_of_the_first(timeline: Timeline) -> None:
    order = same_order(timeline).tolist()
    first, *others = timeline.beats
    assert order[: first.stop] == list(range(first.stop))
    for beat in others:
        here = order[beat.start : beat.stop]
        assert here == [place if place < first.stop else beat.start + place for place in range(len(here))]
    noise = torch.randn(1, 2, timeline.latent_frames, 1, 1)
    arranged = timeline_noise(replace(timeline, noise="same"), noise, 1, None)
    assert torch.equal(arranged, noise[:, :, order])


def test_what_is_shuffled_is_what_a_window_left_behind() -> None:
    """As in the paper, where the windows are a stride apart."""
    order = shared_order(28, 16, [16, 20, 24, 28], seed=3).tolist()
    assert [sorted(order[start : start + 4]) for start in (16, 20, 24)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert order[16:28] != list(range(12))
    assert order == shared_order(28, 16, [16, 20, 24, 28], seed=3).tolist()
    assert order != shared_order(28, 16, [16, 20, 24, 28], seed=4).tolist()


def drawn(timeline: Timeline, seed: int, batch: int = 2) -> torch.Tensor:
    shape = latent_shape(timeline, batch, side=2)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["plain", "freenoise"])
def test_a_beats_seed_changes_its_own_time_only(kind: Any) -> None:
    timeline = replace(tiny_timeline(3), noise=kind)
    noise = drawn(timeline, SEED)
    plain = timeline_noise(timeline, noise, SEED, None)
    found = timeline_noise(with_offsets(timeline, 0, 5, 0), noise, SEED, lambda seed: drawn(timeline, seed))
    beat = timeline.beats[1]
    own, others = slice(beat.start, beat.stop), [*range(beat.start), *range(beat.stop, timeline.latent_frames)]
    assert torch.equal(found[:, :, others], plain[:, :, others])
    higher = timeline_noise(timeline, drawn(timeline, SEED + 5), SEED + 5, None)
    assert torch.equal(found[:, :, own], higher[:, :, own])
    assert not torch.equal(found[:, :, own], plain[:, :, own])
    assert torch.equal(noise, drawn(timeline, SEED))


def test_seeds_wrap_around_below_zero() -> None:
    timeline, seeds = with_offsets(tiny_timeline(2), 0, -9), list[int]()

    def draw(seed: int) -> torch.Tensor:
        seeds.append(seed)
        return drawn(timeline, 1)

    timeline_noise(timeline, drawn(timeline, SEED), SEED, draw)
    assert seeds == [SEEDS - 2]


def test_only_seeds_and_freenoise_ask_for_noise_of_the_timeline() -> None:
    timeline = tiny_timeline(2)
    assert not wants_noise(timeline)
    assert wants_noise(with_offsets(timeline, 0, 1)) and wants_noise(replace(timeline, noise="freenoise"))


# On the real host.


def noise_of_run(model: Any, timeline: Timeline, noise: Any, latent: Any, seed: int = SEED) -> torch.Tensor:
    """The noise that a run begins with when the sampler brings `noise`."""
    seen: list[torch.Tensor] = []

    def look(executor: Any, given: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append(given)
        return executor(given, *args, **kwargs)

    case = CASES["ltx-2" if noise.is_nested else "wan t2v"]
    patched = share(model, timeline, OFF)[0]
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "look", look)
    positive, negative = case.positive(timeline), case.negative(timeline)
    Sampling(steps=1, cfg=1.0, seed=seed).run(patched, positive, negative, tuple(latent.shape), noise, latent)
    return seen[0]


@pytest.mark.parametrize("places", [None, [0, 1], [3, 1], [2, 2]])
@pytest.mark.parametrize("kind", ["plain", "freenoise"])
def test_runs_begin_with_the_noise_that_the_sampler_would_draw(kind: Any, places: list[int] | None) -> None:
    """Latents taken out of a batch have the noise that they had there."""
    timeline = replace(with_offsets(tiny_timeline(2), 0, 3), noise=kind)
    latent = torch.zeros(latent_shape(timeline, 2))
    noise, other = (comfy.sample.prepare_noise(latent, seed, places) for seed in (SEED, SEED + 3))
    found = noise_of_run(model_of("wan t2v"), timeline, noise, latent)
    expected = timeline_noise(timeline, noise, SEED, lambda seed: {SEED + 3: other}[seed])
    assert torch.equal(found, expected) and not torch.equal(found, noise)


def test_without_seeds_or_freenoise_the_noise_is_the_samplers() -> None:
    timeline = tiny_timeline(2)
    latent = torch.zeros(latent_shape(timeline))
    noise = comfy.sample.prepare_noise(latent, SEED)
    assert noise_of_run(model_of("wan t2v"), timeline, noise, latent).data_ptr() == noise.data_ptr()


def test_no_noise_stays_none() -> None:
    timeline = replace(with_offsets(tiny_timeline(2), 1, 3), noise="freenoise")
    latent = torch.zeros(latent_shape(timeline))
    assert not noise_of_run(model_of("wan t2v"), timeline, torch.zeros_like(latent), latent).any()


def test_noise_of_another_making_is_arranged_but_not_drawn_anew(caplog: pytest.LogCaptureFixture) -> None:
    timeline = replace(with_offsets(tiny_timeline(2), 0, 3), noise="freenoise")
    latent = torch.zeros(latent_shape(timeline))
    noise = comfy.sample.prepare_noise(latent, SEED) * 0.5
    found = noise_of_run(model_of("wan t2v"), timeline, noise, latent)
    assert torch.equal(found, timeline_noise(timeline, noise, SEED, None))
    assert [line.getMessage() for line in caplog.records if line.name == "kvshare"] == [
        "Mask-Guided KV Share: the sampler's noise is not that of its seed, so the seeds of single prompts are ignored."
    ]


def test_drawing_noise_anew_leaves_the_global_generator_alone() -> None:
    timeline = with_offsets(tiny_timeline(2), 0, 3)
    latent = torch.zeros(latent_shape(timeline))
    noise = comfy.sample.prepare_noise(latent, SEED)
    results: list[torch.Tensor] = []
    for plan in (tiny_timeline(2), timeline):
        torch.manual_seed(1)
        noise_of_run(model_of("wan t2v"), plan, noise, latent)
        results.append(torch.rand(3))
    assert torch.equal(*results)


def test_of_video_with_audio_the_video_has_the_timelines_noise() -> None:
    case, model = present("ltx-2"), model_of("ltx-2")
    timeline = replace(with_offsets(tiny_timeline(2), 0, 3), noise="freenoise")
    shapes = case.shape(timeline), (1, 8, 4 * (timeline.latent_frames - 1) + 1, 16)
    latent = NestedTensor([torch.zeros(shape) for shape in shapes])
    noise, other = (comfy.sample.prepare_noise(latent, seed).unbind() for seed in (SEED, SEED + 3))
    found = noise_of_run(model, timeline, NestedTensor(list(noise)), latent)
    video, audio = found.flatten().split([noise[0].numel(), noise[1].numel()])
    expected = timeline_noise(timeline, noise[0], SEED, lambda seed: {SEED + 3: other[0]}[seed])
    assert torch.equal(video.reshape(shapes[0]), expected)
    assert torch.equal(audio.reshape(shapes[1]), noise[1])
