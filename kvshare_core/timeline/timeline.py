"""The plan of one long video: beats, and the segments that show them. Pure Python.

`latent frame` means a frame of the compressed video: the first decodes to one video frame, each later one to
`temporal_compression` video frames, unless the model has a cycle of its own for them.
"""

from dataclasses import dataclass
from itertools import groupby
from typing import Literal, get_args

from ..choices import wrong_choice
from ..prompt_words import PromptWords
from ..script.film import Duration, Script, ScriptBeat
from .frame_cycle import FrameCycle

BlendWeights = Literal["linear", "hann", "pyramid", "triangle"]
Noise = Literal["plain", "freenoise", "same"]
BLEND_WEIGHTS: tuple[str, ...] = get_args(BlendWeights)
NOISES: tuple[str, ...] = get_args(Noise)
FRAME_DIM = 2
"""The dimension of latents [batch, channels, latent frames, height, width] that is time."""


class TimelineError(ValueError):
    """A timeline that cannot be planned; the message names the beat or the input and the fix."""


@dataclass(frozen=True)
class Beat:
    """One prompt, with the script's common part in front, and the latent frames [start, stop) that are its time.

    script: what the user wrote; gap: latent frames by which the keys of earlier beats are moved further away; words:
    None until a text encoder has tokenised the prompt.
    """

    prompt: str
    start: int
    stop: int
    script: ScriptBeat
    gap: int = 0
    words: PromptWords | None = None


@dataclass(frozen=True)
class RoutedText:
    """The share 0..1 of `beat`'s text in each latent frame of a segment."""

    beat: int
    weights: tuple[float, ...]

    def of_token_frames(self, patch: int) -> list[float]:
        """The share in each token frame: the mean over its `patch` latent frames, of which the last may have fewer."""
        groups = (self.weights[start : start + patch] for start in range(0, len(self.weights), patch))
        return [sum(group) / len(group) for group in groups]


@dataclass(frozen=True)
class Segment:
    """Latent frames [start, start + length) of the long video, evaluated together. In a loop they may continue past the
    end at the beginning.

    beat: whose prompt it has; in a transition, the beat before it. next_beat: in a transition, the beat after it, else
    None. mix: weight of `next_beat`'s text in 0..1; `beat`'s weighs the rest. shown: first and stop of the latent
    frames that appear in the video, None for all; rise, fall: how many of them at either end are shared with a
    neighbour. texts: if some frames have another beat's text, the texts of all.
    """

    index: int
    beat: int
    start: int
    length: int
    next_beat: int | None = None
    mix: float = 0.0
    shown: tuple[int, int] | None = None
    rise: int = 0
    fall: int = 0
    texts: tuple[RoutedText, ...] = ()

    @property
    def stop(self) -> int:
        return self.start + self.length

    @property
    def shown_start(self) -> int:
        return self.start if self.shown is None else self.shown[0]

    @property
    def shown_stop(self) -> int:
        return self.stop if self.shown is None else self.shown[1]


