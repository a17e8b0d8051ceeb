"""Which pictures of a long video belong to which segment."""

from itertools import pairwise

import torch

from kvshare_core.blending import window_weights
from kvshare_core.timeline import Timeline

HALF = 0.5 - 1e-9
"""Half of the weight, with room for rounding."""


def own_pictures(timeline: Timeline) -> tuple[tuple[int, int], ...]:
    """Pictures [first, last) of every segment in which its weight is at least one half."""
    spans = []
    for segment in timeline.segments:
        frames = (_weights(timeline, segment.index) >= HALF).nonzero()[:, 0].tolist()
        spans.append(timeline.picture_range(segment.start + frames[0], segment.start + frames[-1] + 1))
    return tuple(spans)


def seam_pictures(timeline: Timeline) -> tuple[int | None, ...]:
    """For every pair of neighbouring segments the first picture in which the later one weighs at least one half; None
    where they share no frames."""
    own = own_pictures(timeline)
    return tuple(
        own[later.index][0] if later.start < earlier.stop else None for earlier, later in pairwise(timeline.segments)
    )


def _weights(timeline: Timeline, index: int) -> torch.Tensor:
    overlap_before = timeline.overlap if index > 0 else 0
    overlap_after = timeline.overlap if index + 1 < len(timeline.segments) else 0
    return window_weights(timeline.window, overlap_before, overlap_after)
