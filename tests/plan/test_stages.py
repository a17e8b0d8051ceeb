"""Stages of a run in which sources are sampled before the segments that use them."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from kvshare_core.config import KVShareConfig
from kvshare_core.plan.schedule import plain_evaluations, sharing_evaluations
from kvshare_core.plan.share_plan import SharePlan
from kvshare_core.plan.stages import Stages, stages_of
from kvshare_core.script.film import ScriptBeat
from tests.support.share_plans import beats_of, share_plans, timeline_of

FIRST = KVShareConfig(order="sources_first")


@pytest.mark.parametrize(
    ("sources", "stages"),
    [
        ("first", [{0}, {0, 1, 2, 3}]),
        ("previous", [{0}, {1}, {2}, {0, 1, 2, 3}]),
        ("first and previous", [{0}, {1}, {2}, {0, 1, 2, 3}]),
    ],
)
def test_every_source_has_a_stage_behind_its_own_sources(sources: Any, stages: list[set[int]]) -> None:
    timeline = timeline_of(*beats_of(4))
    assert list(stages_of(SharePlan(timeline, replace(FIRST, sources=sources)))) == stages
    assert stages_of(SharePlan(timeline, KVShareConfig(sources=sources))) == ({0, 1, 2, 3},)


def test_sources_of_a_beat_stand_beside_each_other_where_they_can() -> None:
    own = ScriptBeat("own", sources=())
    plan = SharePlan(timeline_of(*beats_of(4, beat1=own, beat3=ScriptBeat("both", sources=(0, 1)))), FIRST)
    assert list(stages_of(plan)) == [{0, 1}, {0, 1, 2, 3}]


@pytest.mark.parametrize("mode", ["off", "extend"])
def test_a_chain_has_a_stage_for_every_segment(mode: Any) -> None:
    plan = SharePlan(timeline_of(*beats_of(3)), KVShareConfig(order="chain", mode=mode))
    assert list(stages_of(plan)) == [{0}, {1}, {2}]
    stages = Stages(plan)
    assert stages.has_early_stages
    # Nobody attends to the last segment, nor to the second, whose keys need not be kept.
    assert [stages.consumers(index) for index in range(3)] == [None if plan.consumers(0) else 0, 0, 0]


@pytest.mark.parametrize("changes", [{"mode": "off"}, {"strength": 0.0}])
def test_a_film_that_shares_nothing_has_one_stage(changes: dict[str, Any]) -> None:
    assert len(stages_of(SharePlan(timeline_of(*beats_of(3)), replace(FIRST, **changes)))) == 1


@pytest.mark.parametrize("sources", ["first", "previous"])
def test_with_one_stage_keys_are_kept_for_the_forwards_of_the_plan(sources: Any) -> None:
    plan = SharePlan(timeline_of(*beats_of(4)), KVShareConfig(sources=sources))
    stages = Stages(plan)
    assert not stages.has_early_stages
    assert [stages.consumers(index) for index in range(4)] == [plan.consumers(index) for index in range(4)]
    assert [stages.consumers(index) for index in range(4)] == ([3, 0, 0, 0] if sources == "first" else [1, 1, 1, 0])


@pytest.mark.parametrize("leaves_keys", [True, False])
@pytest.mark.parametrize("shares", [True, False])
def test_an_early_stage_evaluates_sources_that_leave_keys_and_the_last_one_everything(
    shares: bool, leaves_keys: bool
) -> None:
    stages = Stages(SharePlan(timeline_of(*beats_of(3)), FIRST))
    early = stages.evaluations(shares, leaves_keys)
    assert [evaluation.segment.index for evaluation in early] == [0]
    assert early[0].role == ("both" if shares else "source" if leaves_keys else "plain")
    stages.next()
    last = stages.evaluations(shares, leaves_keys)
    assert [evaluation.segment.index for evaluation in last] == [0, 1, 2]
    assert {evaluation.role for evaluation in last} == {"both" if shares else "plain"}


@pytest.mark.parametrize("shares", [True, False])
def test_evaluations_are_those_of_the_order(shares: bool) -> None:
    plan = SharePlan(timeline_of(*beats_of(3)), KVShareConfig(order="ditctrl"))
    evaluations_of = sharing_evaluations if shares else plain_evaluations
    assert Stages(plan).evaluations(shares, True) == evaluations_of(plan.timeline, "ditctrl")


@given(share_plans())
@settings(max_examples=60)
def test_sources_are_sampled_in_earlier_stages_and_nothing_is_kept_without_consumers(plan: SharePlan) -> None:
    plan = replace(plan, config=replace(plan.config, order="sources_first"))
    stages, done = Stages(plan), set[int]()
    everything = {segment.index for segment in plan.timeline.segments}
    for number, segments in enumerate(stages.all):
        if number > 0:
            stages.next()
        assert segments == stages.segments and segments
        assert stages.first == (number == 0)
        if stages.has_early_stages:
            assert all(set(plan.sources(index)) <= done for index in segments)
        if stages.early:
            assert all(plan.consumers(index) and index not in done for index in segments)
            assert {index for index in everything if stages.consumers(index) is None} == segments
            done |= segments
    assert segments == everything
    assert not stages.early
    if stages.has_early_stages:
        # Not None, which would keep what the last stage makes for any number of consumers.
        assert [stages.consumers(index) for index in everything] == [0] * len(everything)
