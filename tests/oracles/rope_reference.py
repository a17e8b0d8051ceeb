"""Rotary position embedding as products of complex numbers in float64, to compare the core's rotation with."""

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
