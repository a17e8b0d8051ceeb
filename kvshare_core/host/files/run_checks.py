"""Whether a timeline from a file could have been planned: files may come from anywhere."""

import math
from itertools import pairwise

from ...timeline.limits import MAX_BEATS, MAX_FILM_SEGMENTS, MAX_FPS, MAX_LATENT_FRAMES, MAX_WINDOW
from ...timeline.timeline import Timeline


def check_timeline(timeline: Timeline) -> None:
    """Raises ValueError for numbers beyond the limits of a film, and for segments that are not those of its beats."""
    beats, segments = timeline.beats, timeline.segments
    numbers = (
        (len(beats), 1, MAX_BEATS, "prompts"),
        (len(segments), 1, MAX_FILM_SEGMENTS, "segments"),
        (timeline.window, 1, MAX_WINDOW, "latent frames in a segment"),
        (timeline.native_window, 1, MAX_WINDOW, "latent frames in a segment of the model"),
        (timeline.overlap, 0, MAX_WINDOW, "latent frames of overlap"),
        (timeline.temporal_compression, 1, MAX_WINDOW, "frames in a latent frame"),
        (timeline.fps, math.ulp(0.0), MAX_FPS, "frames per second"),
    )
    for number, lowest, highest, what in numbers:
        if not lowest <= number <= highest:
            raise ValueError(f"its timeline has {number:g} {what}")
    if beats[0].start != 0 or any(beat.start >= beat.stop for beat in beats) or _overlap(timeline):
        raise ValueError("the prompts of its timeline do not follow each other")
    if timeline.latent_frames > MAX_LATENT_FRAMES:
        raise ValueError(f"its timeline has {timeline.latent_frames:g} latent frames")
    if len(timeline.script.beats) != len(beats):
        raise ValueError("its timeline is not that of its script")
    _check_segments(timeline)


def _overlap(timeline: Timeline) -> bool:
    return any(later.start < earlier.stop for earlier, later in pairwise(timeline.beats))


def _check_segments(timeline: Timeline) -> None:
    count, frames, loop = len(timeline.beats), timeline.latent_frames, timeline.script.loop
    for place, segment in enumerate(timeline.segments):
        named = (segment.beat, segment.beat if segment.next_beat is None else segment.next_beat)
        named += tuple(text.beat for text in segment.texts)
        shown = segment.shown or (segment.start, segment.stop)
        if (
            segment.index != place
            or segment.length != timeline.window
            or not 0 <= segment.start < frames
            or (segment.stop > frames and not loop)
            or not all(0 <= beat < count for beat in named)
            or not all(0 <= frame <= 2 * frames for frame in shown)
            or shown[0] >= shown[1]
            or any(len(text.weights) != segment.length for text in segment.texts)
        ):
            raise ValueError(f"segment {place + 1} of its timeline is not one that a film has")
    if {segment.beat for segment in timeline.segments if segment.next_beat is None} != set(range(count)):
        raise ValueError("its timeline has prompts that no segment shows")
