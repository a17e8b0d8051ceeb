"""Between the masks' grid and a block's grid, against plain loops over frames, rows and columns."""

from collections.abc import Iterator
from itertools import product

import pytest
import torch

from kvshare_core.attention.token_split import split_tokens
from kvshare_core.forward.view import Grid, View

MASKS = (3, 4, 6)
GRIDS = [MASKS, (3, 2, 3), (3, 8, 12)]


def places(grid: Grid) -> Iterator[tuple[int, int, int]]:
    return product(*(range(size) for size in grid))


def covered(place: tuple[int, int, int], grid: Grid, other: Grid) -> list[tuple[int, int, int]]:
    """The places of `other` that one place of `grid` covers, or that it lies in; one of the two divides the other."""
    frame, row, column = place

    def along(index: int, size: int, size_of_other: int) -> range:
        if size_of_other >= size:
            return range(index * size_of_other // size, (index + 1) * size_of_other // size)
        return range(index * size_of_other // size, index * size_of_other // size + 1)

    rows, columns = along(row, grid[1], other[1]), along(column, grid[2], other[2])
    return [(frame, there, across) for there, across in product(rows, columns)]


def random_values(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize("block", GRIDS)
def test_values_of_the_masks_grid_become_means_in_a_block(block: Grid) -> None:
    values = random_values(2, 3 * 4 * 6)
    found = View(MASKS, block, frames_as_rows=True).to_block(values).unflatten(-1, block)
    whole = values.unflatten(-1, MASKS)
    for place in places(block):
        mean = torch.stack([whole[:, frame, row, column] for frame, row, column in covered(place, block, MASKS)])
        torch.testing.assert_close(found[(slice(None), *place)], mean.mean(0))


@pytest.mark.parametrize("as_rows", [False, True])
@pytest.mark.parametrize("block", GRIDS)
def test_values_of_a_block_lie_over_the_masks_grid(block: Grid, as_rows: bool) -> None:
    view, latents = View(MASKS, block, as_rows), 2
    values = random_values(latents, *block)
    given = values.flatten(2).reshape(latents * view.rows, view.tokens)
    found = view.to_masks(given).unflatten(-1, MASKS)
    assert found.shape == (latents, *MASKS)
    if block[1] < MASKS[1]:
        # Between the centres of four tokens values are their means, weighed by distance.
        around = values[:, :, 0:2, 0:2]
        weights = torch.tensor([[9.0, 3.0], [3.0, 1.0]]) / 16
        torch.testing.assert_close(found[:, :, 1, 1], (around * weights).sum((2, 3)))
        return
    for place in places(MASKS):
        mean = torch.stack([values[:, frame, row, column] for frame, row, column in covered(place, MASKS, block)])
        torch.testing.assert_close(found[(slice(None), *place)], mean.mean(0))


@pytest.mark.parametrize("as_rows", [False, True])
@pytest.mark.parametrize("block", GRIDS)
def test_a_token_belongs_to_whatever_has_most_of_it(block: Grid, as_rows: bool) -> None:
    view = View(MASKS, block, as_rows)
    owners = torch.randint(-1, 2, (2, *MASKS), generator=torch.Generator().manual_seed(3))
    splits = [split_tokens(torch.stack([latent.flatten() == number for number in (0, 1)])) for latent in owners]
    found = view.splits(splits, torch.device("cpu"))
    assert len(found) == 2 * view.rows
    seen: dict[tuple[int, tuple[int, int, int]], int] = {}
    for row, split in enumerate(found):
        for number, part in enumerate((*split.subjects, split.background)):
            for token in part.on_cpu.tolist():
                frame, rest = divmod(token, view.frame_tokens)
                place = (row % view.rows if as_rows else frame, *divmod(rest, block[2]))
                seen[row // view.rows, place] = number
    assert len(seen) == 2 * block[0] * block[1] * block[2]
    for (latent, place), number in seen.items():
        here = [int(owners[(latent, *one)]) for one in covered(place, block, MASKS)]
        counts = [here.count(0), here.count(1), here.count(-1)]
        assert number == counts.index(max(counts))


@pytest.mark.parametrize("as_rows", [False, True])
@pytest.mark.parametrize("block", GRIDS)
def test_a_point_is_found_in_the_block_it_lies_in(block: Grid, as_rows: bool) -> None:
    view = View(MASKS, block, as_rows)
    for frame, row, column in places(block):
        found = view.place(frame, (row + 0.5) / block[1], (column + 0.5) / block[2])
        token = row * block[2] + column
        assert found == ((frame, token) if as_rows else (0, frame * view.frame_tokens + token))
        attention = torch.zeros(1, view.tokens)
        attention[0, found[1]] = 1.0
        spread = view.of_one_row(attention, found[0]).unflatten(-1, MASKS)
        torch.testing.assert_close(spread.sum(), torch.tensor(1.0))
        # All in its own frame, and most of it where the point is.
        torch.testing.assert_close(spread[0, frame].sum(), torch.tensor(1.0))
        assert spread[0].argmax() in [
            (there * MASKS[1] + down) * MASKS[2] + across
            for there, down, across in covered((frame, row, column), block, MASKS)
        ]


def test_all_frames_of_a_latent_stand_in_one_clip() -> None:
    view, tensor = View(MASKS, MASKS, frames_as_rows=True), random_values(6, 2, 24, 5)
    clip = view.clip(tensor)
    assert clip.shape == (2, 2, 72, 5)
    for latent, frame in product(range(2), range(3)):
        assert torch.equal(clip[latent, :, frame * 24 : (frame + 1) * 24], tensor[latent * 3 + frame])
    assert view.rows_of(slice(1, 2)) == slice(3, 6) and view.rows_of(None) is None
    assert View(MASKS, MASKS).is_plain and not view.is_plain and not View(MASKS, GRIDS[1]).is_plain
