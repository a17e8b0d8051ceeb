"""Rows and heads of one attention call that are computed together: few of a large call, so that the copies of keys,
queries and outputs which sharing makes stay small beside the call's own output."""

from dataclasses import dataclass

from ..bank.bank import EVERY_HEAD

PIECES = 6
"""Pieces that a large call is divided into."""

LEAST_ELEMENTS = 1 << 22
"""Elements of the queries of a piece below which dividing further would save little and cost time."""


@dataclass(frozen=True)
class Division:
    """How one attention call is divided."""

    by_row: bool
    """Whether each batch row is computed alone; otherwise rows that are alike go together."""
    key_heads: tuple[slice, ...]
    """The key heads that are computed together, with all query heads that attend to them."""


def divide(rows: int, heads: int, key_heads: int, tokens: int, head_dim: int) -> Division:
    """How a call is divided whose queries are [rows, heads, tokens, head_dim]."""
    pieces = min(PIECES, -(-rows * heads * tokens * head_dim // LEAST_ELEMENTS))
    if pieces <= 1:
        return Division(False, (EVERY_HEAD,))
    each = -(-key_heads // -(-pieces // rows))
    return Division(True, tuple(slice(first, min(first + each, key_heads)) for first in range(0, key_heads, each)))
