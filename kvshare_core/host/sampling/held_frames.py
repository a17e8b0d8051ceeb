"""Frames that the run's noise mask holds: skips segments of held frames only, and restores held frames exactly.

The host noises held frames to every step's level and puts them into every prediction, so segments attend to them like
to any others. Its last step and its scaling of latents leave rounding errors in them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from comfy.sampler_helpers import prepare_mask
from comfy.utils import unpack_latents

from ...timeline.timeline import FRAME_DIM, Timeline
from .packed_latent import Stretch


@dataclass(frozen=True)
class HeldFrames:
    """mask: which values of the run's latent are held; free: for each of its parts, which frames are not wholly held;
    latent: the held values, None when the run ends before all noise is gone."""

    mask: torch.Tensor
    free: tuple[tuple[bool, ...], ...]
    latent: torch.Tensor | None

    def free_segments(self, stretches: Sequence[Sequence[Stretch]]) -> set[int]:
        """Segments that show a frame that is not held; stretches: for each part of the latent, those of all
        segments."""
        found: set[int] = set()
        for free, part in zip(self.free, stretches, strict=True):
            for index, stretch in enumerate(part):
                shown = range(stretch.start + stretch.fade.first, stretch.start + stretch.fade.stop)
                if any(free[frame % len(free)] for frame in shown):
                    found.add(index)
        return found

    def touched_segments(self, timeline: Timeline) -> set[int]:
        """Segments that contain a held frame of the video."""
        free = self.free[0]
        return {
            segment.index
            for segment in timeline.segments
            if not all(free[frame % len(free)] for frame in range(segment.start, segment.stop))
        }

    def put_back(self, result: torch.Tensor) -> torch.Tensor:
        """The sampled latent, with the held values put back."""
        if self.latent is None:
            return result
        return torch.where(self.mask.to(result.device), self.latent.to(result), result)


def held_frames(args: Sequence[Any], kwargs: Mapping[str, Any], model_options: Mapping[str, Any]) -> HeldFrames | None:
    """The frames held by the arguments of the host's `outer_sample`; None when there are none, or when another node
    changes the mask from step to step."""
    noise, latent, _, sigmas, *rest = args
    mask = rest[0] if rest else kwargs.get("denoise_mask")
    if mask is None or "denoise_mask_function" in model_options:
        return None
    if mask.shape != noise.shape:
        mask = prepare_mask(mask, noise.shape, "cpu")
    shapes = kwargs.get("latent_shapes") or ()
    parts = unpack_latents(mask, shapes) if len(shapes) > 1 else [mask]
    free = tuple(tuple((part > 0).movedim(FRAME_DIM, 0).flatten(1).any(1).tolist()) for part in parts)
    return HeldFrames(mask == 0, free, latent if float(sigmas[-1]) == 0 else None)
