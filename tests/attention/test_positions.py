"""Source keys move to the positions that the configuration asks for, and nothing else of them changes."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvshare_core.attention.groups import OwnTokens
from kvshare_core.attention.positions import LEAST_LIKENESS, PositionMover
from kvshare_core.attention.rope import embed_nd_scheme, grid_positions, rotate
from kvshare_core.attention.token_split import split_tokens
from kvshare_core.bank.bank import BankEntry, StoredTokens
from kvshare_core.config import KVShareConfig
from tests.oracles.rope_reference import reference_positions, rotated_reference

SCHEME = embed_nd_scheme((4, 2, 2), 10000.0)
GRID = (3, 2, 3)
VIDEO = 18


def stored(places: list[int], generator: torch.Generator) -> StoredTokens:
    key, value = (torch.randn(1, 2, len(places), 8, generator=generator, dtype=torch.float64) for _ in range(2))
    return StoredTokens(key, value, torch.tensor(places, dtype=torch.int64))


def entry_of(subject: list[int], generator: torch.Generator) -> BankEntry:
    rest = [place for place in range(VIDEO) if place not in subject]
    return BankEntry((stored(subject, generator),), stored(rest, generator), stored([0, 1], generator))


def own_of(generator: torch.Generator, text: int = 2) -> OwnTokens:
    key, value = (torch.randn(1, 2, text + VIDEO, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    return OwnTokens(key, value, slice(text, text + VIDEO))


def places_of(least: int) -> st.SearchStrategy[list[int]]:
    return st.sets(st.integers(0, VIDEO - 1), min_size=least).map(sorted)


@pytest.mark.parametrize("position", ["same", "frame"])
def test_keys_that_keep_their_place_are_the_very_same(position: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    mover = PositionMover(KVShareConfig(position=position), SCHEME)
    entry = entry_of([1, 5], generator)
    assert mover.offsets(entry, own_of(generator), None, GRID) is None
    assert mover.move(entry, None) is entry


@pytest.mark.parametrize("gap", [1, 7])
def test_a_gap_puts_the_source_that_many_frames_earlier(gap: int) -> None:
    generator = torch.Generator().manual_seed(0)
    mover = PositionMover(KVShareConfig(position="gap", position_gap=gap), SCHEME)
    entry = entry_of([1, 5], generator)
    moved = mover.move(entry, mover.offsets(entry, own_of(generator), None, GRID))
    earlier = torch.tensor([-gap, 0, 0])
    assert moved.background is not None and entry.background is not None
    assert torch.equal(moved.subjects[0].key, rotate(entry.subjects[0].key, SCHEME, earlier))
    assert torch.equal(moved.background.key, rotate(entry.background.key, SCHEME, earlier))
    assert moved.text is entry.text
    assert moved.subjects[0].value is entry.subjects[0].value
    assert moved.subjects[0].tokens is entry.subjects[0].tokens


@given(
    places_of(0),
    places_of(0) | st.none(),
    st.integers(0, 99),
)
@settings(max_examples=60)
def test_matched_keys_stand_where_the_most_similar_subject_token_is(
    source: list[int], target: list[int] | None, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    mover = PositionMover(KVShareConfig(position="matched"), SCHEME)
    own = own_of(generator)
    entry = entry_of(source, generator)
    # Half of the source's tokens have a counterpart in the target; the others resemble nothing.
    for number in range(0, len(source), 2):
        place = int(torch.randint(VIDEO, (), generator=generator))
        entry.subjects[0].value[:, :, number] = 3 * own.value[:, :, 2 + place]
    split = None
    if target is not None:
        mask = torch.zeros(VIDEO, dtype=torch.bool)
        mask[target] = True
        split = split_tokens(mask)
    candidates = range(VIDEO) if target is None else target
    offsets: list[list[int]] = []
    for number, place in enumerate(source):
        feature = entry.subjects[0].value[0, :, number].flatten()
        alike = {
            other: float(torch.cosine_similarity(feature, own.value[0, :, 2 + other].flatten(), 0))
            for other in candidates
        }
        best = max(alike, key=lambda other: alike[other]) if alike else place
        there = best if alike.get(best, 0) >= LEAST_LIKENESS else place
        offsets.append(
            [there // 6 - place // 6, there // 3 % 2 - place // 3 % 2, there % 3 - place % 3],
        )
    found = mover.offsets(entry, own, split, GRID)
    assert found is not None and found.background is None
    (offset,) = found.subjects
    if not source or not candidates:
        assert offset is None
        assert mover.move(entry, found) == entry
        return
    assert offset is not None
    assert offset.tolist() == offsets
    moved = mover.move(entry, found)
    assert torch.equal(moved.subjects[0].key, rotate(entry.subjects[0].key, SCHEME, torch.tensor(offsets)))
    assert (moved.background, moved.text) == (entry.background, entry.text)


def centre(places: list[int], frame: int) -> list[float] | None:
    """Mean (height, width) of the places in one frame."""
    here = [(place // 3 % 2, place % 3) for place in places if place // 6 == frame]
    return [sum(axis) / len(here) for axis in zip(*here, strict=True)] if here else None


@given(places_of(1), places_of(1) | st.none(), st.integers(0, 99))
@settings(max_examples=60)
def test_centred_keys_stand_around_the_targets_centre_in_every_frame(
    source: list[int], target: list[int] | None, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    mover = PositionMover(KVShareConfig(position="centred"), SCHEME)
    entry, own = entry_of(source, generator), own_of(generator)
    split = (
        None
        if target is None
        else split_tokens(torch.zeros(VIDEO, dtype=torch.bool).index_fill(0, torch.tensor(target), True))
    )
    targets = list(range(VIDEO)) if target is None else target
    found = mover.offsets(entry, own, split, GRID)
    assert found is not None and found.background is None
    (offset,) = found.subjects
    assert offset is not None and offset.shape == (len(source), 3)
    assert not offset[:, 0].any()
    for frame in range(GRID[0]):
        there = centre(targets, frame)
        moves = offset[[place // 6 == frame for place in source], 1:]
        assert torch.equal(moves, moves[:1].expand_as(moves))
        here = centre(source, frame)
        if here is None:
            continue
        if there is None:
            whole = [[(place // 3 % 2, place % 3) for place in places] for places in (source, targets)]
            start, end = (torch.tensor(places, dtype=torch.float64).mean(0) for places in whole)
            expected = end - start
        else:
            expected = torch.tensor(there, dtype=torch.float64) - torch.tensor(here, dtype=torch.float64)
        assert torch.allclose(moves[0], expected, rtol=0, atol=1e-12)
    moved = mover.move(entry, found)
    assert torch.equal(moved.subjects[0].key, rotate(entry.subjects[0].key, SCHEME, offset))
    assert (moved.background, moved.text) == (entry.background, entry.text)


def test_a_source_with_more_frames_than_the_target_is_centred_too() -> None:
    generator = torch.Generator().manual_seed(0)
    mover = PositionMover(KVShareConfig(position="centred"), SCHEME)
    short = OwnTokens(*(torch.randn(1, 2, 6, 8, generator=generator) for _ in range(2)), slice(0, 6))
    split = split_tokens(torch.tensor([False, False, True, False, False, False]))
    found = mover.offsets(entry_of([0, 12], generator), short, split, (1, 2, 3))
    assert found is not None and found.subjects[0] is not None
    assert found.subjects[0].tolist() == [[0, 0, 2], [0, 0, 2]]


def test_a_model_without_positions_in_its_keys_leaves_a_centred_source_where_it_was() -> None:
    generator = torch.Generator().manual_seed(0)
    mover = PositionMover(KVShareConfig(position="centred"), None)
    assert mover.offsets(entry_of([1, 5], generator), own_of(generator), None, GRID) is None


@pytest.mark.parametrize("config", [KVShareConfig(position="matched"), KVShareConfig(position="gap", position_gap=1)])
def test_a_model_without_positions_in_its_keys_refuses_to_move_them(config: KVShareConfig) -> None:
    with pytest.raises(ValueError, match=f"config: position is '{config.position}'.*choose centred, same or frame"):
        PositionMover(config, None)
    for harmless in ("same", "frame"):
        PositionMover(replace(config, position=harmless), None)
    PositionMover(KVShareConfig(position="gap", position_gap=0), None)


UNEVEN = replace(embed_nd_scheme((4, 2, 2), 100.0), layout="halves", frame_spans=(1.5, 4.0), picture_side=8.0)
"""Frames 1.5 and 4 positions apart in turn; 8 positions along the side of a square picture."""


@pytest.mark.parametrize(
    "config",
    [
        KVShareConfig(position="same"),
        KVShareConfig(position="frame"),
        KVShareConfig(position="gap", position_gap=3),
        KVShareConfig(position="centred"),
        KVShareConfig(position="matched"),
    ],
    ids=lambda config: config.position,
)
@pytest.mark.parametrize("gap", [0, 2])
@pytest.mark.parametrize("later", [0.0, -7.5])
def test_keys_move_by_the_positions_of_models_that_do_not_count_tokens(
    config: KVShareConfig, gap: int, later: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    entry, own = replace(entry_of([1, 5, 12], generator), origin=10.0), own_of(generator)
    split = split_tokens(torch.zeros(VIDEO, dtype=torch.bool).index_fill(0, torch.tensor([2, 3, 13]), True))
    steps = PositionMover(config, SCHEME).offsets(entry, own, split, GRID, gap, 10.0)
    mover = PositionMover(config, UNEVEN)
    found = mover.offsets(entry, own, split, GRID, gap, 10.0 + later)
    if steps is None and later == 0:
        assert found is None
        return
    moved = mover.move(entry, found)
    for name, part, new in (
        ("subjects", entry.subjects[0], moved.subjects[0]),
        ("background", entry.background, moved.background),
    ):
        assert part is not None and new is not None
        of_part = None if steps is None else steps.background if name == "background" else steps.subjects[0]
        places = grid_positions(part.tokens, GRID).double()
        there = places if of_part is None else places + of_part.double()
        here, there = (reference_positions(one, UNEVEN, GRID) for one in (places, there))
        there[:, 0] += later
        raw = rotated_reference(part.key, UNEVEN, -here)
        torch.testing.assert_close(new.key, rotated_reference(raw, UNEVEN, there), rtol=0, atol=1e-9)
    assert moved.text is not None and entry.text is not None
    expected = rotate(entry.text.key, UNEVEN, torch.tensor([later, 0, 0], dtype=torch.float64))
    torch.testing.assert_close(moved.text.key, expected, rtol=0, atol=1e-12)
