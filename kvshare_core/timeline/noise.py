"""The initial noise of a long video: shared by its windows or its beats, and drawn anew for beats with a seed
offset."""

from collections.abc import Callable, Iterable

import torch

from .timeline import Timeline

SEEDS = 2**64
"""How many seeds there are; they wrap around."""


def wants_noise(timeline: Timeline) -> bool:
    """Whether the timeline needs other noise than the sampler's."""
    return timeline.noise != "plain" or any(beat.script.seed_offset for beat in timeline.beats)


def timeline_noise(
    timeline: Timeline, noise: torch.Tensor, seed: int, draw: Callable[[int], torch.Tensor] | None, dim: int = 2
) -> torch.Tensor:
    """`noise`, whose dimension `dim` is the timeline's latent frames, arranged for the timeline.

    draw: the sampler's noise for another seed, of the same shape; None ignores the beats' own seeds. The frames of a
    beat with a seed offset have the noise that the whole video would have with its seed plus the offset; all other
    frames are unchanged, bit for bit.
    """
    result = _arranged(timeline, noise, seed, dim)
    for beat in timeline.beats:
        if beat.script.seed_offset and draw is not None:
            other = (seed + beat.script.seed_offset) % SEEDS
            own = _arranged(timeline, draw(other), other, dim).narrow(dim, beat.start, beat.stop - beat.start)
            frames = torch.arange(beat.start, beat.stop, device=result.device)
            result = result.index_copy(dim, frames, own.to(result))
    return result


def _arranged(timeline: Timeline, noise: torch.Tensor, seed: int, dim: int) -> torch.Tensor:
    if timeline.noise == "plain":
        return noise
    if timeline.noise == "same":
        order = same_order(timeline)
    else:
        order = shared_order(timeline.latent_frames, timeline.window, (s.stop for s in timeline.segments), seed)
    return noise.index_select(dim, order.to(noise.device))


def same_order(timeline: Timeline) -> torch.Tensor:
    """The frame whose noise each frame has, [frames]: every beat has that of the first from its beginning on, and noise
    of its own beyond the first beat's length. DiTCtrl begins an edit so (sample_video_edit.py)."""
    order = torch.arange(timeline.latent_frames)
    first, *others = timeline.beats
    for beat in others:
        length = min(beat.stop - beat.start, first.stop - first.start)
        order[beat.start : beat.start + length] = torch.arange(first.start, first.start + length)
    return order


def shared_order(frames: int, window: int, stops: Iterable[int], seed: int) -> torch.Tensor:
    """The frame of the first window whose noise each frame has, [frames]: every window has the same noise.

    FreeNoise (Qiu et al. 2023, section 3.2, "noise rescheduling"): the new frames of a window have the noise of the
    frames that the window has left, shuffled. In the paper all windows are a stride apart, and strides are shuffled;
    here the windows are the timeline's and end at `stops`. In a loop, windows across the end have the noise of both
    ends.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.arange(frames)
    covered = window
    for stop in sorted({min(stop, frames) for stop in stops}):
        new = stop - covered
        if new > 0:
            left = order[covered - window : covered - window + new]
            order[covered:stop] = left[torch.randperm(new, generator=generator)]
            covered = stop
    return order
