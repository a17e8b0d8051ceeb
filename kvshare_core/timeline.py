"""Prompts with durations become segments of equal length. Pure Python.

A prompt is a *beat*. The long latent is covered by *segments*: windows of `window` latent frames, the length the model
was trained on, each starting `window - overlap` frames after the one before. A beat takes as many segments as its
duration needs, at least one. Between two beats there may be *transitions*: segments whose text lies between the two
prompts, as in DiTCtrl's multi-prompt sampling. `latent frame` means a frame of the compressed video: the first stands
for one picture, each later one for `temporal_compression` pictures.
"""

import re
from dataclasses import dataclass
from itertools import groupby

from .words import PromptWords


class TimelineError(ValueError):
    """A timeline that cannot be planned; the message names the line or the input and the fix."""


@dataclass(frozen=True)
class PromptLine:
    """One line of the prompt text; `seconds` and `frames` are None when the line does not say them."""

    prompt: str
    seconds: float | None = None
    frames: int | None = None


@dataclass(frozen=True)
class Beat:
    """One prompt and the number of segments that show it alone, without transitions. `words` is None until a text
    encoder has seen the prompt."""

    prompt: str
    segments: int
    words: PromptWords | None = None


@dataclass(frozen=True)
class Segment:
    """Latent frames [start, start + length) of the long video, evaluated in one piece.

    beat: whose prompt leads; of a transition the beat before it. next_beat: of a transition the beat after it, else
    None. mix: weight of `next_beat`'s text in 0..1; `beat`'s weighs the rest.
    """

    index: int
    beat: int
    start: int
    length: int
    next_beat: int | None = None
    mix: float = 0.0

    @property
    def stop(self) -> int:
        return self.start + self.length


@dataclass(frozen=True)
class Timeline:
    """The plan of one long video. `overlap` and `window` are latent frames."""

    beats: tuple[Beat, ...]
    segments: tuple[Segment, ...]
    window: int
    overlap: int
    fps: float
    temporal_compression: int

    @property
    def latent_frames(self) -> int:
        return self.segments[-1].stop

    @property
    def frames(self) -> int:
        """Pictures of the decoded video."""
        return self.picture_range(0, self.latent_frames)[1]

    def picture_range(self, start: int, stop: int) -> tuple[int, int]:
        """Pictures [first, last) that latent frames [start, stop) decode to."""
        scale = self.temporal_compression
        return (0 if start == 0 else scale * (start - 1) + 1), scale * (stop - 1) + 1

    def describe(self) -> str:
        """One line for every beat, what its duration became, and one for every transition between two beats."""
        lines: list[str] = []
        for (beat, next_beat), group in groupby(self.segments, lambda segment: (segment.beat, segment.next_beat)):
            own = list(group)
            start = own[0].start if own[0].index == 0 else own[0].start + self.overlap
            first, last = self.picture_range(start, own[-1].stop)
            count = f"{len(own)} segment" + ("s" if len(own) > 1 else "")
            shown = (
                self.beats[beat].prompt
                if next_beat is None
                else f"transition from prompt {beat + 1} to prompt {next_beat + 1}"
            )
            lines.append(f"{first / self.fps:.2f}-{last / self.fps:.2f} s, frames {first}-{last - 1}, {count}: {shown}")
        lines.append(
            f"{self.frames} frames, {self.frames / self.fps:.2f} s at {self.fps:g} frames per second; "
            f"{len(self.segments)} segments of {self.window} latent frames, overlap {self.overlap}."
        )
        return "\n".join(lines)


_DURATION = re.compile(r"\[\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>s|sec|seconds?|f|frames?)\s*\]", re.IGNORECASE)


def parse_prompts(text: str) -> tuple[PromptLine, ...]:
    """Reads one prompt a line, each with an optional duration in front: `[3s] a fox runs`, `[24f] a fox sleeps`.

    Empty lines are skipped. Raises TimelineError with the line number for a broken duration or a duration without a
    prompt, and when there is no prompt at all.
    """
    lines: list[PromptLine] = []
    for number, line in enumerate(text.splitlines(), start=1):
        rest = line.strip()
        if not rest:
            continue
        seconds = frames = None
        if rest.startswith("["):
            match = _DURATION.match(rest)
            if match is None:
                raise TimelineError(
                    f"prompts, line {number}: '{rest}' starts with '[' but not with a duration; write [3s] or [24f]."
                )
            rest = rest[match.end() :].strip()
            seconds, frames = _duration(match, number)
        if not rest:
            raise TimelineError(f"prompts, line {number}: a duration without a prompt.")
        lines.append(PromptLine(rest, seconds, frames))
    if not lines:
        raise TimelineError("prompts: there is no prompt; write one a line.")
    return tuple(lines)


def _duration(match: re.Match[str], number: int) -> tuple[float | None, int | None]:
    value = float(match["number"])
    if value <= 0:
        raise TimelineError(f"prompts, line {number}: the duration must be longer than zero.")
    if match["unit"].lower().startswith("s"):
        return value, None
    if value != int(value):
        raise TimelineError(f"prompts, line {number}: {match['number']} frames; frames are whole numbers.")
    return None, int(value)


def plan_timeline(
    lines: tuple[PromptLine, ...],
    window: int,
    overlap: int,
    fps: float,
    temporal_compression: int,
    num_transition_blocks: int = 0,
    longer_mid_segment: int = 0,
) -> Timeline:
    """Covers the beats with segments of `window` latent frames that share `overlap` latent frames with their neighbour.

    A beat without a duration takes one segment, and `longer_mid_segment` more when it is neither first nor last. A beat
    with a duration takes the number of segments whose new pictures come closest to it, wherever it stands.
    `num_transition_blocks` segments are added between neighbouring beats, on top of their durations; they divide the
    way from one text to the next evenly. Both numbers are those of DiTCtrl's released code, which has no durations.
    Raises TimelineError when the window or the overlap is impossible or a number is negative.
    """
    if window < 1:
        raise TimelineError(f"sampling_num_frames: {window} latent frames; a segment needs at least 1.")
    if not 0 <= overlap < window:
        raise TimelineError(
            f"overlap_size: {overlap} latent frames; it must be at least 0 and less than a segment's {window}."
        )
    if fps <= 0:
        raise TimelineError(f"fps: {fps}; it must be larger than 0.")
    for name, number in (("num_transition_blocks", num_transition_blocks), ("longer_mid_segment", longer_mid_segment)):
        if number < 0:
            raise TimelineError(f"{name}: {number} segments; it must be at least 0.")
    stride = window - overlap
    first_pictures = temporal_compression * (window - 1) + 1
    beats: list[Beat] = []
    for number, line in enumerate(lines):
        wanted = line.frames if line.frames is not None else None if line.seconds is None else line.seconds * fps
        count = 1 + (longer_mid_segment if 0 < number < len(lines) - 1 else 0)
        if wanted is not None:
            missing = wanted - (first_pictures if number == 0 else 0)
            count = max(1, round(missing / (stride * temporal_compression)) + (number == 0))
        beats.append(Beat(line.prompt, count))
    shown: list[tuple[int, int | None, float]] = []
    for number, beat in enumerate(beats):
        shown += [(number, None, 0.0)] * beat.segments
        if number < len(beats) - 1:
            parts = num_transition_blocks + 1
            shown += [(number, number + 1, part / parts) for part in range(1, parts)]
    segments = tuple(
        Segment(index, beat, index * stride, window, next_beat, mix)
        for index, (beat, next_beat, mix) in enumerate(shown)
    )
    return Timeline(tuple(beats), segments, window, overlap, fps, temporal_compression)
