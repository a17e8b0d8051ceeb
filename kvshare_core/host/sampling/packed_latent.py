"""A sampler's latent as its parts: the video and, for models that make both, the audio packed with it.

Hosts pack the parts into [batch, 1, numbers] and give the model their shapes. Every segment has the
stretch of audio that sounds while its pictures are shown, so that both begin at the same moment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from comfy.utils import pack_latents, unpack_latents

from ...families.model_inputs import LATENT_SHAPES, PackedAudio
from ...timeline.fades import Fade, OverlapAdd, fade_of, take_frames
from ...timeline.pictures import as_pictures, as_video
from ...timeline.timeline import FRAME_DIM, Timeline

Conditioning = list[dict[str, Any]]


@dataclass(frozen=True)
class Stretch:
    """A segment's start and length along the time of a part, and what counts of it."""

    start: int
    fade: Fade

    @property
    def length(self) -> int:
        return self.fade.length

    def counting(self) -> range:
        """The positions that count; in a loop they may go on over the end."""
        return range(self.start + self.fade.first, self.start + self.fade.stop)


@dataclass(frozen=True)
class Latent:
    """parts: video [batch, channels, frames, height, width] and maybe audio. stretches: of each part, the stretch of
    every segment. times: of each part, the dimension that is time."""

    parts: tuple[torch.Tensor, ...]
    stretches: tuple[tuple[Stretch, ...], ...]
    times: tuple[int, ...] = (FRAME_DIM,)

    @property
    def video(self) -> torch.Tensor:
        return self.parts[0]

    def piece(self, segment: int) -> torch.Tensor:
        """The latent of one segment as the host's sampler would have it."""
        pieces: list[torch.Tensor] = []
        for part, stretches, time in zip(self.parts, self.stretches, self.times, strict=True):
            pieces.append(take_frames(part, time, stretches[segment].start, stretches[segment].length))
        return joined(pieces)

    def video_of(self, segment: int, output: torch.Tensor) -> torch.Tensor:
        """The video of what the sampler would have for one segment."""
        return video_part(output, self.shapes(segment))

    def with_video(self, video: torch.Tensor) -> torch.Tensor:
        """The whole latent as the host's sampler would have it, with another video."""
        return joined([video, *self.parts[1:]])

    def shapes(self, segment: int) -> list[torch.Size]:
        """Of the parts of one segment."""
        return [
            torch.Size([*part.shape[:time], stretches[segment].length, *part.shape[time + 1 :]])
            for part, stretches, time in zip(self.parts, self.stretches, self.times, strict=True)
        ]

    def conditioning(
        self, entries: Conditioning | None, segment: int, of_audio: Sequence[str] = ()
    ) -> Conditioning | None:
        """`entries` of a segment, telling the model the shapes of that segment's parts; of_audio: names of the inputs
        that are cut with the audio."""
        if len(self.parts) == 1 or entries is None:
            return entries
        return [self._shaped(entry, segment, of_audio) for entry in entries]

    def audio_windows(self, segment: int) -> dict[int, "AudioWindow"]:
        """What the host asks of a context window that has audio too, by the number of the part."""
        return {
            number: AudioWindow(stretches[segment].start, stretches[segment].length, time)
            for number, (stretches, time) in enumerate(zip(self.stretches, self.times, strict=True))
            if number > 0
        }

    def _shaped(self, entry: dict[str, Any], segment: int, of_audio: Sequence[str]) -> dict[str, Any]:
        conds = dict(entry["model_conds"])
        conds[LATENT_SHAPES] = conds[LATENT_SHAPES]._copy_with(self.shapes(segment))
        for name in conds.keys() & set(of_audio):
            stretch = self.stretches[1][segment]
            conds[name] = conds[name]._copy_with(conds[name].cond.narrow(self.times[1], stretch.start, stretch.length))
        return {**entry, "model_conds": conds}


@dataclass(frozen=True)
class AudioWindow:
    """The audio steps of one segment, in the form in which the host's models cut their audio inputs."""

    start: int
    length: int
    time: int = FRAME_DIM

    def get_tensor(
        self, full: torch.Tensor, device: torch.device | None = None, dim: int | None = None, **_: Any
    ) -> torch.Tensor:
        return full.narrow(self.time if dim is None else dim, self.start, self.length).to(device)


class Blend:
    """Adds up what the segments of a latent became, each part along its own time."""

    def __init__(self, latent: Latent):
        self.latent = latent
        self.sums = [OverlapAdd(part, time) for part, time in zip(latent.parts, latent.times, strict=True)]

    def add(self, segment: int, output: torch.Tensor, weights: Callable[[Fade], torch.Tensor]) -> None:
        """weights: of a stretch's frames, [length]."""
        # Older hosts cannot unpack what is not packed.
        pieces = unpack_latents(output, self.latent.shapes(segment)) if len(self.sums) > 1 else [output]
        for total, piece, stretches in zip(self.sums, pieces, self.latent.stretches, strict=True):
            total.add(stretches[segment].start, piece, weights(stretches[segment].fade))

    def result(self, complete: bool = True) -> torch.Tensor:
        """The whole latent; unless all segments were added to make it `complete`, the rest is as it was."""
        parts = self.latent.parts
        return joined([total.result(None if complete else part) for total, part in zip(self.sums, parts, strict=True)])


def part_shapes(conds: Sequence[Conditioning | None]) -> list[torch.Size]:
    """Shapes of what the host packed into the latent, as its models are told; none where nothing is packed."""
    shapes = next(
        (inputs[LATENT_SHAPES].cond for inputs in _inputs(conds) if LATENT_SHAPES in inputs),
        (),
    )
    return list(shapes) if len(shapes) > 1 else []


