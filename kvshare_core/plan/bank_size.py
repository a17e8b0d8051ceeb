"""How much the key/value bank is going to hold, before a run.

Found by going through a pass rather than by a formula, since what is released when decides the peak.
"""

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from ..config import KVShareConfig, MemorySettings
from . import schedule
from .block_parts import block_parts
from .model_fit import FittedPlan
from .share_plan import ExportedParts, SharePlan
from .stages import Stages


@dataclass(frozen=True)
class TokenCounts:
    """How many tokens each part of one bank entry has; None for a part that the entry does not have."""

    subjects: tuple[int | None, ...]
    background: int | None = None
    text: int | None = None


@dataclass(frozen=True)
class BankUse:
    """One forward of a pass: the segments whose keys it reads, and what it leaves of `segment` for later forwards."""

    segment: int
    sources: Set[int]
    keeps: TokenCounts | None


def bank_uses(plan: SharePlan, counts: Sequence[TokenCounts]) -> list[BankUse]:
    """What the evaluations of a pass that shares, or of one in each stage, do with the bank; counts: what each segment
    would keep if all of it were read."""
    stages = Stages(plan)
    uses: list[BankUse] = []
    evaluations = schedule.sharing_evaluations(plan.timeline, plan.config.order)
    places: dict[int, list[int]] = {}
    for place, evaluation in enumerate(evaluations):
        places.setdefault(evaluation.segment.index, []).append(place)
    for number, segments in enumerate(stages.all):
        if number > 0:
            stages.next()
        for place in sorted(place for index in segments for place in places[index]):
            evaluation = evaluations[place]
            index = evaluation.segment.index
            sources = frozenset(plan.sources(index)) if evaluation.role in ("both", "target") else frozenset[int]()
            keeps = evaluation.role in ("both", "source") and stages.consumers(index) != 0
            # Of masks that are yet to be found any token may end up in the part that is read.
            kept = counts[index] if plan.finds_subjects else _exported_tokens(plan.exported_parts(index), counts[index])
            uses.append(BankUse(index, sources, kept if keeps else None))
    return uses


def _exported_tokens(exported: ExportedParts, counts: TokenCounts) -> TokenCounts:
    """`counts` without the parts that no other segment attends to."""
    subjects = tuple(count if number in exported.subjects else None for number, count in enumerate(counts.subjects))
    return replace(counts, subjects=subjects, background=counts.background if exported.background else None)


def kept_tokens(
    config: KVShareConfig, guided: bool, video: int, subject: int, text: int, subjects: int = 1
) -> TokenCounts:
    """Tokens that one latent's entry keeps: of `video` tokens `subject` are the subject's (all of them where nothing is
    guided by a mask), beside `text` text tokens of a joint attention. Several `subjects` are counted at most: all as
    the first one's, beside others that are empty but there."""
    return TokenCounts(
        # Each subject's dropped tokens are rounded down for itself.
        (min(subject, subject - int(config.token_dropout * subject) + subjects - 1), *(0,) * (subjects - 1)),
        video - subject if guided and config.share_background else None,
        text if config.share_text and text else None,
    )


def count_consumers(evaluations: Sequence[BankUse]) -> list[int]:
    """For each of the evaluations, how many later forwards read what it leaves: those before the segment's next
    entry."""
    consumers, readers = [0] * len(evaluations), Counter[int]()
    for place in reversed(range(len(evaluations))):
        own = evaluations[place]
        if own.keeps is not None:
            consumers[place] = readers.pop(own.segment, 0)
        readers.update(own.sources)
    return consumers


def plan_bytes(
    fitted: FittedPlan,
    subject_tokens: Sequence[int],
    video_tokens: int,
    text_tokens: int,
    rows: int,
    element_size: int,
) -> tuple[int, bool]:
    """Bytes that the bank will hold at most in a run of a plan, and whether that is what it will hold: masks that are
    yet to be found count as whole segments.

    subject_tokens: of each segment, of its `video_tokens`; text_tokens: those outside the video in a joint attention;
    rows, element_size: as in `predict_bytes`.
    """
    plan, info = fitted.plan, fitted.info
    if not plan.shares:
        return 0, True
    # Where the background is kept too, every token is kept that is not dropped from the subject: at most all.
    config = (
        replace(plan.config, token_dropout=0.0) if plan.finds_subjects and plan.config.share_background else plan.config
    )
    text = text_tokens if info.joint else 0
    total = 0
    for part in block_parts(fitted, subject_tokens, video_tokens, rows):
        counts = [
            kept_tokens(config, plan.guided, part.video_tokens, subject, text, max(1, len(plan.names)))
            for subject in part.subject_tokens
        ]
        size, blocks = part.fitted.info, len(part.fitted.blocks)
        uses = bank_uses(plan, counts)
        total += predict_bytes(uses, blocks, part.rows, size.heads, size.head_dim, element_size, config.memory)
    # How much of a coarser grid is a subject's, its mask decides.
    return total, not plan.finds_subjects and not (plan.guided and info.frames_as_rows)


def predict_bytes(
    evaluations: Sequence[BankUse],
    blocks: int,
    rows: int,
    key_heads: int,
    head_dim: int,
    element_size: int,
    memory: MemorySettings,
) -> int:
    """The `peak_bytes` of a bank after one pass, found by going through the pass as a session does.

    evaluations: the forwards of a pass in their order. blocks: blocks that share. rows: rows that share, over all
    chunks of the batch. element_size: bytes of a number in the dtype in which the model computes.

    In every block, row after row, a forward gets what it reads and then puts its own, so that what is held rises or
    falls evenly while it runs.
    """
    consumers = count_consumers(evaluations)
    held: dict[int, int] = {}
    left = Counter[int]()
    total = peak = 0
    calls = blocks * rows
    for evaluation, wanted in zip(evaluations, consumers, strict=True):
        freed = 0
        for source in evaluation.sources:
            left[source] -= 1
            if left[source] == 0:
                freed += held.pop(source)
        added = 0
        if evaluation.keeps is not None:
            freed += held.pop(evaluation.segment, 0)
            left[evaluation.segment] = wanted
            if wanted:
                added = entry_bytes(evaluation.keeps, key_heads, head_dim, element_size, memory)
                held[evaluation.segment] = added
        if added and calls:
            peak = max(peak, total + added - freed, total + calls * (added - freed))
        total += calls * (added - freed)
    return peak


def entry_bytes(counts: TokenCounts, key_heads: int, head_dim: int, element_size: int, memory: MemorySettings) -> int:
    """Bytes of one entry: keys and values, their scales in fp8, and 8 bytes per token for its place."""
    total = 0
    video = (*counts.subjects, counts.background)
    for tokens, quantised in (*((tokens, True) for tokens in video), (counts.text, False)):
        if tokens is None:
            continue
        numbers = key_heads * tokens * head_dim
        small = quantised and memory.dtype == "fp8"
        total += 2 * (numbers + 4 * key_heads if small else numbers * element_size) + 8 * tokens
    return total
