"""What the blocks before the first shared one make of a segment, once for both of its evaluations.

In the paper's order a segment between two others is evaluated as the target of the one before and then as the source of
the one after (plan/schedule.py). Both are the same up to the first block that shares.
"""

from dataclasses import dataclass
from typing import Any

from ..bank.bank import Chunk
from ..forward.forward import Forward
from ..plan.share_plan import SharePlan
from ..subject.strategies import RunningMaps
from ..subject.tracker import SubjectTracker
from .settings import RunSettings

Forwards = tuple[int, tuple[Chunk, ...]]
"""A segment, and which conditionings a forward of it has."""


@dataclass(frozen=True)
class _Kept:
    """What the last early block gave to the next, and what its forward had met until then."""

    output: Any
    calls: int
    taken: frozenset[int]
    met: frozenset[int]
    maps: RunningMaps | None
    """The running maps of the subject, where the forward has the prompt."""


class EarlyBlocks:
    """Keeps what a target's early blocks made until the same segment is evaluated as a source."""

    def __init__(self, settings: RunSettings, tracker: SubjectTracker):
        self._plan = settings.plan
        self._tracker = tracker
        self.count = settings.blocks[0] if settings.blocks and _same_in_both(settings.plan) else 0
        """How many blocks there are before the first that shares; 0 where they are not the same in both."""
        self._kept: dict[Forwards, _Kept] = {}

    def is_wanted(self, forward: Forward) -> bool:
        """Whether the segment of `forward` will be evaluated again with the same early blocks."""
        last = len(self._plan.timeline.segments) - 1
        # Of masks that are found over the clip, the maps of both evaluations count.
        counts_once = self._tracker.per_block or not forward.finds_subjects
        target = forward.role == "target" and forward.segment.index < last
        return self.count > 0 and target and forward.shares and forward.batch.alone and counts_once

    def is_there(self, forward: Forward) -> bool:
        """Whether the early blocks of `forward` have been computed."""
        return forward.role == "source" and forward.shares and _name(forward) in self._kept

    def keep(self, forward: Forward, output: Any) -> None:
        """Keeps `output`, which is nobody else's, of the last early block of `forward`, in place of what another
        segment left."""
        self._kept = {name: kept for name, kept in self._kept.items() if name[0] == forward.segment.index}
        cache, prompted = forward.cache, forward.batch.conditional_rows is not None
        maps = self._tracker.running_maps(forward.segment.index, "target") if prompted else None
        self._kept[_name(forward)] = _Kept(output, cache.calls, frozenset(cache.taken), frozenset(cache.met), maps)

    def take(self, forward: Forward) -> Any:
        """What was kept for `forward`, which then counts as if it had computed its early blocks."""
        kept = self._kept.pop(_name(forward))
        cache = forward.cache
        cache.calls = kept.calls
        cache.taken |= kept.taken
        cache.met |= kept.met
        if kept.maps is not None:
            self._tracker.use_running_maps(forward.segment.index, "source", kept.maps)
        return kept.output

    def clear(self) -> None:
        """Frees everything."""
        self._kept.clear()


def _same_in_both(plan: SharePlan) -> bool:
    """Whether the early blocks do the same in both evaluations: the paper's code may look for the subject at other
    places of the text, and a point is looked at in both."""
    apart = any(member.target_tokens for member in plan.cast)
    return plan.config.order == "ditctrl" and plan.look is None and not apart


def _name(forward: Forward) -> Forwards:
    return forward.segment.index, forward.batch.chunks