@dataclass(frozen=True)
class Timeline:
    """The plan of one long video. `overlap`, `window` and `native_window` are latent frames; the window is the native
    one unless the whole video is shorter.

    blend_weights: how segments fade into each other; see fades.WEIGHTS. noise: `plain` is the sampler's, `freenoise`
    gives all windows the first one's, see noise.shared_order; `same` gives all beats the first one's. frame_cycle: the
    video frames of latent frames where these come in groups; windows then begin with a group. Raises TimelineError for
    an unknown name.
    """

    script: Script
    beats: tuple[Beat, ...]
    segments: tuple[Segment, ...]
    window: int
    overlap: int
    fps: float
    temporal_compression: int
    native_window: int
    blend_weights: BlendWeights = "linear"
    noise: Noise = "plain"
    frame_cycle: FrameCycle | None = None

    def __post_init__(self) -> None:
        for name, choices in (("blend_weights", BLEND_WEIGHTS), ("noise", NOISES)):
            if getattr(self, name) not in choices:
                raise TimelineError(wrong_choice(name, getattr(self, name), choices))

    @property
    def latent_frames(self) -> int:
        return self.beats[-1].stop

    @property
    def frames(self) -> int:
        """Frames of the decoded video; a loop is decoded as one."""
        return self.picture_range(0, self.latent_frames)[1]

    def picture_range(self, start: int, stop: int) -> tuple[int, int]:
        """Video frames [first, last) that latent frames [start, stop) decode to."""
        scale = self.temporal_compression
        if self.frame_cycle is not None:
            return self.frame_cycle.before(start), self.frame_cycle.before(stop)
        if self.script.loop:
            return scale * start, scale * stop
        return (0 if start == 0 else scale * (start - 1) + 1), scale * (stop - 1) + 1

    def frames_of(self, segment: Segment) -> list[int]:
        """The latent frames of a segment in its order; in a loop the beginning follows the end."""
        return [frame % self.latent_frames for frame in range(segment.start, segment.stop)]

    def pictures_of(self, segment: Segment) -> list[tuple[int, int]]:
        """First and stop of the video frames of each latent frame of a segment."""
        return [self.picture_range(frame, frame + 1) for frame in self.frames_of(segment)]

    def frame_of(self, picture: int) -> int:
        """The latent frame that decodes to video frame number `picture`."""
        scale = self.temporal_compression
        if self.frame_cycle is not None:
            return self.frame_cycle.frame_of(picture)
        return picture // scale if self.script.loop else -(-picture // scale)

    def shown_frames_of(self, segment: Segment) -> list[int]:
        """The latent frames in which a segment is shown, in its order."""
        return [frame % self.latent_frames for frame in range(segment.shown_start, segment.shown_stop)]

    def segments_at(self, frame: int) -> list[Segment]:
        """The segments that are shown in a latent frame; none when the video has no such frame."""
        return [segment for segment in self.segments if frame in self.shown_frames_of(segment)]

    def shown_frames(self, beat: int) -> list[int]:
        """The latent frames in which a beat's own segments are shown, including its fades."""
        own = [segment for segment in self.segments if segment.beat == beat and segment.next_beat is None]
        return sorted({frame for segment in own for frame in self.shown_frames_of(segment)})

    def describe(self) -> str:
        """One line for every beat with its rounded duration, for every transition between two beats, and for every fade
        or gap that was rounded to latent frames."""
        lines: list[str] = []
        for (number, next_beat), group in groupby(self.segments, lambda segment: (segment.beat, segment.next_beat)):
            own = list(group)
            beat = self.beats[number]
            start, stop = (beat.start, beat.stop) if next_beat is None else (beat.stop, self.beats[next_beat].start)
            first, last = self.picture_range(start, stop)
            count = f"{len(own)} segment" + ("s" if len(own) > 1 else "")
            shown = (
                beat.prompt + _asked_for(beat.script.duration, last - first, self.fps)
                if next_beat is None
                else f"transition from prompt {number + 1} to prompt {next_beat + 1}"
            )
            lines.append(f"{first / self.fps:.2f}-{last / self.fps:.2f} s, frames {first}-{last - 1}, {count}: {shown}")
        lines += self.rounded_transitions()
        lines.append(
            f"{self.frames} frames, {self.frames / self.fps:.2f} s at {self.fps:g} frames per second; "
            f"{len(self.segments)} segments of {self.window} latent frames, overlap {self.overlap}."
        )
        return "\n".join([*lines, *self.short_windows()])

    def short_windows(self) -> list[str]:
        """A line when the segments are shorter than the clips that the model was trained on."""
        if self.window == self.native_window:
            return []
        return [
            f"The video is shorter than the {self.native_window} latent frames of a segment, so its segments have "
            f"{self.window}: less than the model was trained on."
        ]

    def _pictures_inside(self, frames: int) -> int:
        """Pictures of that many latent frames in the middle of the video."""
        return self.temporal_compression * frames if self.frame_cycle is None else self.frame_cycle.before(frames)

    def rounded_transitions(self) -> list[str]:
        """A line for every fade and gap that was rounded to latent frames."""
        lines: list[str] = []
        rises = {segment.beat: segment.rise for segment in reversed(self.segments) if segment.next_beat is None}
        for number, beat in enumerate(self.beats):
            transition = beat.script.transition if number > 0 else None
            if transition is None:
                continue
            shared = rises[number]
            for what, asked, got in ((transition.kind, transition.duration, shared), ("gap", transition.gap, beat.gap)):
                rounded = "" if asked is None else _asked_for(asked, self._pictures_inside(got), self.fps)
                if rounded:
                    lines.append(f"The {what} before prompt {number + 1} takes {got} latent frames{rounded}.")
        return lines


def _asked_for(duration: Duration | None, pictures: int, fps: float) -> str:
    """The duration that was asked for, when `pictures` video frames are not that long."""
    if duration is None or duration.unit == "latent frames":
        return ""
    wanted = duration.value * fps if duration.unit == "seconds" else duration.value
    if abs(wanted - pictures) < 0.5:
        return ""
    return f" (asked for {duration.value:g} {duration.unit})"
