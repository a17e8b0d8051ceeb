"""Frames that the run's noise mask holds: skips segments of held frames only, and restores held frames exactly.

The host noises held frames to every step's level and puts them into every prediction, so segments attend to them like
to any others. Its last step and its scaling of latents leave rounding errors in them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from comfy.sampler_helpers import prepare_mask
from comfy.utils import unpack_latents

from ...families.model_inputs import PackedAudio
from ...timeline.timeline import Timeline
from .packed_latent import Stretch, part_times


@dataclass(frozen=True)
class HeldFrames:
    """Frames of a run's latent that stay as they are."""

    mask: torch.Tensor
    """Which values of the latent are held."""
    free: tuple[tuple[bool, ...], ...]
    """Of each of its parts, which frames are not wholly held."""
    content: torch.Tensor
    """The latent that the run begins with, with the held values in it."""
    ends_clean: bool
    """Whether the run ends without noise."""

    def behind(self, lead: int) -> "HeldFrames":
        """The same with `free` of the video behind `lead` frames of a reference picture."""
        return replace(self, free=(self.free[0][lead:], *self.free[1:]))

    def free_segments(self, stretches: Sequence[Sequence[Stretch]]) -> set[int]:
        """Segments that show a frame that is not held; stretches: for each part of the latent, those of all
        segments."""
        found: set[int] = set()
        for free, part in zip(self.free, stretches, strict=True):
            for index, stretch in enumerate(part):
                if any(free[frame % len(free)] for frame in stretch.counting()):
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
        if not self.ends_clean:
            return result
        return torch.where(self.mask.to(result.device), self.content.to(result), result)


def holds_without_noise(base_model: Any) -> bool:
    """Whether the host gives a model held frames as they are, where other models get them with the noise of the
    step."""
    # The schedule is where the model is.
    sigma, zeros = base_model.model_sampling.sigma_max.reshape(1).cpu(), torch.zeros(1, 1, 1, 1, 1)
    noised = base_model.scale_latent_inpaint(x=zeros, sigma=sigma, noise=torch.ones_like(zeros), latent_image=zeros)
    return not bool(noised.any())


def held_frames(
    arguments: Mapping[str, Any],
    model_options: Mapping[str, Any],
    audio: PackedAudio | None,
    frames_in_batch: bool = False,
) -> HeldFrames | None:
    """The frames held by the arguments of the host's `outer_sample`; None when there are none, or when another node
    changes the mask from step to step. audio: what the model's family states about audio in the latent;
    frames_in_batch: whether that is a batch of pictures."""
    noise, mask = arguments["noise"], arguments["denoise_mask"]
    if mask is None or "denoise_mask_function" in model_options:
        return None
    if mask.shape != noise.shape:
        mask = prepare_mask(mask, noise.shape, "cpu")
    shapes = arguments.get("latent_shapes") or ()
    parts = unpack_latents(mask, shapes) if len(shapes) > 1 else [mask]
    times = part_times(audio, len(parts), frames_in_batch)
    free = tuple(
        tuple((part > 0).movedim(time, 0).flatten(1).any(1).tolist()) for part, time in zip(parts, times, strict=True)
    )
    return HeldFrames(mask == 0, free, arguments["latent_image"], float(arguments["sigmas"][-1]) == 0)
