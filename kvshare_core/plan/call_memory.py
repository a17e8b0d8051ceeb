"""How much memory one shared attention call takes, before a run: what it holds at most beside its inputs, its output
and the bank.

Found from the query groups that `attention/groups.py` makes and the copies that `attention/parts.py` makes of them, in
tokens of one tensor (queries, keys, values or outputs) of the heads that are computed together.
"""

from collections.abc import Sequence

from ..attention.log_sum_exp import chunked_bytes
from ..attention.parts import MERGED_ELEMENTS, MERGED_PARTS
from ..attention.pieces import divide
from .block_parts import BlockPart, block_parts
from .model_fit import FittedPlan

MERGING_BYTES = 12
"""Bytes per element while partial results are merged: three numbers of float32."""

SUM_BYTES = 24
"""Bytes per query and head of up to three sums of scores in float32, and of the weights made from them."""

MOVED = ("centred", "matched")
"""Positions to which each key has a rotation of its own."""

TABLE_BYTES = 4
"""Bytes of a cosine or sine per channel of a head, which two channels share."""


def call_bytes(
    fitted: FittedPlan,
    subject_tokens: Sequence[int],
    video_tokens: int,
    text_tokens: int,
    rows: int,
    element_size: int,
) -> int:
    """Bytes that a shared call of a run holds at most beside its inputs, its output and the bank; 0 where nothing is
    shared.

    subject_tokens: of each segment, of its `video_tokens`, all where they are not known yet; text_tokens: those outside
    the video in a joint attention; rows: of the batch; element_size: bytes of a number in the model's dtype.
    """
    if not fitted.plan.shares or rows == 0:
        return 0
    parts = block_parts(fitted, subject_tokens, video_tokens, rows)
    return max((_part_bytes(part, text_tokens, element_size) for part in parts if part.fitted.blocks), default=0)


def unfused_bytes(fitted: FittedPlan, video_tokens: int, text_tokens: int, rows: int) -> int:
    """What such a call holds besides where the device has no kernel that tells the log-sum-exp of its scores
    (attention/log_sum_exp.py); arguments as for `call_bytes`."""
    if not fitted.plan.shares or rows == 0:
        return 0
    most = 0
    for part in block_parts(fitted, (), video_tokens, rows):
        info, tokens = part.fitted.info, part.video_tokens + (text_tokens if part.fitted.info.joint else 0)
        division = divide(part.rows, info.heads, info.heads, tokens, info.head_dim)
        most = max(most, chunked_bytes(1 if division.by_row else part.rows, info.head_dim))
    return most


def _part_bytes(part: BlockPart, text_tokens: int, element_size: int) -> int:
    """The same of blocks of one size."""
    fitted, subject_tokens, video_tokens, rows = part.fitted, part.subject_tokens, part.video_tokens, part.rows
    plan, info = fitted.plan, fitted.info
    tokens = video_tokens + (text_tokens if info.joint else 0)
    division = divide(rows, info.heads, info.heads, tokens, info.head_dim)
    together = max(len(range(info.heads)[part]) for part in division.key_heads)
    heads = together * (1 if division.by_row else rows)
    most, fewest_subject, most_subject = 0, min(subject_tokens), max(subject_tokens)
    for index in range(len(plan.timeline.segments)):
        parts = plan.part_sources(index)
        places = max((len(sources) for sources in parts.subjects), default=0)
        foreign = [places * most_subject, len(parts.background) * (video_tokens - fewest_subject)]
        if not any(foreign):
            continue
        own = [subject_tokens[index], video_tokens - subject_tokens[index]]
        # Keys that move are copied, and so are keys and values of several rows that are computed together, and of text.
        copied = sum(foreign) * (1 if division.by_row or rows == 1 else 3) + 2 * (tokens - video_tokens)
        groups = [
            _group_tokens(fitted, queries, seen, tokens) for queries, seen in zip(own, foreign, strict=True) if queries
        ]
        # Keys and values kept in 8 bits are given back in the model's dtype, of all heads.
        restored = (
            2 * sum(foreign) * info.heads * (1 if division.by_row else rows) if plan.config.memory.dtype == "fp8" else 0
        )
        queries = max(own) * heads * info.head_dim
        merging = MERGING_BYTES * min(queries, max(MERGED_ELEMENTS, queries // MERGED_PARTS))
        merging += SUM_BYTES * max(own) * heads
        if plan.config.position in MOVED:
            # Cosines and sines for every key of each row; they are kept for the blocks to come.
            merging += TABLE_BYTES * sum(foreign) * info.head_dim * rows
        held = (copied + max(groups)) * heads + restored
        most = max(most, held * info.head_dim * element_size + merging)
    return most


def _group_tokens(fitted: FittedPlan, queries: int, seen: int, tokens: int) -> int:
    """What a group of that many queries holds which sees so many source tokens besides its own sequence of `tokens`, in
    any step of the run: the queries, one output for every weight, and copies of keys and values."""
    config = fitted.plan.config
    if not seen:
        return 2 * queries
    guided = fitted.plan.guided
    if config.position == "frame":
        # The own keys once, and in modes with one weight again beside those of each frame.
        return 2 * queries + 2 * tokens + (0 if config.mode == "swap" else seen)
    # Beside the text, which has a weight and thus an output of its own.
    joined = (3 if fitted.info.joint else 2) * queries + 2 * (tokens + seen)
    separate = 4 * queries + (2 * seen if len(fitted.plan.timeline.segments) > 2 else 0)
    if config.mode == "swap":
        gathered = 2 * queries + 2 * (tokens - queries) if guided else 0
        # At equal weights the own tokens of the kind and those of the sources are joined.
        return max(separate, gathered, 3 * queries + 2 * (2 * queries + seen) if guided else joined)
    return max(separate, joined)
