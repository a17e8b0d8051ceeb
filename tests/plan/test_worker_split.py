"""How the segments of a film are divided among workers, against a search through all divisions."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvshare_core.config import KVShareConfig
from kvshare_core.plan.schedule import sharing_evaluations
from kvshare_core.plan.share_plan import SharePlan
from kvshare_core.plan.stages import stages_of
from kvshare_core.plan.worker_split import evaluations_for, split_segments
from kvshare_core.script.film import ScriptBeat
from tests.support.share_plans import beats_of, share_plans, timeline_of

FIRST = KVShareConfig(sources="first")


def film(count: int, config: KVShareConfig = FIRST, **beats: ScriptBeat) -> SharePlan:
    return SharePlan(timeline_of(*beats_of(count, **beats)), config)


def depends_on(plan: SharePlan, index: int) -> set[int]:
    """A segment with all that it attends to, from source to source."""
    found = {index}
    for source in plan.sources(index):
        found |= depends_on(plan, source)
    return found


def counts_of(plan: SharePlan, own: set[int]) -> list[int]:
    """Evaluations in a model call of each stage, of a worker with these segments."""
    needed = set[int]().union(*(depends_on(plan, index) for index in own))
    *early, _ = stages_of(plan)
    return [*(len(needed & stage) for stage in early), len(own if early else needed)]


def divisions(count: int, workers: int) -> Iterator[list[set[int]]]:
    """All ways to give neighbouring segments to at most so many workers."""
    for parts in range(1, min(count, workers) + 1):
        for cuts in combinations(range(1, count), parts - 1):
            borders = [0, *cuts, count]
            yield [set(range(start, stop)) for start, stop in pairwise(borders)]


@settings(max_examples=60)
@given(share_plans(), st.integers(1, 5), st.sampled_from(["lockstep", "sources_first"]))
def test_no_other_division_leaves_the_busiest_worker_less(plan: SharePlan, workers: int, order: str) -> None:
    plan = replace(plan, config=replace(plan.config, order=order))
    split = split_segments(plan, workers)
    count = len(plan.timeline.segments)
    assert [index for span in split.spans for index in span.own] == list(range(count))
    assert len(split.spans) <= workers
    for span in split.spans:
        assert list(span.stages) == counts_of(plan, {*span.own})
        needed = set[int]().union(*(depends_on(plan, index) for index in span.own))
        assert {*span.again} == needed - {*span.own}
    least = min(max(sum(counts_of(plan, own)) for own in division) for division in divisions(count, workers))
    assert max(span.evaluations for span in split.spans) == least
    assert list(split.alone) == counts_of(plan, {*range(count)})
    assert 0 < split.speedup <= len(split.spans)


@pytest.mark.parametrize(
    ("segments", "workers", "evaluations", "speedup"),
    [(16, 2, [9, 8], 16 / 9), (16, 4, [5, 5, 5, 4], 16 / 5), (4, 8, [2, 2, 2], 4 / 2), (1, 3, [1], 1.0)],
)
def test_a_span_of_k_segments_costs_k_and_its_source(
    segments: int, workers: int, evaluations: list[int], speedup: float
) -> None:
    split = split_segments(film(segments), workers)
    assert [span.evaluations for span in split.spans] == evaluations
    assert split.spans[0].again == ()
    assert all(span.again == (0,) for span in split.spans[1:])
    assert split.speedup == pytest.approx(speedup)


def test_what_attends_to_the_one_before_gains_nothing() -> None:
    split = split_segments(film(8, KVShareConfig(sources="previous")), 4)
    assert split.speedup == 1.0


def test_a_film_that_shares_nothing_is_divided_evenly() -> None:
    split = split_segments(film(8, replace(FIRST, mode="off")), 4)
    assert [span.stages for span in split.spans] == [(2,)] * 4
    assert split.speedup == 4.0


def test_sources_sampled_first_are_evaluated_again_in_their_own_stage_alone() -> None:
    split = split_segments(film(8, replace(FIRST, order="sources_first")), 2)
    assert [span.stages for span in split.spans] == [(1, 4), (1, 4)]
    assert split.alone == (1, 8)
    assert split.speedup == pytest.approx(9 / 5)


def test_the_papers_pairs_cost_one_source_at_every_border() -> None:
    split = split_segments(film(8, KVShareConfig(order="ditctrl", sources="previous")), 2)
    # The first span has its own source; the second evaluates the last of the first once more, unshared.
    assert [span.evaluations for span in split.spans] == [7, 8]
    assert split.spans[1].again == (3,)
    assert split.alone == (14,)


def test_only_what_is_wanted_is_divided() -> None:
    split = split_segments(film(8), 2, {5, 6, 7})
    assert [span.own for span in split.spans] == [(5, 6), (7,)]
    assert [span.again for span in split.spans] == [(0,), (0,)]
    assert split.alone == (4,)


@settings(max_examples=60)
@given(share_plans(), st.data())
def test_a_worker_evaluates_sources_before_those_that_attend_to_them(plan: SharePlan, data: st.DataObject) -> None:
    indices = range(len(plan.timeline.segments))
    own = data.draw(st.sets(st.sampled_from(list(indices)), min_size=1))
    planned = sharing_evaluations(plan.timeline, plan.config.order)
    made = [evaluation.segment.index for evaluation in evaluations_for(plan, planned, own, False, True)]
    assert made == sorted(set[int]().union(*(depends_on(plan, index) for index in own)))
    without = evaluations_for(plan, planned, own, False, False)
    assert [evaluation.segment.index for evaluation in without] == sorted(own)


def test_the_wire_carries_every_latent_there_and_own_predictions_back() -> None:
    split = split_segments(film(16), 2)
    # 17 evaluations get a latent of 10 bytes; 16 segments give two predictions each.
    assert split.wire_bytes(10, 2) == 10 * (17 + 2 * 16)


def test_there_must_be_a_worker_and_something_to_do() -> None:
    with pytest.raises(ValueError, match="workers"):
        split_segments(film(2), 0)
    with pytest.raises(ValueError, match="no segment"):
        split_segments(film(2), 1, ())
