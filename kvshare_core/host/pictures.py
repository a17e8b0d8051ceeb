"""Pictures to latents and back where the stock nodes know only whole videos."""

from typing import Any

import torch

from ..timeline import Timeline


def encode_stretch(vae: Any, images: torch.Tensor, timeline: Timeline, start: int, frames: int) -> torch.Tensor:
    """The latent frames [1, channels, frames, height, width] of pictures [n, height, width, 3] that stand for latent
    frames [start, start + frames) of the timeline.

    A VAE takes the first frame of what it gets for one picture. Where it stands for several, a picture is put in front
    and what becomes of it is dropped.
    """
    pictures = images[..., :3]
    first, last = timeline.picture_range(start, start + frames)
    if last - first == timeline.temporal_compression * (frames - 1) + 1:
        return vae.encode(pictures)
    return vae.encode(torch.cat([pictures[:1], pictures]))[:, :, 1:]
