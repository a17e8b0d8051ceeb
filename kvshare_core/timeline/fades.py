"""Window weights: how overlapping segments become one latent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..devices import upload
from .timeline import BlendWeights, Segment, Timeline


@dataclass(frozen=True)
class Fade:
    """The frames [first, stop) of a window of `length` that are shown, and over how many of them it fades into its
    neighbours at either end: `rise` and `fall`."""

    length: int
    first: int
    stop: int
    rise: int
    fall: int


def fade_of(segment: Segment) -> Fade:
    """The fade of a segment's latent frames."""
    first, stop = segment.shown_start - segment.start, segment.shown_stop - segment.start
    return Fade(segment.length, first, stop, segment.rise, segment.fall)


def window_weights(fade: Fade) -> torch.Tensor:
    """Weights of a window's frames, float64 [length] in 0..1.

    The weight rises linearly over the frames shared with the window before and falls over those shared with the window
    after, so that two neighbours sum to one on every shared frame. Between them it is one, and zero outside the shown
    frames.
    """
    frame = torch.arange(fade.stop - fade.first, dtype=torch.float64)
    rising = (frame + 1) / (fade.rise + 1)
    falling = (len(frame) - frame) / (fade.fall + 1)
    return _padded(fade, torch.minimum(rising, falling).clamp(max=1.0))


def triangle_weights(fade: Fade) -> torch.Tensor:
    """DiTCtrl's weights of a window's frames, [length] in 0..1: the same for every window that is shown as a whole, the
    middle frame highest (docs/ditctrl.md#how-it-works)."""
    count = fade.stop - fade.first
    rising = 2 * (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return _padded(fade, torch.minimum(rising, 2 - rising))


def hann_weights(fade: Fade) -> torch.Tensor:
    """Weights [length] in 0..1 that fade as `window_weights` do, but start and end gently: half a Hann window over each
    fade, so that two neighbours still sum to one."""
    return torch.sin(window_weights(fade) * (torch.pi / 2)) ** 2


def pyramid_weights(fade: Fade) -> torch.Tensor:
    """Weights [length] in 0..1 as the host's context windows weigh by default: the distance from the nearest end of the
    shown frames, divided by half a window. Where no more than half of a window is shared, this is a linear fade."""
    count = fade.stop - fade.first
    rising = torch.arange(1, count + 1, dtype=torch.float64)
    return _padded(fade, torch.minimum(rising, rising.flip(0)) / ((fade.length + 1) // 2))


WEIGHTS: Mapping[BlendWeights, Callable[[Fade], torch.Tensor]] = {
    "linear": window_weights,
    "hann": hann_weights,
    "pyramid": pyramid_weights,
    "triangle": triangle_weights,
}
"""Weights of a window's frames, float64 [length], by their names in the timeline."""


def weights_over_time(timeline: Timeline, weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """The share of every segment in every latent frame of the video, float64 [segments, frames]; a frame's shares sum
    to one.

    weights: of every segment's frames, [window] each, positive somewhere for every frame of the video.
    """
    total = torch.zeros(len(weights), timeline.latent_frames, dtype=torch.float64)
    for segment, own in zip(timeline.segments, weights, strict=True):
        total[segment.index].index_add_(0, torch.tensor(timeline.frames_of(segment)), own)
    return total / total.sum(0)


def _padded(fade: Fade, weights: torch.Tensor) -> torch.Tensor:
    padded = torch.zeros(fade.length, dtype=weights.dtype)
    padded[fade.first : fade.stop] = weights
    return padded


def take_frames(tensor: torch.Tensor, dim: int, start: int, length: int) -> torch.Tensor:
    """Frames [start, start + length) of `dim`, which continue at the beginning where they exceed its end; a view unless
    they do."""
    over = start + length - tensor.shape[dim]
    if over <= 0:
        return tensor.narrow(dim, start, length)
    return torch.cat([tensor.narrow(dim, start, length - over), tensor.narrow(dim, 0, over)], dim)


class OverlapAdd:
    """Adds weighted segments to a long tensor and divides by the sum of weights at the end."""

    def __init__(self, like: torch.Tensor, dim: int):
        self.dim = dim
        self.total = torch.zeros_like(like)
        self.weight = torch.zeros(like.shape[dim], dtype=torch.float64)

    def add(self, start: int, piece: torch.Tensor, weights: torch.Tensor) -> None:
        """Adds `piece`, which covers positions [start, start + len(weights)) of `dim` and continues at the beginning
        where it exceeds the end."""
        shape = [1] * piece.ndim
        shape[self.dim] = len(weights)
        scaled = piece * upload(weights.to(piece.dtype), piece.device).reshape(shape)
        fitting = min(len(weights), len(self.weight) - start)
        for place, first, count in ((start, 0, fitting), (0, fitting, len(weights) - fitting)):
            self.total.narrow(self.dim, place, count).add_(scaled.narrow(self.dim, first, count))
            self.weight[place : place + count] += weights[first : first + count]

    def result(self, elsewhere: torch.Tensor | None = None) -> torch.Tensor:
        """The blended tensor, in the memory of the sums, which it ends. elsewhere: its values where nothing was added.
        Raises ValueError when that is needed but None."""
        shape = [1] * self.total.ndim
        shape[self.dim] = len(self.weight)
        blended = self.total.div_(upload(self.weight.to(self.total.dtype), self.total.device).reshape(shape))
        covered = self.weight > 0
        if bool(covered.all()):
            return blended
        if elsewhere is None:
            raise ValueError("blending: some latent frames belong to no segment")
        return torch.where(upload(covered, blended.device).reshape(shape), blended, elsewhere)
