"""Rotary position embedding as products of complex numbers in float64, to compare the core's rotation with."""

import math

import torch

from kvshare_core.attention.rope import (
    RopeScheme,
)


def rotated_reference(raw: torch.Tensor, scheme: RopeScheme, position: torch.Tensor) -> torch.Tensor:
    """Unrotated float64 keys rotated at `position` [tokens, 3], as products of complex numbers."""
    frequencies = [torch.tensor(axis, dtype=torch.float64) for axis in scheme.frequencies]
    angle = torch.cat([torch.outer(position[:, axis].double(), frequencies[axis]) for axis in range(3)], dim=-1)
    pairs = raw[..., : 2 * scheme.pairs]
    if scheme.layout == "interleaved":
        turned = torch.view_as_complex(pairs.unflatten(-1, (-1, 2)).contiguous())
        turned = torch.view_as_real(turned * torch.polar(torch.ones_like(angle), angle)).flatten(-2)
    else:
        turned = torch.complex(*pairs.chunk(2, dim=-1)) * torch.polar(torch.ones_like(angle), angle)
        turned = torch.cat([turned.real, turned.imag], dim=-1)
    return torch.cat([turned, raw[..., 2 * scheme.pairs :]], dim=-1)


def reference_positions(places: torch.Tensor, scheme: RopeScheme, grid: tuple[int, int, int]) -> torch.Tensor:
    """The positions [tokens, 3], float64, of places (frame, height, width) [tokens, 3] in a token grid, one by one."""
    along = 1.0 if scheme.picture_side is None else scheme.picture_side / math.sqrt(grid[1] * grid[2])
    rows: list[list[float]] = []
    for frame, height, width in places.tolist():
        time, place = 0.0, 0
        while place < frame:
            time += scheme.frame_spans[place % len(scheme.frame_spans)] * min(1.0, frame - place)
            place += 1
        while place > frame:
            place -= 1
            time -= scheme.frame_spans[place % len(scheme.frame_spans)] * min(1.0, place + 1 - frame)
        rows.append([time, height * along, width * along])
    return torch.tensor(rows, dtype=torch.float64)
