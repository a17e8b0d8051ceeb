"""Keeps the colours of later segments near those of the first one."""

import torch

from ..devices import upload

LEAST_SPREAD = 1e-6
"""Channels that vary less than this are shifted but not scaled."""


def match_to_anchor(latent: torch.Tensor, parts: torch.Tensor, strength: float) -> torch.Tensor:
    """`latent` [batch, channels, frames, height, width] with the mean and the standard deviation of every channel of
    every segment moved towards those of the first segment, by `strength` of the way, 0 to 1.

    parts: the part of every segment in every frame, [segments, frames], each frame's sum one. Statistics are of the
    frames in which a segment has a part, of every latent of the batch for itself. What a frame becomes is blended by
    the parts, so that the change fades as the segments do; frames of the first segment alone stay bit for bit.

    Source: matching statistics against the drift of long videos is AdaIN (Huang and Belongie 2017) as tiled samplers
    use it; the strength and the blending are this pack's.
    """
    parts = upload(parts, latent.device)
    shown = (parts > 0).to(latent.dtype)
    spread, centre = torch.var_mean(latent, dim=(-2, -1), correction=0)
    counts = shown.sum(1)
    mean = centre @ shown.T / counts
    between = (centre[:, :, None, :] - mean[..., None]) ** 2
    deviation = ((spread[:, :, None, :] + between) * shown).sum(-1).div(counts).sqrt()
    scale = torch.where(deviation > LEAST_SPREAD, deviation[..., :1] / deviation.clamp(min=LEAST_SPREAD), 1.0)
    gain = 1 + strength * (scale - 1)
    shift = mean + strength * (mean[..., :1] - mean) - gain * mean
    gain[..., 0], shift[..., 0] = 1.0, 0.0
    weights = parts.to(latent.dtype)
    return latent * (gain @ weights)[..., None, None] + (shift @ weights)[..., None, None]
