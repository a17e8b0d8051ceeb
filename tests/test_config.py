"""What a user can set about sharing: read from text, checked, and refused with a message that says what to do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.config import KVShareConfig, parse_indices

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=6)


@given(RANGES, st.sampled_from([",", ", ", " ,", ",,"]), st.sampled_from(["-", " - "]))
def test_numbers_and_ranges_are_read_as_written(ranges: list[tuple[int, int]], comma: str, dash: str) -> None:
    text = comma.join(f"{first}{dash}{first + more}" if more else str(first) for first, more in ranges)
    expected = {number for first, more in ranges for number in range(first, first + more + 1)}
    assert parse_indices(text, "layer_idx") == tuple(sorted(expected))


@given(st.sets(st.integers(0, 99)))
def test_indices_written_out_are_read_back(indices: set[int]) -> None:
    assert set(parse_indices(", ".join(map(str, indices)), "step_idx")) == indices


@pytest.mark.parametrize("text", ["a", "1;2", "-1", "3-", "1.5", "1-2-3", "5-x"])
def test_text_that_is_no_range_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"^layer_idx: .*write for example"):
        parse_indices(f"1, {text}", "layer_idx")


def test_a_backward_range_is_named() -> None:
    with pytest.raises(ValueError, match="step_idx: the range '5-2' runs backwards"):
        parse_indices("5-2", "step_idx")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"mode": "on"}, "mode"),
        ({"sources": "last"}, "sources"),
        ({"strength": 10.5}, "strength"),
        ({"strength": float("nan")}, "strength"),
        ({"start_step": -1}, "start_step"),
        ({"end_step": -2}, "end_step"),
        ({"start_step": 5, "end_step": 5}, "end_step"),
        ({"start_layer": 3, "end_layer": 1}, "end_layer"),
        ({"layer_idx": (-1,)}, "layer_idx"),
        ({"step_idx": (2, -3)}, "step_idx"),
        ({"end_strength": 11.0}, "end_strength"),
        ({"start_percent": -0.1}, "start_percent"),
        ({"start_percent": 0.5, "end_percent": 0.5}, "end_percent"),
        ({"layer_preset": "early"}, "layer_preset"),
        ({"position": "near"}, "position"),
        ({"token_dropout": 1.0}, "token_dropout"),
        ({"share_text": True}, "share_text"),
    ],
)
def test_values_out_of_range_name_the_input(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^(start_\w+ is .* and )?{named} "):
        KVShareConfig(**values)


def test_only_a_mode_with_strength_shares() -> None:
    assert KVShareConfig().shares
    assert not KVShareConfig(mode="off").shares
    assert not KVShareConfig(strength=0.0).shares
