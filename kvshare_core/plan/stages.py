"""Stages of a sampling run: segments may be sampled before others that attend to them or go on from them.

Denoised together, a segment attends to sources that are as unfinished as it is itself. Sampled before it, they have
settled on a colour and a size (docs/laboratory.md). `sources_first` evaluates them twice for that; `chain` evaluates
every segment once, and each goes on from finished frames.
"""

from collections.abc import Set
from dataclasses import replace

from .schedule import Evaluation, plain_evaluations, sharing_evaluations
from .share_plan import SharePlan


def stages_of(plan: SharePlan) -> tuple[frozenset[int], ...]:
    """Segments that are sampled in each stage of a run.

    In `chain`, one in each. In `sources_first`, in all but the last stage those whose keys later ones attend to, each
    after its own sources, and in the last all, so that neighbours are blended as ever.
    """
    everything = frozenset(range(len(plan.timeline.segments)))
    if plan.config.order == "chain":
        return tuple(frozenset((index,)) for index in sorted(everything))
    if plan.config.order != "sources_first" or not plan.shares:
        return (everything,)
    stages: list[int] = []
    for index in sorted(everything):
        stages.append(max((stages[source] + 1 for source in plan.sources(index)), default=0))
    early: list[set[int]] = [set() for _ in range(max(stages))]
    for index, stage in enumerate(stages):
        if stage < len(early) and plan.consumers(index):
            early[stage].add(index)
    return (*map(frozenset, early), everything)


class Stages:
    """Goes through the stages of one run. What segments leave in the bank at the last noise level of an early stage is
    what later stages attend to; the last stage leaves nothing. In `sources_first`, a source that has sources itself
    attends to them in the last stage from the first step on, since its masks are known by then, and so comes out a
    little different."""

    def __init__(self, plan: SharePlan):
        self.plan = plan
        self.all = stages_of(plan)
        self._number = 0

    @property
    def has_early_stages(self) -> bool:
        """Whether keys outlast the model call that made them."""
        return len(self.all) > 1

    @property
    def first(self) -> bool:
        """Whether nothing was sampled before the running stage."""
        return self._number == 0

    @property
    def early(self) -> bool:
        """Whether another stage follows the running one."""
        return self._number + 1 < len(self.all)

    @property
    def segments(self) -> Set[int]:
        """Those that are sampled in the running stage."""
        return self.all[self._number]

    def next(self) -> None:
        """Begins the next stage."""
        self._number += 1

    def evaluations(self, shares: bool, leaves_keys: bool) -> list[Evaluation]:
        """The running stage's part of a model call, in order; shares: whether segments share keys in this call.

        leaves_keys: whether an early stage stores its keys for later ones, also in a call that does not share.
        """
        evaluations_of = sharing_evaluations if shares else plain_evaluations
        planned = evaluations_of(self.plan.timeline, self.plan.config.order)
        now = [evaluation for evaluation in planned if evaluation.segment.index in self.segments]
        if shares or not leaves_keys or not self.early:
            return now
        # Whichever steps share, later stages attend to what an early one ends with.
        return [replace(evaluation, role="source") for evaluation in now]

    def consumers(self, index: int) -> int | None:
        """How many forwards attend to what segment `index` is going to leave; None for any number of them."""
        if not self.has_early_stages:
            return self.plan.consumers(index)
        return None if self.early and index in self.segments and self.plan.consumers(index) else 0
