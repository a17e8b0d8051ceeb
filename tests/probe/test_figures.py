"""Figures of a probe: scores, masks and the choice of blocks."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from kvshare_core.probe.figures import (
    ENOUGH_PULL,
    BlockFigures,
    Effects,
    ProbeSettings,
    agreement,
    appearance_pull,
    blocks_for_masks,
    blocks_for_sharing,
    contrast,
    figures_of,
    over_latent,
    relative_change,
    split_in_two,
    subject_mask,
    temporal_overlap,
)

NUMBERS = st.lists(st.integers(-50, 50), min_size=1, max_size=12)
GRID = (3, 4, 5)


def moving_square(frames: int = 3, still: bool = False) -> torch.Tensor:
    """A map [frames * 6 * 6] with a square of 2 x 2 that moves a column each frame."""
    heat = torch.zeros(frames, 6, 6)
    for frame in range(frames):
        column = 0 if still else frame
        heat[frame, 2:4, column : column + 2] = 1
    return heat.flatten()


# Classes.


@given(NUMBERS)
def test_two_classes_have_the_largest_variance_between_them(numbers: list[int]) -> None:
    values = torch.tensor(numbers, dtype=torch.float64)
    threshold, variance = split_in_two(values)
    between = [0.0]
    for cut in sorted(set(numbers))[:-1]:
        lower, upper = values[values <= cut], values[values > cut]
        share = len(lower) / len(values)
        between.append(share * (1 - share) * float(upper.mean() - lower.mean()) ** 2)
    assert variance == pytest.approx(max(between))
    upper = values > threshold
    assert bool(upper.any()) == (len(set(numbers)) > 1)
    if upper.any():
        share = float(upper.double().mean())
        gap = float(values[upper].mean() - values[~upper].mean())
        assert share * (1 - share) * gap**2 == pytest.approx(variance)


def test_a_mask_holds_the_highest_scores_of_a_map() -> None:
    square = moving_square()
    noise = 0.1 * torch.rand(len(square), generator=torch.Generator().manual_seed(0))
    assert torch.equal(subject_mask(7 * square + noise), square > 0)
    assert not subject_mask(torch.full((8,), 3.0)).any()


# Maps.


def test_masks_that_stay_overlap_and_masks_that_jump_do_not() -> None:
    grid = (3, 6, 6)
    assert temporal_overlap(moving_square(still=True) > 0, grid) == 1.0
    assert temporal_overlap(moving_square() > 0, grid) == pytest.approx(1 / 3)
    gone = moving_square(still=True) > 0
    gone[36:72] = False
    assert temporal_overlap(gone, grid) == 0.0
    assert temporal_overlap(moving_square(1) > 0, (1, 6, 6)) == 1.0


@given(st.lists(st.floats(-5, 5, width=32), min_size=60, max_size=60))
def test_contrast_lies_between_nothing_and_a_steady_half(numbers: list[float]) -> None:
    assert 0.0 <= contrast(torch.tensor(numbers), GRID) <= 1.0 + 1e-6


def test_contrast_is_full_for_a_steady_half_and_nothing_for_a_flat_map() -> None:
    half = torch.zeros(3, 4, 6)
    half[..., :3] = 1
    assert contrast(half.flatten(), (3, 4, 6)) == pytest.approx(1.0)
    assert contrast(torch.ones(72), (3, 4, 6)) == 0.0
    assert contrast(moving_square(), (3, 6, 6)) < contrast(moving_square(still=True), (3, 6, 6))


@given(st.lists(st.tuples(st.floats(-5, 5, width=32), st.floats(-5, 5, width=32)), min_size=3, max_size=40))
def test_agreement_is_a_correlation(pairs: list[tuple[float, float]]) -> None:
    one, other = (torch.tensor(values) for values in zip(*pairs, strict=True))
    found = agreement(one, other)
    assert -1 - 1e-6 <= found <= 1 + 1e-6
    assert found == pytest.approx(agreement(other, one), abs=1e-9)
    assert agreement(one, torch.ones_like(one)) == 0.0
    assume(float(one.max() - one.min()) > 1e-3)
    assert agreement(one, one) == pytest.approx(1.0)
    assert agreement(one, -one) == pytest.approx(-1.0, abs=1e-4)


@given(st.tuples(*[st.integers(1, 3)] * 3), st.tuples(*[st.integers(1, 4)] * 3), st.data())
def test_a_token_covers_its_cells_of_the_latent(
    patch: tuple[int, ...], grid: tuple[int, ...], data: st.DataObject
) -> None:
    shape = [size * side - data.draw(st.integers(0, side - 1)) for size, side in zip(grid, patch, strict=True)]
    mask = torch.randint(0, 2, (math.prod(grid),), generator=torch.Generator().manual_seed(1)).bool()
    cells = over_latent(mask, grid, patch, shape)  # type: ignore[arg-type]
    assert list(cells.shape) == shape
    for place in cells.nonzero().tolist() + (~cells).nonzero().tolist():
        token = tuple(where // side for where, side in zip(place, patch, strict=True))
        assert bool(cells[tuple(place)]) == bool(mask.reshape(grid)[token])


# Predictions.


def test_a_change_is_relative_to_the_whole_prediction() -> None:
    plain = torch.randn(1, 4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    cells = torch.zeros(3, 6, 6, dtype=torch.bool)
    cells[1, :3] = True
    changed = plain + 0.5 * cells * plain.square().mean().sqrt()
    assert relative_change(plain, plain) == 0.0
    assert relative_change(changed, plain, cells) == pytest.approx(0.5, rel=1e-5)
    assert relative_change(changed, plain, ~cells) == 0.0
    assert relative_change(changed, plain) == pytest.approx(0.5 * math.sqrt(18 / 108), rel=1e-5)
    assert relative_change(3 * changed, 3 * plain) == pytest.approx(relative_change(changed, plain), rel=1e-5)


@given(st.floats(-2, 2))
def test_pull_is_the_part_of_the_way_to_the_other_look(part: float) -> None:
    generator = torch.Generator().manual_seed(0)
    plain, other = torch.randn(2, 1, 4, 3, 6, 6, generator=generator)
    cells, other_cells = torch.rand(2, 3, 6, 6, generator=generator) > 0.6
    way = other[0, :, other_cells].mean(-1) - plain[0, :, cells].mean(-1)
    changed = plain + part * way[None, :, None, None, None] * cells
    assert appearance_pull(changed, plain, cells, other, other_cells) == pytest.approx(part, abs=1e-4)
    assert appearance_pull(changed, plain, cells, plain, cells) == 0.0


# The choice.


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60))
def test_blocks_for_masks_are_the_best_ones(agreements: list[float]) -> None:
    chosen = blocks_for_masks(agreements)
    assert chosen == tuple(sorted(set(chosen))) and chosen
    left = set(range(len(agreements))) - set(chosen)
    assert not left or min(agreements[block] for block in chosen) > max(agreements[block] for block in left)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60))
def test_blocks_for_sharing_are_the_fewest_that_pull_enough(pulls: list[float]) -> None:
    chosen = blocks_for_sharing(pulls)
    assert chosen == tuple(sorted(set(chosen))) and chosen
    total = sum(pull for pull in pulls if pull > 0)
    if total == 0:
        assert chosen == tuple(range(len(pulls)))
        return
    held = [pulls[block] for block in chosen]
    assert min(held) > 0
    assert sum(held) >= ENOUGH_PULL * total * (1 - 1e-9)
    assert sum(held) - min(held) < ENOUGH_PULL * total


def test_figures_are_means_over_the_levels_that_were_changed() -> None:
    found = figures_of(3, [0.5, 0.25], [0.1, 0.2], [Effects(1, 2, 3, 4, 5), Effects(3, 4, 5, 6, 7)])
    assert found == BlockFigures(3, (0.5, 0.25), (0.1, 0.2), 2, 3, 4, 5, 6)
    assert figures_of(0, [0.5], [0.1], [Effects(1, None, 3, 4, 5)]).moved is None


# Settings.


@given(st.integers(2, 200))
def test_levels_lie_in_the_run_one_behind_the_other(steps: int) -> None:
    settings = ProbeSettings(steps=steps)
    middle, late = settings.levels
    assert 0 <= middle < late < steps
    assert settings.sampled_steps == late + 1


@pytest.mark.parametrize(
    ("changes", "complaint"), [({"steps": 1}, "steps is 1; .* at least 2"), ({"noise_levels": 3}, "noise_levels is 3")]
)
def test_settings_that_cannot_be_are_explained(changes: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ProbeSettings(**changes)  # type: ignore[arg-type]
