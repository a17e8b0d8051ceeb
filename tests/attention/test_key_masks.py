"""Keys that an attention call's own mask hides are found for every mask shape and dtype that hosts use."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.attention.key_masks import KeyMask, read_key_mask

LENGTH = 10
TEXT_FIRST, TEXT_LAST, ALL_VIDEO = slice(4, 10), slice(0, 6), slice(0, 10)
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def keys(rows: int, length: int = LENGTH) -> torch.Tensor:
    return torch.zeros(rows, 2, length, 4)


def outside_of(video: slice) -> list[int]:
    return [place for place in range(LENGTH) if place not in range(LENGTH)[video]]


def shaped(row: torch.Tensor, shape: str, rows: int) -> torch.Tensor:
    """The mask of one row of keys in one of the shapes that hosts broadcast."""
    many = row.expand(rows, -1)
    return {
        "(L,)": row,
        "(1, L)": row[None],
        "(1, 1, L)": row[None, None],
        "(B, 1, L)": many[:, None],
        "(1, 1, 1, L)": row[None, None, None],
        "(B, 1, 1, L)": many[:, None, None],
    }[shape]


SHAPES = ["(L,)", "(1, L)", "(1, 1, L)", "(B, 1, L)", "(1, 1, 1, L)", "(B, 1, 1, L)"]


def additive(hidden: torch.Tensor, dtype: torch.dtype, lowest: str) -> torch.Tensor:
    """Zero where a key is visible, else what hosts take for minus infinity."""
    values = {
        "finfo.min": torch.finfo(dtype).min,
        "-finfo.max": -torch.finfo(dtype).max,
        "-inf": -torch.inf,
        "-1e4": -1e4,
        "half of finfo.min": torch.finfo(dtype).min / 2,
    }
    return torch.zeros(LENGTH, dtype=dtype).masked_fill(hidden, values[lowest])


def places(index: torch.Tensor | slice | None) -> list[int] | None:
    if isinstance(index, slice):
        return list(range(LENGTH)[index])
    return None if index is None else index.tolist()


def assert_hides(mask: KeyMask, hidden: set[int], video: slice) -> None:
    outside = outside_of(video)
    assert mask.hidden == tuple(sorted(hidden))
    assert places(mask.outside) == (outside or None)
    if hidden:
        assert places(mask.visible) == [place for place in range(LENGTH) if place not in hidden]
        assert places(mask.visible_outside) == [place for place in outside if place not in hidden]
    else:
        assert (mask.visible, mask.visible_outside) == (None, None)


@given(
    st.sampled_from(SHAPES),
    st.sampled_from(DTYPES),
    st.sampled_from(["bool", "finfo.min", "-finfo.max", "-inf", "half of finfo.min"]),
    st.sampled_from([TEXT_FIRST, TEXT_LAST]),
    st.sets(st.integers(0, 3)),
    st.integers(1, 3),
)
def test_every_shape_and_format_hides_the_same_keys(
    shape: str, dtype: torch.dtype, kind: str, video: slice, chosen: set[int], rows: int
) -> None:
    hidden = {outside_of(video)[place] for place in chosen}
    row = torch.tensor([place in hidden for place in range(LENGTH)])
    mask = shaped(~row if kind == "bool" else additive(row, dtype, kind), shape, rows)
    found = read_key_mask(mask, keys(rows), video)
    assert found is not None and len(found) == rows
    for one in found:
        assert_hides(one, hidden, video)
        assert one.key_bias is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_ten_thousand_hides_too(dtype: torch.dtype) -> None:
    hidden = torch.tensor([True, False, True] + [False] * 7)
    found = read_key_mask(additive(hidden, dtype, "-1e4"), keys(1), TEXT_FIRST)
    assert found is not None
    assert_hides(found[0], {0, 2}, TEXT_FIRST)


@pytest.mark.parametrize("video", [TEXT_FIRST, TEXT_LAST, ALL_VIDEO])
def test_without_a_mask_nothing_is_hidden(video: slice) -> None:
    found = read_key_mask(None, keys(2), video)
    assert found is not None and len(found) == 2
    assert_hides(found[0], set(), video)
    assert found[0] == found[1]


def test_a_mask_that_hides_nothing_is_as_good_as_none() -> None:
    for mask in (torch.ones(LENGTH, dtype=torch.bool), torch.zeros(1, 1, LENGTH)):
        assert read_key_mask(mask, keys(1), TEXT_LAST) == read_key_mask(None, keys(1), TEXT_LAST)


@given(st.sampled_from(DTYPES), st.lists(st.integers(-40, 12), min_size=LENGTH, max_size=LENGTH), st.booleans())
def test_soft_values_become_a_bias_of_the_visible_keys(dtype: torch.dtype, eighths: list[int], hides: bool) -> None:
    values = torch.tensor(eighths).to(dtype) / 8
    mask = values.clone()
    if hides:
        mask[1] = torch.finfo(dtype).min
    found = read_key_mask(mask, keys(1), TEXT_FIRST)
    assert found is not None
    assert_hides(found[0], {1} if hides else set(), TEXT_FIRST)
    expected = values.float()
    if hides:
        expected[1] = 0
    if not expected.any():
        assert found[0].key_bias is None
        return
    assert found[0].key_bias is not None
    assert torch.equal(found[0].key_bias, expected[None])


def test_rows_with_equal_masks_compare_equal_and_others_do_not() -> None:
    mask = torch.zeros(4, 1, 1, LENGTH)
    mask[1, ..., 0] = mask[3, ..., 0] = -torch.inf
    mask[2, ..., 0] = -1.5
    found = read_key_mask(mask, keys(4), TEXT_FIRST)
    assert found is not None
    assert found[1] == found[3] and hash(found[1]) == hash(found[3])
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    "mask",
    [
        torch.zeros(LENGTH, LENGTH),
        torch.zeros(2, LENGTH),
        torch.zeros(1, LENGTH, LENGTH),
        torch.zeros(2, 1, LENGTH, LENGTH),
        torch.zeros(2, 3, 1, LENGTH),
        torch.zeros(6, 1, LENGTH),
        torch.zeros(2, 1, 1, LENGTH + 1),
        torch.zeros(1, 1, 1, 1),
        torch.zeros(1, 1, 1, 1, LENGTH),
        torch.zeros(()),
    ],
    ids=lambda mask: str(tuple(mask.shape)),
)
def test_masks_of_more_than_hidden_keys_are_not_taken_for_key_masks(mask: torch.Tensor) -> None:
    assert read_key_mask(mask, keys(2), TEXT_FIRST) is None


@pytest.mark.parametrize("hide", [lambda mask: mask > 0, lambda mask: torch.where(mask > 0, 0.0, -torch.inf)])
def test_hidden_video_is_left_to_the_host(hide: Any) -> None:
    mask = torch.ones(2, 1, 1, LENGTH)
    mask[1, ..., 7] = 0
    assert read_key_mask(hide(mask), keys(2), TEXT_FIRST) is None
    assert read_key_mask(hide(mask), keys(2), TEXT_LAST) is not None
