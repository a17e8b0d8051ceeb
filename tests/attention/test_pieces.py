"""Large calls are divided into rows and heads, each once."""

import pytest

from kvshare_core.attention.pieces import LEAST_ELEMENTS, PIECES, divide
from kvshare_core.bank.bank import EVERY_HEAD


@pytest.mark.parametrize("rows", [1, 2, 3, 8])
@pytest.mark.parametrize("key_heads", [1, 5, 8, 40])
@pytest.mark.parametrize("grouped", [1, 4])
def test_pieces_are_all_heads_once_and_few(rows: int, key_heads: int, grouped: int) -> None:
    division = divide(rows, key_heads * grouped, key_heads, 75_600, 128)
    heads = [head for part in division.key_heads for head in range(key_heads)[part]]
    assert division.by_row and heads == list(range(key_heads))
    count = rows * len(division.key_heads)
    assert count <= max(PIECES + rows, rows)
    # No piece is much larger than a part of the call in PIECES, as far as there are heads to divide.
    largest = max(part.stop - part.start for part in division.key_heads)
    assert largest == 1 or largest / (rows * key_heads) <= 1 / PIECES + 1 / (rows * key_heads)


def test_small_calls_are_not_divided() -> None:
    assert divide(2, 8, 4, 64, 64).key_heads == (EVERY_HEAD,)
    assert not divide(2, 8, 4, LEAST_ELEMENTS // (2 * 8 * 64), 64).by_row
    assert divide(2, 8, 4, LEAST_ELEMENTS // (2 * 8 * 64) + 1, 64).by_row
