"""The latent space of the embedded model: principal components of 8x8x4 pixel blocks.

A block is what one Wan latent position covers: 8x8 pixels of 4 frames (the first latent frame covers one frame, taken
four times). Its pixels are projected on the 16 strongest components of rendered scenes and half whitened: each channel
is divided by the square root of its standard deviation, which leaves a mean variance of about one and neither drowns
outlines in colour nor colour in outlines. The basis comes from one eigendecomposition of seeded renderings, so it is
reproducible in seconds, needs no network, and lets the transformer and the two halves of the VAE be trained each on
its own against the same target.
"""

from dataclasses import dataclass

import torch
from einops import rearrange

from .scenes import FRAMES, render, sample_scenes

CHANNELS = 16
BLOCK_FRAMES = 4
BLOCK_SIDE = 8
NATIVE_LATENT_FRAMES = (FRAMES - 1) // BLOCK_FRAMES + 1
"""Latent frames of a training clip; longer videos are evaluated as segments of this length."""


@dataclass(frozen=True)
class LatentBasis:
    """`mean` [768], `components` [768, 16] and `scale` [16]: latent = (block - mean) @ components / scale."""

    mean: torch.Tensor
    components: torch.Tensor
    scale: torch.Tensor

    def encode(self, video: torch.Tensor) -> torch.Tensor:
        """Video [n, 4 * t - 3, 3, h, w] in 0..1 to latents [n, 16, t, h / 8, w / 8]."""
        return rearrange((to_blocks(video) - self.mean) @ self.components / self.scale, "n t h w c -> n c t h w")

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """The linear inverse of `encode` (what the 16 components hold): latents to video [n, 4 * t - 3, 3, h, w]."""
        blocks = rearrange(latents, "n c t h w -> n t h w c") * self.scale @ self.components.T + self.mean
        video = rearrange(
            blocks,
            "n t h w (f c p q) -> n (t f) c (h p) (w q)",
            f=BLOCK_FRAMES,
            p=BLOCK_SIDE,
            q=BLOCK_SIDE,
        )
        return video[:, BLOCK_FRAMES - 1 :]


def to_blocks(video: torch.Tensor) -> torch.Tensor:
    """Video [n, 4 * t - 3, 3, h, w] to blocks [n, t, h / 8, w / 8, 768]."""
    padded = torch.cat([video[:, :1].expand(-1, BLOCK_FRAMES - 1, -1, -1, -1), video], dim=1)
    return rearrange(padded, "n (t f) c (h p) (w q) -> n t h w (f c p q)", f=BLOCK_FRAMES, p=BLOCK_SIDE, q=BLOCK_SIDE)


def fit_basis(seed: int = 0, scenes: int = 768) -> LatentBasis:
    """Principal components of `scenes` seeded renderings (training combinations only)."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(768, dtype=torch.float64)
    second = torch.zeros(768, 768, dtype=torch.float64)
    count = 0
    for _ in range(scenes // 64):
        video, _ = render(sample_scenes(64, generator))
        blocks = to_blocks(video).reshape(-1, 768)
        total += blocks.sum(0, dtype=torch.float64)
        second += (blocks.T @ blocks).double()
        count += blocks.shape[0]
    mean = total / count
    values, vectors = torch.linalg.eigh(second / count - torch.outer(mean, mean))
    components = vectors[:, -CHANNELS:].flip(1)
    components = components * torch.sign(components.sum(0))
    return LatentBasis(mean.float(), components.float(), values[-CHANNELS:].flip(0).pow(0.25).float())
