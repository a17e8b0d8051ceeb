"""User settings: parsed from text, checked, and refused with a message that names the input."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.config import DITCTRL, KVShareConfig, MaskSettings, MemorySettings, format_indices, parse_indices
from tests.support.growth import assert_linear

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
        ({"order": "pairs"}, "order"),
        ({"position": "moved"}, "position"),
        ({"layer_preset": "early"}, "layer_preset"),
        ({"end_strength": -0.1}, "end_strength"),
        ({"end_strength": float("nan")}, "end_strength"),
        ({"start_percent": 1.5}, "start_percent"),
        ({"start_percent": 0.5, "end_percent": 0.5}, "end_percent"),
        ({"token_dropout": 1.0}, "token_dropout"),
        ({"token_dropout": float("nan")}, "token_dropout"),
        ({"share_text": True}, "share_text"),
    ],
)
def test_values_out_of_range_name_the_input(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^(start_\w+ is .* and )?{named} "):
        KVShareConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "soft"}, "mask_kind is 'soft'; choose one of"),
        ({"start": "late"}, "mask_start is 'late'; choose one of"),
        ({"thres": 1.1}, "thres is 1.1; it must be between 0 and 1"),
        ({"presence": -0.1}, "presence is -0.1; it must be between 0 and 1"),
        ({"hysteresis": float("nan")}, "hysteresis is nan; it must be between 0 and 1"),
        ({"freeze_after": 2.0}, "freeze_after is 2.0; it must be between 0 and 1"),
        ({"rim": -1}, "rim is -1; it must be between 0 and"),
        ({"attn_map_step_idx": (-1,)}, "attn_map_step_idx has a negative number"),
        ({"attn_map_layer_idx": (-1,)}, "attn_map_layer_idx has a negative number"),
        ({"ref_token_idx": (-1,), "cur_token_idx": (1,)}, "ref_token_idx has a negative number"),
        ({"ref_token_idx": (1,), "cur_token_idx": (-1,)}, "cur_token_idx has a negative number"),
    ],
)
def test_mask_settings_out_of_range_name_the_input(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        MaskSettings(**values)


@pytest.mark.parametrize("given_alone", ["ref_token_idx", "cur_token_idx"])
def test_token_positions_of_sources_and_targets_come_together(given_alone: str) -> None:
    with pytest.raises(ValueError, match=r"^give both ref_token_idx and cur_token_idx, or neither"):
        MaskSettings(**{given_alone: (1,)})
    MaskSettings(ref_token_idx=(1,), cur_token_idx=(2,))


@pytest.mark.parametrize(
    ("values", "named"),
    [({"place": "disk"}, "place"), ({"dtype": "int4"}, "dtype"), ({"budget_mib": -1}, "budget_mib")],
)
def test_memory_settings_out_of_range_name_the_input(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named} is "):
        MemorySettings(**values)


def test_the_papers_values_are_those_of_its_released_code() -> None:
    assert (DITCTRL.mode, DITCTRL.strength, DITCTRL.order, DITCTRL.sources) == ("replace", 1.0, "ditctrl", "previous")
    assert (DITCTRL.start_step, DITCTRL.end_step, DITCTRL.start_layer, DITCTRL.end_layer) == (2, 25, 25, 30)
    assert (DITCTRL.share_text, DITCTRL.share_background, DITCTRL.share_uncond) == (True, True, True)
    assert (DITCTRL.masks.kind, DITCTRL.masks.thres) == ("threshold", 0.3)


@given(st.sets(st.integers(0, 60)))
def test_numbers_are_written_as_they_are_read(numbers: set[int]) -> None:
    assert parse_indices(format_indices(sorted(numbers)), "layer_idx") == tuple(sorted(numbers))


def test_neighbours_are_written_as_a_range() -> None:
    assert format_indices((2, 5, 25, 26, 27)) == "2, 5, 25-27"


def test_an_index_beyond_every_model_is_named() -> None:
    with pytest.raises(ValueError, match="layer_idx: '5-99999' goes beyond 10000"):
        parse_indices("1, 5-99999", "layer_idx")


def test_long_lists_of_numbers_are_read_in_proportion_to_their_length() -> None:
    assert_linear(lambda size: parse_indices("".join(f"{n % 99}-10000," for n in range(size)), "step_idx"), 1_000)
    with pytest.raises(ValueError, match=r"^step_idx: '9999") as reason:
        parse_indices("9" * 100_000, "step_idx")
    assert len(str(reason.value)) < 200
