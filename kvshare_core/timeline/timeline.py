"""The plan of one long video: beats, and the segments that show them. Pure Python.

`latent frame` means a frame of the compressed video: the first stands for one picture, each later one for
`temporal_compression` pictures, unless the model has a cycle of its own for them.
"""

from dataclasses import dataclass
from itertools import groupby
from typing import Literal, get_args

from ..prompt_words import PromptWords
from ..script.film import Duration, Script, ScriptBeat
from .frame_cycle import FrameCycle

BlendWeights = Literal["linear", "hann", "pyramid", "triangle"]
Noise = Literal["plain", "freenoise"]
BLEND_WEIGHTS: tuple[str, ...] = get_args(BlendWeights)
NOISES: tuple[str, ...] = get_args(Noise)
FRAME_DIM = 2
"""The dimension of latents [batch, channels, latent frames, height, width] that is time."""


class TimelineError(ValueError):
    """A timeline that cannot be planned; the message names the beat or the input and the fix."""


@dataclass(frozen=True)
class Beat:
    """One prompt, with the script's common part in front, and the latent frames [start, stop) that are its time.

    script: what the user wrote of it; gap: latent frames by which the keys of earlier beats seem further away; words:
    None until a text encoder has seen the prompt.
    """

    prompt: str
    start: int
    stop: int
    script: ScriptBeat
    gap: int = 0
    words: PromptWords | None = None


@dataclass(frozen=True)
class RoutedText:
    """The part 0..1 that `beat`'s text has in each latent frame of a segment."""

    beat: int
    weights: tuple[float, ...]

    def of_token_frames(self, patch: int) -> list[float]:
        """The part in each token frame, which stands for `patch` latent frames, the last one for those that are left:
        their mean."""
        groups = (self.weights[start : start + patch] for start in range(0, len(self.weights), patch))
        return [sum(group) / len(group) for group in groups]


@dataclass(frozen=True)
class Segment:
    """Latent frames [start, start + length) of the long video, evaluated in one piece. In a loop they may run over the
    end into the beginning.

    beat: whose prompt leads; of a transition the beat before it. next_beat: of a transition the beat after it, else
    None. mix: weight of `next_beat`'s text in 0..1; `beat`'s weighs the rest.
    shown: first and stop of the latent frames that count, None when all do; rise, fall: frames at either end of them
    that are shared with a neighbour. texts: where frames have texts of their own, all of them.
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

    blend_weights: how segments fade into each other; see blending.WEIGHTS. noise: `plain` is the sampler's, `freenoise`
    gives all windows the first one's; see noise.shared_order. frame_cycle: the pictures of latent frames where these
    come in groups; windows then begin with a group. Raises TimelineError for an unknown name.
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
                raise TimelineError(f"{name} is '{getattr(self, name)}'; choose one of {', '.join(choices)}.")

    @property
    def latent_frames(self) -> int:
        return self.beats[-1].stop

    @property
    def frames(self) -> int:
        """Pictures of the decoded video; of a loop, when it is decoded as one."""
        return self.picture_range(0, self.latent_frames)[1]

    def picture_range(self, start: int, stop: int) -> tuple[int, int]:
        """Pictures [first, last) that latent frames [start, stop) decode to."""
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
        """First and stop of the pictures of each latent frame of a segment."""
        return [self.picture_range(frame, frame + 1) for frame in self.frames_of(segment)]

    def frame_of(self, picture: int) -> int:
        """The latent frame that decodes to picture number `picture`."""
        scale = self.temporal_compression
        if self.frame_cycle is not None:
            return self.frame_cycle.frame_of(picture)
        return picture // scale if self.script.loop else -(-picture // scale)

    def shown_frames_of(self, segment: Segment) -> list[int]:
        """The latent frames in which a segment counts, in its order."""
        return [frame % self.latent_frames for frame in range(segment.shown_start, segment.shown_stop)]

    def segments_at(self, frame: int) -> list[Segment]:
        """The segments that count in a latent frame; none where the video has no such frame."""
        return [segment for segment in self.segments if frame in self.shown_frames_of(segment)]

    def shown_frames(self, beat: int) -> list[int]:
        """The latent frames in which a beat's own segments count, those over which it fades in and out included."""
        own = [segment for segment in self.segments if segment.beat == beat and segment.next_beat is None]
        return sorted({frame for segment in own for frame in self.shown_frames_of(segment)})

    def describe(self) -> str:
        """One line for every beat, what its duration became, one for every transition between two beats, and what fades
        and gaps became that are no whole latent frames."""
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
        """A line when the segments are shorter than the model's own length."""
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
        """A line for every fade and gap that is no whole number of latent frames."""
        lines: list[str] = []
        for number, beat in enumerate(self.beats):
            transition = beat.script.transition if number > 0 else None
            if transition is None:
                continue
            shared = next(
                segment.rise for segment in self.segments if (segment.beat, segment.next_beat) == (number, None)
            )
            for what, asked, got in ((transition.kind, transition.duration, shared), ("gap", transition.gap, beat.gap)):
                rounded = "" if asked is None else _asked_for(asked, self._pictures_inside(got), self.fps)
                if rounded:
                    lines.append(f"The {what} before prompt {number + 1} takes {got} latent frames{rounded}.")
        return lines


def _asked_for(duration: Duration | None, pictures: int, fps: float) -> str:
    """What a beat of `pictures` was asked to last, where that is something else."""
    if duration is None or duration.unit == "latent frames":
        return ""
    wanted = duration.value * fps if duration.unit == "seconds" else duration.value
    if abs(wanted - pictures) < 0.5:
        return ""
    return f" (asked for {duration.value:g} {duration.unit})"
