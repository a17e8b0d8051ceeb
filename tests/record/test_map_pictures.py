"""Pictures of attention maps: what lies where, and how bright."""

import torch

from kvshare_core.record.kept_maps import KeptMap
from kvshare_core.record.map_pictures import LEAST_SIDE, kept_pictures, matrix_picture, row_picture
from kvshare_core.record.preview import HEAT_COLOURS, heat_colours

BRIGHTEST, DARKEST = torch.tensor(HEAT_COLOURS[-1]), torch.tensor(HEAT_COLOURS[0])


def test_a_matrix_is_squares_of_pixels_from_nothing_to_its_largest_value() -> None:
    picture = matrix_picture(torch.tensor([[0.0, 2.0, 1.0], [0.0, 0.0, 0.0]]))
    size = -(-LEAST_SIDE // 3)
    assert picture.shape == (2 * size, 3 * size, 3)
    assert torch.equal(picture[size - 1, 2 * size - 1], BRIGHTEST) and torch.equal(picture[size, size], DARKEST)
    assert torch.equal(picture[0, -1], heat_colours(torch.tensor(0.5)))


def test_rows_are_scaled_each_by_itself_and_frames_stand_side_by_side() -> None:
    values = torch.zeros(2, 3, 4, 5)
    values[0, 1, 2, 3], values[1, 2, 0, 0], values[1, 0, 3, 4] = 8.0, 0.5, 0.25
    picture = row_picture(values)
    factor = picture.shape[1] // (3 * 5 + 2)
    assert picture.shape == ((2 * 4 + 1) * factor, (3 * 5 + 2) * factor, 3)

    def at(row: int, column: int) -> torch.Tensor:
        return picture[row * factor, column * factor]

    assert torch.equal(at(2, 6 + 3), BRIGHTEST) and torch.equal(at(5, 12), BRIGHTEST)
    assert torch.equal(at(5 + 3, 4), heat_colours(torch.tensor(0.5)))
    assert torch.equal(at(0, 0), DARKEST)
    assert torch.equal(at(4, 0), torch.ones(3)) and torch.equal(at(0, 5), torch.ones(3))


def test_every_map_that_there_is_has_a_picture_also_one_without_numbers() -> None:
    kept = KeptMap(0, 1, 2, ((0, "fox"),), torch.full((1, 1, 2, 2, 2), torch.nan), temporal=torch.zeros(1, 2, 2))
    pictures = dict(kept_pictures(kept))
    assert set(pictures) == {"text_video", "temporal"}
    assert all(torch.isfinite(picture).all() for picture in pictures.values())
