"""Which pictures of a long video belong to which segment."""

from kvshare_core.timeline.fades import fade_of, window_weights
from kvshare_core.timeline.timeline import Timeline

HALF = 0.5 - 1e-9
"""Half of the weight, with room for rounding."""


def own_pictures(timeline: Timeline) -> tuple[tuple[int, int], ...]:
    """Pictures [first, last) of every segment in which its weight is at least one half."""
    spans = []
    for segment in timeline.segments:
        frames = (window_weights(fade_of(segment)) >= HALF).nonzero()[:, 0].tolist()
        spans.append(timeline.picture_range(segment.start + frames[0], segment.start + frames[-1] + 1))
    return tuple(spans)


def seam_pictures(timeline: Timeline) -> tuple[int | None, ...]:
    """For every pair of neighbouring segments the first picture in which the later one weighs at least one half; None
    where they share no frames."""
    own = own_pictures(timeline)
    return tuple(own[segment.index][0] if segment.rise else None for segment in timeline.segments[1:])
