"""How the segments of a film are divided among workers, what each evaluates, and what that gains.

A model call on the long latent is a set of evaluations of segments, and of one another these need nothing but the keys
of sources. No keys travel: a worker evaluates the sources of its span again, beside its own segments. What travels is
the latent of every evaluation, and back the predictions of a worker's own segments (docs/scaling.md).
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from .schedule import Evaluation, needed_evaluations, sharing_evaluations
from .share_plan import SharePlan
from .stages import stages_of

MIB = 2**20


@dataclass(frozen=True)
class WorkerSpan:
    """What one worker does in a model call that shares."""

    own: tuple[int, ...]
    """Neighbouring segments whose predictions it returns, ascending."""
    again: tuple[int, ...]
    """Segments of others that it evaluates too, for their keys alone, ascending."""
    stages: tuple[int, ...]
    """How many evaluations it makes in a model call of each stage of the run."""
    returned: int
    """How many of the last stage's it returns the predictions of."""

    @property
    def evaluations(self) -> int:
        """Of a model call of every stage together."""
        return sum(self.stages)


@dataclass(frozen=True)
class Split:
    """The segments of a film, divided among workers."""

    spans: tuple[WorkerSpan, ...]
    """One for every worker that has anything to do, in the order of the segments."""
    alone: tuple[int, ...]
    """How many evaluations one process makes in a model call of each stage."""

    @property
    def speedup(self) -> float:
        """How many times faster than one process the evaluations are done, if all take as long and workers wait for the
        slowest of them in every model call."""
        slowest = sum(max(counts) for counts in zip(*(span.stages for span in self.spans), strict=True))
        return sum(self.alone) / slowest

    def wire_bytes(self, piece: int, lists: int) -> int:
        """Bytes that go over the wire, there and back, in a model call of the last stage.

        piece: bytes of the latent of one segment. lists: conditionings that the sampler asks for, 2 with guidance.
        """
        there = sum(span.stages[-1] for span in self.spans)
        back = sum(span.returned for span in self.spans)
        return (there + back * lists) * piece


def split_segments(plan: SharePlan, workers: int, wanted: Collection[int] | None = None) -> Split:
    """Spans of neighbouring segments for at most so many workers, so that the one with the most evaluations has as few
    as can be; workers that would not make that less get none.

    wanted: the segments whose predictions count at all; None for all. Raises ValueError for less than one worker and
    for nothing wanted.
    """
    if workers < 1:
        raise ValueError(f"workers: there must be at least one, not {workers}.")
    indices = [segment.index for segment in plan.timeline.segments if wanted is None or segment.index in wanted]
    if not indices:
        raise ValueError("no segment is to be evaluated.")
    needs = _needs(plan)
    low = max(needs[index].bit_count() for index in indices)
    high = _union(indices, needs).bit_count()
    while low < high:
        middle = (low + high) // 2
        if len(_within(indices, needs, middle)) <= workers:
            high = middle
        else:
            low = middle + 1
    spans = tuple(_span(plan, own, needs) for own in _within(indices, needs, low))
    return Split(spans, _span(plan, indices, needs).stages)


def evaluations_for(
    plan: SharePlan, planned: Sequence[Evaluation], own: Collection[int], early: bool, needs_sources: bool
) -> list[Evaluation]:
    """Those of a model call's `planned` evaluations without which a worker could not predict the segments `own`, in
    order.

    early: whether a later stage attends to what is evaluated; needs_sources: whether segments attend to others that the
    same model call evaluates.
    """
    if early:
        kept = {evaluation.segment.index for evaluation in _with_sources(plan, own)}
        return [evaluation for evaluation in planned if evaluation.segment.index in kept]
    return needed_evaluations(planned, own, plan.sources if needs_sources else lambda _: ())


def _with_sources(plan: SharePlan, own: Collection[int]) -> list[Evaluation]:
    """The evaluations of segments and, from source to source, of all whose keys they depend on."""
    return needed_evaluations(sharing_evaluations(plan.timeline, plan.config.order), own, plan.sources)


def _needs(plan: SharePlan) -> list[int]:
    """For each of the n segments what has to be evaluated for its prediction in a model call of every stage, as bits:
    of segment k, bit k is its evaluation in an early stage, bit n + k its own one in the last stage, and bit 2 n + k
    the one for its keys alone in the paper's pairs."""
    count = len(plan.timeline.segments)
    *early, _ = stages_of(plan)
    if not (plan.shares and plan.may_share):
        return [1 << count + index for index in range(count)]
    if plan.config.order == "ditctrl" and count > 1:
        return [_pairs_of(plan, index, count) for index in range(count)]
    reached: list[int] = []
    for index in range(count):
        # Sources are earlier segments.
        reached.append(1 << index | _union(plan.sources(index), reached))
    if not early:
        return [bits << count for bits in reached]
    kept = _bits(frozenset[int]().union(*early))
    return [bits & kept | 1 << count + index for index, bits in enumerate(reached)]


def _pairs_of(plan: SharePlan, index: int, count: int) -> int:
    """Of the paper's pairs: a segment as target and as source, and its source, unshared."""
    sources = {*plan.sources(index)} | ({index} if index < count - 1 else set[int]())
    return _bits(sources) << 2 * count | (1 << count + index if index > 0 else 0)


def _bits(indices: Iterable[int]) -> int:
    return sum(1 << index for index in indices)


def _places(bits: int) -> Iterator[int]:
    while bits:
        yield (bits & -bits).bit_length() - 1
        bits &= bits - 1


def _union(indices: Iterable[int], needs: Sequence[int]) -> int:
    found = 0
    for index in indices:
        found |= needs[index]
    return found


def _within(indices: Sequence[int], needs: Sequence[int], most: int) -> list[list[int]]:
    """The fewest spans of neighbours none of which takes more than `most` evaluations; `most` is enough for every
    segment alone."""
    spans: list[list[int]] = []
    held = 0
    for index in indices:
        together = held | needs[index]
        if not spans or together.bit_count() > most:
            spans.append([])
            together = needs[index]
        spans[-1].append(index)
        held = together
    return spans


def _span(plan: SharePlan, own: Sequence[int], needs: Sequence[int]) -> WorkerSpan:
    count, made = len(plan.timeline.segments), _union(own, needs)
    *early, _ = stages_of(plan)
    segments = made & _bits(range(count)) | made >> count & _bits(range(count)) | made >> 2 * count
    again = tuple(_places(segments & ~_bits(own)))
    last, mine = (made >> count).bit_count(), _bits(own)
    returned = (made >> count & mine).bit_count() + (made >> 2 * count & mine).bit_count()
    return WorkerSpan(tuple(own), again, (*((made & _bits(stage)).bit_count() for stage in early), last), returned)
