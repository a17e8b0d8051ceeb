"""Steps, blocks, strengths and the order of evaluations; steps are derived from sigmas alone, for every scheduler of
the host and for samplers that call the model in between."""

from collections import Counter
from typing import Any

import comfy.samplers
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.config import LAYER_PRESETS, KVShareConfig
from kvshare_core.families.block_presets import GENERAL
from kvshare_core.plan.schedule import (
    plain_evaluations,
    shared_blocks,
    shares_in,
    shares_step,
    sharing_evaluations,
    step_of,
    strength_at,
)
from tests.support.fake_family import timeline_of
from tests.tiny.models import tiny_wan

FALLING = st.lists(st.integers(1, 10_000), min_size=1, max_size=12, unique=True).map(
    lambda numbers: [*sorted((number / 1000 for number in numbers), reverse=True), 0.0]
)


@given(FALLING, st.data())
def test_a_sigma_belongs_to_the_step_it_lies_in(sigmas: list[float], data: st.DataObject) -> None:
    step = data.draw(st.integers(0, len(sigmas) - 2))
    between = data.draw(st.floats(0.01, 1.0))
    assert step_of(sigmas[step], sigmas) == step
    assert step_of(sigmas[step + 1] + between * (sigmas[step] - sigmas[step + 1]), sigmas) == step


@given(FALLING, st.floats(1.0, 100.0))
def test_a_sigma_above_the_first_belongs_to_the_first_step(sigmas: list[float], factor: float) -> None:
    assert step_of(sigmas[0] * factor, sigmas) == 0


@pytest.fixture(scope="module")
def model_sampling() -> object:
    return tiny_wan(layers=1).get_model_object("model_sampling")


@pytest.mark.parametrize("scheduler", comfy.samplers.SCHEDULER_NAMES)
@pytest.mark.parametrize("steps", [1, 4, 20])
def test_every_scheduler_of_the_host_gives_its_steps(model_sampling: object, scheduler: str, steps: int) -> None:
    sigmas = comfy.samplers.calculate_sigmas(model_sampling, scheduler, steps)
    strictly_falling = bool((sigmas.diff() < 0).all())
    steps_found = [step_of(float(sigma), sigmas.tolist()) for sigma in sigmas[:-1]]
    if strictly_falling:
        assert steps_found == list(range(len(sigmas) - 1))
    else:
        # A repeated sigma is one step for the model: the numbers still never fall.
        assert steps_found == sorted(steps_found)


def test_sigmas_keep_their_step_in_half_precision() -> None:
    sigmas = torch.linspace(1, 0, 21)
    assert [step_of(float(sigma), sigmas.tolist()) for sigma in sigmas[:-1].float()] == list(range(20))


@pytest.mark.parametrize("size", [0.01, 1.0, 15.0, 1000.0])
def test_rounding_does_not_change_the_step_and_more_than_rounding_does(size: float) -> None:
    for change in (-1, 1):
        rounded = 1 + change * 5e-7 * max(1.0, 1 / size)
        assert step_of(size * rounded, [2 * size, size, 0.0]) == 1
    slightly_less = size - 1.5e-6 * max(1.0, size)
    assert step_of(size, [2 * size, size, slightly_less, 0.0]) == 1


@given(
    st.integers(0, 9),
    st.integers(-1, 12).filter(lambda end: end != 0),
    st.sets(st.integers(0, 12)),
    st.integers(0, 12),
)
def test_ranges_and_explicit_numbers_choose_steps_and_blocks(
    start: int, end: int, chosen: set[int], index: int
) -> None:
    if end != -1 and end <= start:
        return
    numbers = tuple(sorted(chosen))
    expected = index in chosen if chosen else index in range(start, 13 if end == -1 else end)
    assert shares_step(KVShareConfig(start_step=start, end_step=end, step_idx=numbers), index) == expected
    config = KVShareConfig(start_layer=start, end_layer=end, layer_idx=numbers)
    assert (index in shared_blocks(config, 13)) == expected


def test_no_step_shares_when_sharing_is_off() -> None:
    assert not any(shares_step(KVShareConfig(mode="off"), step) for step in range(20))


@pytest.mark.parametrize(
    ("window", "shares"),
    [
        ((1.0, 0.0), True),
        ((0.5, 0.5), True),  # The bounds belong to the window.
        ((0.74, 0.51), False),  # Between two steps.
        ((0.25, 0.0), False),  # Steps that `end_step` leaves out, and the final sigma, at which no step begins.
        ((1.0, 0.75), False),  # Steps before `start_step`.
    ],
)
def test_a_run_shares_where_a_shared_step_begins_in_the_window(window: tuple[float, float], shares: bool) -> None:
    config = KVShareConfig(start_step=2, end_step=3)
    assert shares_in(config, (1.0, 0.75, 0.5, 0.25, 0.0), window) == shares


