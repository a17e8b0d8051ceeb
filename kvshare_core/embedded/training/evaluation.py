"""How well the VAE reproduces scenes that training never showed."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..latents import LatentBasis
from ..scenes import render, sample_scenes
from ..vae import LATENT_MEAN, LATENT_STD
from .autoencoder import WanAutoencoder
from .vae import to_signed


@dataclass(frozen=True)
class AutoencoderQuality:
    """Peak signal-to-noise ratios in decibels, on held-out scenes at full size.

    `linear`: the linear inverse of the latent space, the baseline; `decoder`: its exact latents decoded;
    `noisy_decoder`: the same with noise of standard deviation 0.1 added; `round_trip`: encoded and decoded.
    `latent_error` is the encoder's root mean square error in normalised latents, whose variance is about 1;
    `flat_colour_error` is the largest mean colour error, in 0..1, over the `flat_regions` of a scene.
    """

    linear: float
    decoder: float
    noisy_decoder: float
    round_trip: float
    latent_error: float
    flat_colour_error: float


@torch.no_grad()
def evaluate(autoencoder: WanAutoencoder, basis: LatentBasis, scenes: int = 24, seed: int = 1234) -> AutoencoderQuality:
    """Measures `autoencoder` on `scenes` seeded held-out scenes of 17 frames of 96x96 pixels, in float32 on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    squares = torch.zeros(5, dtype=torch.float64)
    colour_error = 0.0
    mean, std = (values.reshape(1, -1, 1, 1, 1) for values in (LATENT_MEAN, LATENT_STD))
    for _ in range(scenes):
        video, mask = render(sample_scenes(1, generator, held_out=True))
        latents = basis.encode(video)
        noise = torch.randn(latents.shape, generator=generator)
        raw = autoencoder.encode(to_signed(video))
        decoded = _decode(autoencoder, latents * std + mean)
        candidates = (
            basis.decode(latents),
            decoded,
            _decode(autoencoder, (latents + 0.1 * noise) * std + mean),
            _decode(autoencoder, raw),
        )
        errors = [(candidate.clamp(0, 1) - video).square().mean() for candidate in candidates]
        errors.append(((raw - mean) / std - latents).square().mean())
        squares += torch.stack(errors).double()
        for region in flat_regions(mask):
            inside = region[:, :, None]
            difference = ((decoded - video) * inside).sum((0, 1, 3, 4)) / inside.sum()
            colour_error = max(colour_error, float(difference.abs().max()))
    linear, decoder, noisy, round_trip = (-10 * math.log10(value) for value in (squares[:4] / scenes).tolist())
    return AutoencoderQuality(linear, decoder, noisy, round_trip, math.sqrt(float(squares[4]) / scenes), colour_error)


def flat_regions(mask: torch.Tensor, margin: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels well inside the subject and well outside it, at least `margin` pixels from its outline.

    `mask` [n, t, h, w] is in 0..1; so are both results, which are either 0 or 1.
    """
    near_subject, near_outside = (
        F.max_pool2d(region.float(), 2 * margin + 1, stride=1, padding=margin) for region in (mask > 0, mask < 1)
    )
    return 1 - near_outside, 1 - near_subject


def _decode(autoencoder: WanAutoencoder, raw: torch.Tensor) -> torch.Tensor:
    """Raw latents to video [n, t, 3, h, w] in 0..1."""
    return ((autoencoder.decode(raw) + 1) / 2).clamp(0, 1).transpose(1, 2)
