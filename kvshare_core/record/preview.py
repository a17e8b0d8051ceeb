"""Subject maps as pictures."""

import torch
import torch.nn.functional as F

from ..timeline.timeline import Timeline
from .record import RecordedMasks

HEAT_COLOURS = ((0.0, 0.0, 0.2), (0.45, 0.0, 0.55), (0.9, 0.25, 0.25), (1.0, 0.75, 0.1), (1.0, 1.0, 0.75))
"""Colours of the heat from 0 to 1, evenly spaced, dark to bright."""


def pictures_of(masks: RecordedMasks, pictures: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Heat and mask for every decoded picture, each float [pictures, height, width] in 0..1.

    Batches follow one another, as VAEDecode lays them out. Raises ValueError when the pictures are of another run.
    """
    mask = masks.mask[:, _owners(masks.timeline, masks.mask.shape[0], pictures)]
    heat = heat_of_pictures(masks.heat, masks.timeline, pictures, height, width)
    return heat, F.interpolate(mask, (height, width), mode="nearest").flatten(0, 1)


def heat_of_pictures(heat: torch.Tensor, timeline: Timeline, pictures: int, height: int, width: int) -> torch.Tensor:
    """Heat [batch, latent frames, h, w] for every decoded picture: float [pictures, height, width].

    Batches follow one another, as VAEDecode lays them out. Raises ValueError when the pictures are of another run.
    """
    # A run that overflowed has no heat to show.
    spread = heat.nan_to_num(0.0, 1.0, 0.0)[:, _owners(timeline, heat.shape[0], pictures)]
    return F.interpolate(spread, (height, width), mode="bilinear", align_corners=False).flatten(0, 1)


def _owners(timeline: Timeline, batch: int, pictures: int) -> torch.Tensor:
    """The latent frame of each of one video's pictures."""
    if pictures != batch * timeline.frames:
        # As decoders see it that do not know of the loop.
        once = timeline.frames - timeline.temporal_compression + 1
        loop = timeline.script.loop and pictures == batch * once
        fix = "Decode a loop with Long Video Decode Loop." if loop else "Connect the decoded frames of the same run."
        raise ValueError(
            f"images: {pictures} images, but the run made {batch} video(s) of {timeline.frames} frames. {fix}"
        )
    return torch.tensor(
        [frame for frame in range(timeline.latent_frames) for _ in range(*timeline.picture_range(frame, frame + 1))]
    )


def heat_colours(heat: torch.Tensor) -> torch.Tensor:
    """Values in 0..1 of any shape to colours [..., 3], linear between HEAT_COLOURS."""
    table = torch.tensor(HEAT_COLOURS, device=heat.device)
    place = heat.clamp(0, 1) * (len(table) - 1)
    lower = place.floor().long().clamp(max=len(table) - 2)
    fraction = (place - lower)[..., None]
    return table[lower] * (1 - fraction) + table[lower + 1] * fraction


def rgb_of(images: torch.Tensor) -> torch.Tensor:
    """Pictures [pictures, h, w, channels] with three channels: of one channel grey, of four without the transparency.
    Float32, as the host saves them. Raises ValueError for anything else."""
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4) or 0 in images.shape or not images.is_floating_point():
        raise ValueError(
            f"images: they have the shape {list(images.shape)} and the dtype {images.dtype}, not [images, height, "
            "width, 3] in floating point. Connect decoded frames."
        )
    images = images.float()
    return images.expand(-1, -1, -1, 3) if images.shape[-1] == 1 else images[..., :3]


def overlay_heat(images: torch.Tensor, heat: torch.Tensor, opacity: float) -> torch.Tensor:
    """Frames [pictures, h, w, 3] with heat [pictures, h, w] laid over them; cold places stay visible."""
    alpha = (opacity * heat.to(images))[..., None]
    return images * (1 - alpha) + heat_colours(heat).to(images) * alpha


def without_heat(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames [pictures, h, w, 3] of a run without a subject as they are, and an empty mask [pictures, h, w] of each."""
    return images, images.new_zeros(images.shape[:-1])
