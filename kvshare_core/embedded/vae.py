"""The normalisation of latents in the native layouts, and one VAE file for all of them."""

from collections.abc import Mapping

import torch

CHANNELS = 16

# Published normalisation of Wan 2.1 latents: what the VAE calls a latent is `normalised * std + mean`.
LATENT_MEAN = torch.tensor(
    [
        (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
        (0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
    ]
).flatten()
LATENT_STD = torch.tensor(
    [
        (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
        (3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
    ]
).flatten()


HUNYUAN_SCALE = 0.476986
COGVIDEOX_SCALE = 1.15258426
"""Published scales of HunyuanVideo's and CogVideoX-2B's latents: what the VAE calls a latent is normalised / scale."""


def in_scale(weights: Mapping[str, torch.Tensor], scale: float) -> dict[str, torch.Tensor]:
    """The weights of a VAE that normalises its latents as Wan does, made to have one published `scale` instead.

    Both are linear in each channel, so the 1x1x1 convolutions take the difference: a transformer of any layout works
    on the same normalised latents, and there is one VAE file for all.
    """
    folded = {name: weights[name].float() for name in ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias")}
    stretch, ones = LATENT_STD * scale, torch.ones(CHANNELS)
    rows = torch.cat([stretch, ones])
    folded["conv1.weight"] = folded["conv1.weight"] / rows.reshape(-1, 1, 1, 1, 1)
    folded["conv1.bias"] = (folded["conv1.bias"] - torch.cat([LATENT_MEAN, 0 * ones])) / rows
    folded["conv2.bias"] = folded["conv2.bias"] + folded["conv2.weight"].flatten(1) @ LATENT_MEAN
    folded["conv2.weight"] = folded["conv2.weight"] * stretch.reshape(1, -1, 1, 1, 1)
    return {**weights, **folded}
