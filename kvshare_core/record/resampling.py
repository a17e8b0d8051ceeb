"""Masks of a run in another size of the video, for a run of the same film behind a latent upscaler."""

from dataclasses import replace

import torch
from torch.nn.functional import adaptive_avg_pool2d

from .record import Examples, RecordedMasks, SegmentMasks

Size = tuple[int, int]
"""Height and width of a token grid."""


def masks_in_size(recorded: RecordedMasks, size: Size) -> SegmentMasks | None:
    """The masks of every segment, their examples and effects on a token grid of that height and width; None where the
    run recorded none. In their own size they are the recorded ones themselves.

    A token of the new grid belongs to a mask when the part of the video under it does by half or more.
    """
    segments, before = recorded.segments, (recorded.mask.shape[-2], recorded.mask.shape[-1])
    if segments is None or before == size:
        return segments
    return replace(
        segments,
        masks=tuple(None if mask is None else _in_size(mask, before, size) >= 0.5 for mask in segments.masks),
        examples=tuple(
            None if known is None else Examples(_some(known.subject, before, size), _some(known.rest, before, size))
            for known in segments.examples
        ),
        effects=tuple(None if effects is None else _in_size(effects, before, size) for effects in segments.effects),
    )


def _in_size(values: torch.Tensor, before: Size, size: Size) -> torch.Tensor:
    """Values [..., tokens] of a grid in another size: the means over what each of its tokens covers."""
    frames = values.float().unflatten(-1, (-1, *before))
    return adaptive_avg_pool2d(frames.flatten(0, -3), size).unflatten(0, frames.shape[:-2]).flatten(-3)


def _some(tokens: torch.Tensor, before: Size, size: Size) -> torch.Tensor:
    """Chosen tokens [..., tokens] in another size; of some that all become less than half a token, the largest part."""
    parts = _in_size(tokens, before, size)
    least = parts.amax(-1, keepdim=True).clamp(max=0.5)
    return (parts >= least) & (parts > 0)