def latent_of(
    x_in: torch.Tensor, conds: Sequence[Conditioning | None], timeline: Timeline, audio: PackedAudio | None
) -> Latent:
    """The parts of a latent that has the timeline's frames, each with the timeline's segments; audio: what the model's
    family states about parts other than the video."""
    shapes = part_shapes(conds)
    parts = tuple(unpack_latents(x_in, shapes)) if shapes else (x_in,)
    return Latent(parts, stretches_of(timeline, [part.shape for part in parts], audio), part_times(audio, len(parts)))


def stretches_of(
    timeline: Timeline, shapes: Sequence[Sequence[int]], audio: PackedAudio | None
) -> tuple[tuple[Stretch, ...], ...]:
    """The stretches of every segment in each part of a latent, by the shapes of the parts, the video's first."""
    video = tuple(Stretch(segment.start, fade_of(segment)) for segment in timeline.segments)
    times = part_times(audio, len(shapes))
    sounds = (audio_stretches(timeline, shape[time]) for shape, time in zip(shapes[1:], times[1:], strict=True))
    return (video, *sounds)


def part_times(audio: PackedAudio | None, parts: int, frames_in_batch: bool = False) -> tuple[int, ...]:
    """For each of that many parts of a latent, the dimension that is time. frames_in_batch: whether it is a batch of
    pictures."""
    return (0 if frames_in_batch else FRAME_DIM, *(FRAME_DIM if audio is None else audio.time_dim,) * (parts - 1))


def audio_stretches(timeline: Timeline, steps: int) -> tuple[Stretch, ...]:
    """Audio steps of every segment, when the timeline's pictures last `steps` of them.

    The model takes the first frame of any latent for one picture, which in a later segment is the last of those that
    the frame becomes: there its audio begins. It ends with the segment's last picture; what counts of it lasts until
    the next segment's begins to count.
    """
    pictures = timeline.frames

    def step_at(picture: int) -> int:
        return round(picture * steps / pictures)

    def starting(frame: int) -> int:
        return min(step_at(timeline.picture_range(frame, frame + 1)[1] - 1), steps - 1)

    def ending(frame: int) -> int:
        return step_at(timeline.picture_range(0, frame)[1])

    firsts = [starting(segment.shown_start) for segment in timeline.segments]
    stops = [
        max(ending(segment.shown_stop), first + 1, following)
        for segment, first, following in zip(timeline.segments, firsts, [*firsts[1:], steps], strict=True)
    ]
    fades = [0, *(max(0, stop - first) for stop, first in zip(stops, firsts[1:], strict=False)), 0]
    stretches: list[Stretch] = []
    for index, segment in enumerate(timeline.segments):
        start = starting(segment.start)
        length = max(ending(segment.stop), stops[index]) - start
        fade = Fade(length, firsts[index] - start, stops[index] - start, fades[index], fades[index + 1])
        stretches.append(Stretch(start, fade))
    return tuple(stretches)


def check_audio(
    audio: PackedAudio, model: Any, conds: Sequence[Conditioning | None], timeline: Timeline, shape: Sequence[int]
) -> None:
    """Raises ValueError unless audio of that `shape` lasts as long as the timeline's pictures, a step more or less.

    A single segment is left to the host, which takes any length.
    """
    if timeline.script.loop:
        raise ValueError(
            "Mask-Guided KV Share: the latent has audio, which cannot go round in a loop. Sample the video alone, or "
            "take loop out of the timeline."
        )
    if len(timeline.segments) == 1:
        return
    rate = audio.pictures_per_second
    if isinstance(rate, str):
        rate = float(next(inputs[rate].cond for inputs in _inputs(conds) if rate in inputs))
    steps = shape[audio.time_dim]
    expected = round(timeline.frames / rate * audio.steps_per_second(model.diffusion_model))
    if abs(steps - expected) > 1:
        raise ValueError(
            f"Mask-Guided KV Share: the latent has {steps} steps of audio, but {timeline.frames} pictures at {rate:g} "
            f"a second last {expected}. {audio.fix.format(pictures=timeline.frames, rate=rate)}"
        )


def _inputs(conds: Sequence[Conditioning | None]) -> list[dict[str, Any]]:
    return [entry.get("model_conds", {}) for cond in conds for entry in cond or ()]


def evaluating_pictures(calc_cond_batch: Callable[..., list[torch.Tensor]]) -> Callable[..., list[torch.Tensor]]:
    """The host's evaluation of a segment, for models whose latent is a batch of pictures: takes and gives videos."""

    def calc(
        model: Any, conds: list[Any], piece: torch.Tensor, timestep: torch.Tensor, model_options: dict[str, Any]
    ) -> list[torch.Tensor]:
        pictures = as_pictures(piece)
        # Samplers give every picture the same noise level.
        levels = timestep[:1].expand(len(pictures))
        return [as_video(output) for output in calc_cond_batch(model, conds, pictures, levels, model_options)]

    return calc


def video_part(latent: torch.Tensor, shapes: Sequence[Any]) -> torch.Tensor:
    """The video of a latent as the host's sampler has it; shapes: of its parts, the video first."""
    # Older hosts cannot unpack what is not packed.
    return unpack_latents(latent, shapes)[0] if len(shapes) > 1 else latent


def joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """The parts of a latent as the host's sampler has them."""
    return parts[0] if len(parts) == 1 else pack_latents(parts)[0]
