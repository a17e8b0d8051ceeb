"""Frames that the run's noise mask holds: what they need not cost, and that they come out as they went in.

The host gives held frames the noise of every step and takes their place in every prediction, so segments see them and
their keys like any others. Its last step and its scaling of latents leave rounding errors in them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from comfy.sampler_helpers import prepare_mask
from comfy.utils import unpack_latents

from ...families.model_inputs import PackedAudio
from ...timeline.timeline import Timeline
from .packed_latent import Stretch, part_times


@dataclass(frozen=True)
class HeldFrames:
    """mask: which numbers of the run's latent are held; free: of each of its parts, which frames are not wholly held;
    latent: what is held, None when the run ends before all noise is gone."""

    mask: torch.Tensor
    free: tuple[tuple[bool, ...], ...]
    latent: torch.Tensor | None

    def free_segments(self, stretches: Sequence[Sequence[Stretch]]) -> set[int]:
        """Segments that show something that is not held; stretches: of each part of the latent, those of all
        segments."""
        found: set[int] = set()
        for free, part in zip(self.free, stretches, strict=True):
            for index, stretch in enumerate(part):
                shown = range(stretch.start + stretch.fade.first, stretch.start + stretch.fade.stop)
                if any(free[frame % len(free)] for frame in shown):
                    found.add(index)
        return found

    def touched_segments(self, timeline: Timeline) -> set[int]:
        """Segments that see a frame of the video that is held."""
        free = self.free[0]
        return {
            segment.index
            for segment in timeline.segments
            if not all(free[frame % len(free)] for frame in range(segment.start, segment.stop))
        }

    def put_back(self, result: torch.Tensor) -> torch.Tensor:
        """What was sampled, with what is held as it was."""
        if self.latent is None:
            return result
        return torch.where(self.mask.to(result.device), self.latent.to(result), result)


def held_frames(
    args: Sequence[Any], kwargs: Mapping[str, Any], model_options: Mapping[str, Any], audio: PackedAudio | None
) -> HeldFrames | None:
    """What the arguments of the host's `outer_sample` hold; None when they hold nothing, or when another node changes
    the mask from step to step. audio: what the model's family says of audio in the latent."""
    noise, latent, _, sigmas, *rest = args
    mask = rest[0] if rest else kwargs.get("denoise_mask")
    if mask is None or "denoise_mask_function" in model_options:
        return None
    if mask.shape != noise.shape:
        mask = prepare_mask(mask, noise.shape, "cpu")
    shapes = kwargs.get("latent_shapes") or ()
    parts = unpack_latents(mask, shapes) if len(shapes) > 1 else [mask]
    times = part_times(audio, len(parts))
    free = tuple(
        tuple((part > 0).movedim(time, 0).flatten(1).any(1).tolist()) for part, time in zip(parts, times, strict=True)
    )
    return HeldFrames(mask == 0, free, latent if float(sigmas[-1]) == 0 else None)