def test_no_step_begins_at_the_final_sigma() -> None:
    assert not shares_in(KVShareConfig(), (1.0, 0.5, 0.0), (0.25, 0.0))
    assert shares_in(KVShareConfig(), (1.0, 0.5, 0.0), (0.5, 0.0))


@pytest.mark.parametrize("preset", [preset for preset in LAYER_PRESETS if preset in GENERAL])
@pytest.mark.parametrize("blocks", range(1, 81))
def test_every_preset_names_some_blocks_of_a_model_of_any_depth(preset: Any, blocks: int) -> None:
    chosen = shared_blocks(KVShareConfig(layer_preset=preset, layer_idx=(0,)), blocks)
    assert chosen
    assert list(chosen) == sorted(set(chosen) & set(range(blocks)))


def test_presets_are_those_of_the_paper_and_of_the_middle() -> None:
    assert shared_blocks(KVShareConfig(layer_preset="late"), 30) == tuple(range(25, 30))
    assert shared_blocks(KVShareConfig(layer_preset="middle"), 40) == tuple(range(14, 30, 2))


@given(st.integers(1, 60), st.integers(0, 59), st.integers(-1, 60), st.floats(0, 3), st.floats(0, 3))
def test_strength_runs_evenly_from_the_first_shared_step_to_the_last(
    steps: int, start: int, end: int, first: float, last: float
) -> None:
    if end != -1 and end <= start:
        return
    config = KVShareConfig(strength=first, end_strength=last, start_step=start, end_step=end)
    shared = [step for step in range(steps) if end == -1 or step < end][start:]
    for place, step in enumerate(shared):
        progress = place / (len(shared) - 1) if len(shared) > 1 else 0
        assert strength_at(config, step, steps) == pytest.approx(first + (last - first) * progress)


@given(st.sets(st.integers(0, 40), min_size=1), st.integers(1, 30))
def test_strength_runs_over_explicit_steps_as_far_as_the_run_goes(chosen: set[int], steps: int) -> None:
    config = KVShareConfig(strength=2.0, end_strength=0.5, step_idx=tuple(sorted(chosen)))
    shared = [step for step in sorted(chosen) if step < steps]
    for step in shared:
        span = shared[-1] - shared[0]
        assert strength_at(config, step, steps) == pytest.approx(2 - 1.5 * ((step - shared[0]) / span if span else 0))


def test_strength_beside_the_shared_steps_is_that_of_the_nearest_one() -> None:
    config = KVShareConfig(strength=0.2, end_strength=0.8, start_step=2, end_step=5)
    strengths = [strength_at(config, step, 8) for step in range(8)]
    assert strengths == pytest.approx([0.2, 0.2, 0.2, 0.5, 0.8, 0.8, 0.8, 0.8])


@given(st.integers(0, 40))
def test_without_an_end_strength_stays(step: int) -> None:
    assert strength_at(KVShareConfig(strength=0.7, start_step=3, end_step=9), step, 20) == 0.7


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("segments", range(1, 7))
def test_lockstep_evaluates_every_segment_once(segments: int, shared: bool) -> None:
    found = (sharing_evaluations if shared else plain_evaluations)(timeline_of(segments, 3), "lockstep")
    assert [evaluation.segment.index for evaluation in found] == list(range(segments))
    assert {evaluation.role for evaluation in found} == {"both" if shared else "plain"}
    assert {evaluation.weight for evaluation in found} == {1.0}


@pytest.mark.parametrize("segments", range(2, 8))
def test_the_papers_order_covers_every_pair_of_neighbours(segments: int) -> None:
    found = sharing_evaluations(timeline_of(segments, 3), "ditctrl")
    assert len(found) == 2 * (segments - 1)
    when = {(evaluation.segment.index, evaluation.role): place for place, evaluation in enumerate(found)}
    for first in range(segments - 1):
        assert when[first, "source"] < when[first + 1, "target"]
        # Only one pair's keys are needed at a time: nothing else is read between a source and its target.
        between = [found[place].role for place in range(when[first, "source"] + 1, when[first + 1, "target"])]
        assert "target" not in between


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("segments", range(2, 8))
def test_inner_segments_count_twice_in_the_papers_order(segments: int, shared: bool) -> None:
    found = (sharing_evaluations if shared else plain_evaluations)(timeline_of(segments, 3), "ditctrl")
    assert shared or [one.role for one in found] == ["plain"] * segments
    total = Counter[int]()
    for evaluation in found:
        total[evaluation.segment.index] += int(evaluation.weight)
    assert [total[index] for index in range(segments)] == [1, *[2] * (segments - 2), 1]


def test_a_single_segment_is_evaluated_once_in_any_order() -> None:
    for order in ("lockstep", "ditctrl"):
        assert [found.role for found in sharing_evaluations(timeline_of(1, 3), order)] == ["both"]
        assert [(found.role, found.weight) for found in plain_evaluations(timeline_of(1, 3), order)] == [("plain", 1.0)]
