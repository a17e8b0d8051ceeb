"""Encodes and decodes parts and loops of a video, for which the stock nodes, made for whole videos, are not enough."""

from dataclasses import dataclass
from typing import Any

import torch

from ...timeline.timeline import Timeline

NEIGHBOURS = 4
"""Latent frames from across the seam with which the ends of a loop are decoded."""


@dataclass(frozen=True)
class Tiles:
    """How to decode in tiles, to save memory."""

    side: int
    """Pixels of a tile's sides."""

    overlap: int
    """Pixels that neighbouring tiles share."""

    frames: int
    """Video frames of a tile."""

    shared_frames: int
    """Video frames that successive tiles share."""


def encode_stretch(vae: Any, images: torch.Tensor, timeline: Timeline, start: int, frames: int) -> torch.Tensor:
    """The latent frames [start, start + frames) of the timeline, [1, channels, frames, height, width], encoded from
    their images [n, height, width, 3].

    A causal VAE encodes the first image alone into the first latent frame. Where that has to cover several, an image is
    prepended and its latent frame is dropped.
    """
    pictures = images[..., :3]
    first, last = timeline.picture_range(start, start + frames)
    if timeline.frame_cycle is not None or last - first == timeline.temporal_compression * (frames - 1) + 1:
        return vae.encode(pictures)
    return vae.encode(torch.cat([pictures[:1], pictures]))[:, :, 1:]


def decode_loop(vae: Any, samples: torch.Tensor, tiles: Tiles | None) -> torch.Tensor:
    """Images [temporal compression * frames, height, width, 3] of a video [batch, channels, frames, height, width] that
    loops from its last frame to its first; videos of a batch follow one another.

    Both ends are decoded between their neighbours in the loop, whose images are dropped: the first latent frame then
    decodes to as many images as any other. Raises ValueError for a latent that is not a video,
    or of another VAE.
    """
    if samples.ndim != 5:
        raise ValueError(f"samples: the latent has the shape {list(samples.shape)}; connect that of a video.")
    if samples.shape[1] != getattr(vae, "latent_channels", samples.shape[1]):
        raise ValueError(
            f"samples: the latent has {samples.shape[1]} channels, this vae decodes {vae.latent_channels}. Connect the "
            "VAE of the model that made the latent."
        )
    frames = samples.shape[2]
    around = torch.arange(-NEIGHBOURS, frames + NEIGHBOURS) % frames
    pictures = _decode(vae, samples[:, :, around], tiles)
    scale = (pictures.shape[1] - 1) // (len(around) - 1)
    first = scale * (NEIGHBOURS - 1) + 1
    return pictures[:, first : first + scale * frames].flatten(0, 1)


def _decode(vae: Any, samples: torch.Tensor, tiles: Tiles | None) -> torch.Tensor:
    """Videos [batch, frames, height, width, 3]."""
    if tiles is None:
        return vae.decode(samples)
    in_space, in_time = vae.spacial_compression_decode(), vae.temporal_compression_decode()
    length = max(2, tiles.frames // in_time)
    return vae.decode_tiled(
        samples,
        tile_x=tiles.side // in_space,
        tile_y=tiles.side // in_space,
        overlap=min(tiles.overlap, tiles.side // 4) // in_space,
        tile_t=length,
        overlap_t=max(1, min(length // 2, tiles.shared_frames // in_time)),
    )
