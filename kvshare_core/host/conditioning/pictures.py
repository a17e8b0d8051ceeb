"""Pictures to latents and back where the stock nodes know only whole videos."""

from dataclasses import dataclass
from typing import Any

import torch

from ...timeline.timeline import Timeline

NEIGHBOURS = 4
"""Latent frames beyond the ends of a loop that its ends are decoded with."""


@dataclass(frozen=True)
class Tiles:
    """How to decode in pieces: pixels of a piece and of what it shares with the next, and the same in pictures."""

    side: int
    overlap: int
    frames: int
    shared_frames: int


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


def decode_loop(vae: Any, samples: torch.Tensor, tiles: Tiles | None) -> torch.Tensor:
    """Pictures [temporal compression * frames, height, width, 3] of a video [batch, channels, frames, height, width]
    whose last frame goes over into its first; videos of a batch follow one another.

    Both ends are decoded as what stands between their neighbours, and the neighbours' pictures are dropped: the first
    frame then is as many pictures as any other. Raises ValueError for what is no video.
    """
    if samples.ndim != 5:
        raise ValueError(f"samples: the latent has the shape {list(samples.shape)}; connect that of a video.")
    frames = samples.shape[2]
    around = torch.arange(-NEIGHBOURS, frames + NEIGHBOURS) % frames
    pictures = _decode(vae, samples[:, :, around], tiles)
    scale = (pictures.shape[1] - 1) // (len(around) - 1)
    first = scale * (NEIGHBOURS - 1) + 1
    return pictures[:, first : first + scale * frames].flatten(0, 1)


def _decode(vae: Any, samples: torch.Tensor, tiles: Tiles | None) -> torch.Tensor:
    """Videos [batch, pictures, height, width, 3]."""
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
