"""Attention maps as pictures, for people to look at; the numbers are in the maps themselves."""

from collections.abc import Iterator

import torch

from .kept_maps import KeptMap
from .preview import heat_colours

LEAST_SIDE = 256
"""Pixels that a picture's longer side has at least: maps are small."""
GAP = 1
"""Pixels between two tiles, before they are enlarged."""


def matrix_picture(values: torch.Tensor) -> torch.Tensor:
    """Values [rows, columns] as colours [h, w, 3] from 0 to the largest value; every value is a square of pixels."""
    scaled = values / values.amax().clamp(min=1e-12)
    return _enlarged(heat_colours(scaled.nan_to_num(0.0, 1.0, 0.0)))


def row_picture(values: torch.Tensor) -> torch.Tensor:
    """Values [rows, frames, h, w] as tiles, the frames of a row side by side, each row from 0 to its largest value."""
    scaled = values / values.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
    tiles = torch.nn.functional.pad(heat_colours(scaled.nan_to_num(0.0, 1.0, 0.0)), (0, 0, 0, GAP, 0, GAP), value=1.0)
    rows, frames, height, width, _ = tiles.shape
    whole = tiles.permute(0, 2, 1, 3, 4).reshape(rows * height, frames * width, 3)
    return _enlarged(whole[:-GAP, :-GAP])


def kept_pictures(kept: KeptMap) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and picture of each map of the first video: a row of frames for every word, and matrices."""
    for kind, values in kept.found().items():
        yield kind, row_picture(values[0]) if kind == "text_video" else matrix_picture(values[0])


def _enlarged(picture: torch.Tensor) -> torch.Tensor:
    """Every pixel as a square of pixels, so that the picture is large enough to look at."""
    factor = max(1, -(-LEAST_SIDE // max(picture.shape[:2])))
    return picture.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
