"""What a run is said to take, against the strengths that its segments get in every step."""

import math
from dataclasses import replace
from typing import Any

import pytest

from kvshare_core.config import KVShareConfig
from kvshare_core.families.base import FamilyInfo
from kvshare_core.plan.forecast import Sampling, forecast, shared_steps
from kvshare_core.plan.model_fit import fit_plan
from kvshare_core.plan.share_plan import SharePlan
from kvshare_core.script.film import ScriptBeat
from tests.support.share_plans import beats_of, timeline_of

INFO = FamilyInfo("fake", 4, 2, 8, False, (1, 2, 2), (4, 8, 8), 16, 3)
SAMPLING = Sampling(width=64, height=64, steps=10)
VIDEO = 3 * 4 * 4


def plan_of(config: KVShareConfig, *strengths: float | None) -> SharePlan:
    """Beats of one segment each, the second and later ones with these strengths of their own; all is shared."""
    changes = {f"beat{number + 1}": ScriptBeat("x", strength=own) for number, own in enumerate(strengths)}
    return SharePlan(timeline_of(*beats_of(1 + len(strengths), **changes)), config)


def extra_of(plan: SharePlan, steps: int | None = 10) -> float:
    return forecast(fit_plan(plan, INFO), 2, replace(SAMPLING, steps=steps)).extra


def expected_extra(plan: SharePlan, steps: int) -> float:
    """Every step and segment by itself: a target attends to its source besides its own video, or in its place."""
    width = INFO.heads * INFO.head_dim
    block = 4 * VIDEO**2 * width + 24 * VIDEO * width**2
    segments, pairs = plan.timeline.segments, 0
    for step in range(steps):
        for segment in segments:
            strength, sources = plan.strength(segment.index, step, steps), plan.sources(segment.index)
            if strength > 0 and sources:
                replaced = plan.config.mode == "replace" and strength >= 1
                pairs += VIDEO**2 * (len(sources) - replaced)
    return pairs * 4 * width / (len(segments) * steps * block)


COURSES: list[tuple[dict[str, Any], tuple[float | None, ...]]] = [
    ({"mode": "replace", "strength": 1.0}, (None, None)),
    ({"mode": "replace", "strength": 1.0}, (0.4, None)),
    ({"mode": "replace", "strength": 0.5}, (1.0, None, 0.0)),
    ({"mode": "replace", "strength": 2.0, "end_strength": 0.0}, (None, 0.5)),
    ({"mode": "replace", "strength": 0.0, "end_strength": 1.5}, (None, 3.0)),
    ({"mode": "extend", "strength": 1.0, "end_strength": 0.0}, (None, 0.2)),
    ({"mode": "extend", "strength": 0.0}, (0.7, None)),
]


@pytest.mark.parametrize(("values", "strengths"), COURSES)
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_extra_computation_follows_the_strength_of_every_segment_and_step(
    values: dict[str, Any], strengths: tuple[float | None, ...], steps: int
) -> None:
    plan = plan_of(KVShareConfig(position="same", sources="first and previous", **values), *strengths)
    assert extra_of(plan, steps) == pytest.approx(expected_extra(plan, steps))


def test_a_beat_of_full_strength_needs_no_keys_of_its_own() -> None:
    config = KVShareConfig(mode="replace", strength=0.5, position="same")
    assert extra_of(plan_of(config, 1.0)) == 0 < extra_of(plan_of(config, None))
    assert extra_of(plan_of(config, 1.0), steps=None) == 0 < extra_of(plan_of(config, None), steps=None)
    assert 0 < extra_of(plan_of(replace(config, strength=1.0), 0.5))


def test_steps_without_strength_do_not_share_and_those_of_a_single_beat_do() -> None:
    fading = KVShareConfig(strength=1.0, end_strength=0.0, position="same")
    assert shared_steps(plan_of(fading, None), 4) == (0, 1, 2)
    assert shared_steps(plan_of(KVShareConfig(strength=0.0), 0.7, None), 3) == (0, 1, 2)
    assert shared_steps(plan_of(KVShareConfig(strength=0.0), None), 3) == ()
    assert shared_steps(plan_of(KVShareConfig(strength=0.5), 0.0), 3) == ()
    assert shared_steps(plan_of(replace(fading, mode="off"), None), 4) == ()


@pytest.mark.parametrize(("strength", "weight"), [(0.0, 1.0), (0.25, 0.75), (1.0, 0.0), (7.0, 0.0)])
def test_rules_leave_own_keys_what_source_keys_do_not_take(strength: float, weight: float) -> None:
    for mode, own in (("replace", weight), ("swap", weight), ("extend", 1.0)):
        rules = KVShareConfig(mode=mode, strength=9.0, position="frame").rules(strength)  # type: ignore[arg-type]
        assert math.isclose(rules.own_weight, own) and rules.strength == strength and rules.frame_locked
