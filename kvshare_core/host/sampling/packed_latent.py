"""A sampler's latent as its parts: the video and, for models that make both, the audio packed with it.

Hosts pack the parts into [batch, 1, numbers] and give the model their shapes. Every segment has the
stretch of audio that sounds while its pictures are shown, so that both begin at the same moment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from comfy.utils import pack_latents, unpack_latents

from ...timeline.fades import Fade, OverlapAdd, fade_of, take_frames
from ...timeline.timeline import FRAME_DIM, Timeline

SHAPES = "latent_shapes"
"""Input of the model: shapes of the packed parts."""

FRAME_RATE = "frame_rate"
"""Input of the model: pictures a second."""

Conditioning = list[dict[str, Any]]


@dataclass(frozen=True)
class Stretch:
    """A segment's start and length along FRAME_DIM, which is the time of video and audio alike, and what counts of
    it."""

    start: int
    fade: Fade

    @property
    def length(self) -> int:
        return self.fade.length

    def counting(self) -> range:
        """The positions that count; in a loop they may go on over the end."""
        return range(self.start + self.fade.first, self.start + self.fade.stop)

    def of(self, part: torch.Tensor) -> torch.Tensor:
        """The stretch of a part of the latent."""
        return take_frames(part, FRAME_DIM, self.start, self.length)


@dataclass(frozen=True)
class Latent:
    """parts: video [batch, channels, frames, height, width] and maybe audio [batch, channels, steps, bands].
    stretches: of each part, the stretch of every segment."""

    parts: tuple[torch.Tensor, ...]
    stretches: tuple[tuple[Stretch, ...], ...]

    @property
    def video(self) -> torch.Tensor:
        return self.parts[0]

    def piece(self, segment: int) -> torch.Tensor:
        """The latent of one segment as the host's sampler would have it."""
        return joined([stretches[segment].of(part) for part, stretches in zip(self.parts, self.stretches, strict=True)])

    def video_of(self, segment: int, output: torch.Tensor) -> torch.Tensor:
        """The video of what the sampler would have for one segment."""
        return video_part(output, self.shapes(segment))

    def with_video(self, video: torch.Tensor) -> torch.Tensor:
        """The whole latent as the host's sampler would have it, with another video."""
        return joined([video, *self.parts[1:]])

    def shapes(self, segment: int) -> list[torch.Size]:
        """Of the parts of one segment."""
        return [
            torch.Size([*part.shape[:FRAME_DIM], stretches[segment].length, *part.shape[FRAME_DIM + 1 :]])
            for part, stretches in zip(self.parts, self.stretches, strict=True)
        ]

    def conditioning(self, entries: Conditioning | None, segment: int) -> Conditioning | None:
        """`entries` of a segment, telling the model the shapes of that segment's parts."""
        if len(self.parts) == 1 or entries is None:
            return entries
        return [self._shaped(entry, segment) for entry in entries]

    def audio_windows(self, segment: int) -> dict[int, "AudioWindow"]:
        """What the host asks of a context window that has audio too, by the number of the part."""
        return {
            number: AudioWindow(stretches[segment].start, stretches[segment].length)
            for number, stretches in enumerate(self.stretches)
            if number > 0
        }

    def _shaped(self, entry: dict[str, Any], segment: int) -> dict[str, Any]:
        conds = entry["model_conds"]
        return {**entry, "model_conds": {**conds, SHAPES: conds[SHAPES]._copy_with(self.shapes(segment))}}


@dataclass(frozen=True)
class AudioWindow:
    """The audio steps of one segment, in the form in which the host's models cut their audio inputs."""

    start: int
    length: int

    def get_tensor(
        self, full: torch.Tensor, device: torch.device | None = None, dim: int = FRAME_DIM, **_: Any
    ) -> torch.Tensor:
        return full.narrow(dim, self.start, self.length).to(device)


class Blend:
    """Adds up what the segments of a latent became, each part along its own time."""

    def __init__(self, latent: Latent):
        self.latent = latent
        self.sums = [OverlapAdd(part, FRAME_DIM) for part in latent.parts]

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
        (inputs[SHAPES].cond for inputs in _inputs(conds) if SHAPES in inputs),
        (),
    )
    return list(shapes) if len(shapes) > 1 else []


def latent_of(x_in: torch.Tensor, conds: Sequence[Conditioning | None], timeline: Timeline) -> Latent:
    """The parts of a latent that has the timeline's frames, each with the timeline's segments."""
    shapes = part_shapes(conds)
    parts = tuple(unpack_latents(x_in, shapes)) if shapes else (x_in,)
    return Latent(parts, stretches_of(timeline, [part.shape for part in parts]))


def stretches_of(timeline: Timeline, shapes: Sequence[Sequence[int]]) -> tuple[tuple[Stretch, ...], ...]:
    """The stretches of every segment in each part of a latent, by the shapes of the parts, the video's first."""
    video = tuple(Stretch(segment.start, fade_of(segment)) for segment in timeline.segments)
    return (video, *(audio_stretches(timeline, shape[FRAME_DIM]) for shape in shapes[1:]))


def audio_stretches(timeline: Timeline, steps: int) -> tuple[Stretch, ...]:
    """Audio steps of every segment, when the timeline's pictures last `steps` of them.

    The model takes the first frame of any latent for one picture, which in a later segment is the last of those that
    the frame becomes: there its audio begins. It ends with the segment's last picture; what counts of it lasts until
    the next segment's begins to count.
    """
    scale, pictures = timeline.temporal_compression, timeline.frames

    def step_at(picture: int) -> int:
        return round(picture * steps / pictures)

    def starting(frame: int) -> int:
        return min(step_at(scale * frame), steps - 1)

    def ending(frame: int) -> int:
        return step_at(scale * (frame - 1) + 1)

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


def check_audio(model: Any, conds: Sequence[Conditioning | None], timeline: Timeline, steps: int) -> None:
    """Raises ValueError unless `steps` of audio last as long as the timeline's pictures, a step more or less.

    A single segment is left to the host, which takes any length.
    """
    if timeline.script.loop:
        raise ValueError(
            "MaskGuidedKVShare: the latent has audio, which cannot go round in a loop. Sample the video alone, or take "
            "loop out of the timeline."
        )
    if len(timeline.segments) == 1:
        return
    patchifier = model.diffusion_model.a_patchifier
    per_second = patchifier.sample_rate / patchifier.hop_length / patchifier.audio_latent_downsample_factor
    rate = next(inputs[FRAME_RATE].cond for inputs in _inputs(conds) if FRAME_RATE in inputs)
    expected = round(timeline.frames / rate * per_second)
    if abs(steps - expected) > 1:
        raise ValueError(
            f"MaskGuidedKVShare: the latent has {steps} steps of audio, but {timeline.frames} pictures at {rate:g} a "
            f"second last {expected}. Set frames_number {timeline.frames} and frame_rate {rate:g} in "
            "LTXVEmptyLatentAudio, and the same frame_rate in LTXVConditioning."
        )


def _inputs(conds: Sequence[Conditioning | None]) -> list[dict[str, Any]]:
    return [entry.get("model_conds", {}) for cond in conds for entry in cond or ()]


def video_part(latent: torch.Tensor, shapes: Sequence[Any]) -> torch.Tensor:
    """The video of a latent as the host's sampler has it; shapes: of its parts, the video first."""
    # Older hosts cannot unpack what is not packed.
    return unpack_latents(latent, shapes)[0] if len(shapes) > 1 else latent


def joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """The parts of a latent as the host's sampler has them."""
    return parts[0] if len(parts) == 1 else pack_latents(parts)[0]
