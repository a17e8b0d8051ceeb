"""Samples the embedded transformer without a host, from a checkpoint of its training, before a VAE exists."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from kvshare_core.embedded.latents import CHANNELS, LatentBasis
from kvshare_core.embedded.text import token_ids
from kvshare_core.embedded.training.denoiser import Denoiser
from kvshare_core.embedded.transformer import TransformerShape

SAMPLING_SHIFT = 8.0
"""The host's default shift of the flow schedule for Wan models."""
LATENT_SHAPE = (CHANNELS, 5, 12, 12)


@dataclass(frozen=True)
class LeanSampler:
    """The averaged weights of a training run at `step`, with the linear decoder of the latent basis."""

    model: Denoiser
    basis: LatentBasis
    step: int

    @torch.inference_mode()
    def sample(self, prompts: list[str], seed: int, steps: int, guidance: float) -> torch.Tensor:
        """Videos [n, 17, 3, 96, 96] in 0..1 of `prompts`; the noise of place i is that of `seed` + i."""
        noise = [
            torch.randn(LATENT_SHAPE, generator=torch.Generator().manual_seed(seed + i)) for i in range(len(prompts))
        ]
        latents = torch.stack(noise)
        said = torch.tensor([token_ids(prompt) for prompt in prompts])
        ids = torch.cat([said, torch.tensor([token_ids("")]).expand_as(said)])
        for sigma, following in pairwise(flow_sigmas(steps)):
            velocity = self.model(latents.repeat(2, 1, 1, 1, 1), sigma.expand(len(ids)), ids)
            conditioned, unconditioned = velocity.chunk(2)
            velocity = unconditioned + guidance * (conditioned - unconditioned)
            latents = latents + (following - sigma) * velocity
        return self.basis.decode(latents).clamp(0, 1)


def load_lean_sampler(checkpoint: Path, basis: LatentBasis) -> LeanSampler:
    """Reads a checkpoint of training/denoiser.py, whose latents are those of `basis`.

    Raises ValueError when the file is none.
    """
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if not isinstance(saved, dict) or "average" not in saved:
        raise ValueError(f"{checkpoint} is no checkpoint of the transformer's training: it has no averaged weights")
    weights = saved["average"]
    model = Denoiser(shape_of(weights))
    model.load_state_dict(weights)
    return LeanSampler(model.requires_grad_(False), basis, int(saved["step"]))


def shape_of(weights: dict[str, torch.Tensor]) -> TransformerShape:
    """Sizes of the transformer whose state dict (names start with "transformer.") is given."""
    ffn_dim, dim = weights["transformer.blocks.0.ffn.0.weight"].shape
    channels = weights["transformer.patch_embedding.weight"].shape[1]
    layers = len({name.split(".")[2] for name in weights if name.startswith("transformer.blocks.")})
    return TransformerShape(dim=dim, ffn_dim=ffn_dim, layers=layers, channels=channels)


def flow_sigmas(steps: int, shift: float = SAMPLING_SHIFT) -> torch.Tensor:
    """The host's "simple" schedule of a shifted flow model: `steps` noise levels from 1 down, then 0."""
    level = torch.linspace(1, 0, steps + 1)
    return shift * level / (1 + (shift - 1) * level)
