"""Samples an embedded transformer without a host, from a checkpoint of its training, before a VAE exists."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from kvshare_core.embedded.latents import CHANNELS, LatentBasis
from kvshare_core.embedded.layouts import SIGMA_SHIFT as ONE_STREAM_SHIFT
from kvshare_core.embedded.text import token_ids
from kvshare_core.embedded.training.denoiser import Denoiser, Shape
from kvshare_core.embedded.training.joint_transformer import JointShape
from kvshare_core.embedded.training.one_stream_transformer import OneStreamShape
from kvshare_core.embedded.training.transformer import TransformerShape
from kvshare_core.embedded.vocabulary import CHUNK_TOKENS, PAIR_CHUNK_TOKENS, PAIR_WORDS, with_rows

WAN_SHIFT = 8.0
HUNYUAN_SHIFT = 7.0
"""The host's default shifts of the flow schedule for the two layouts."""
SAMPLING: Mapping[type, tuple[float, int]] = {
    TransformerShape: (WAN_SHIFT, CHUNK_TOKENS),
    JointShape: (HUNYUAN_SHIFT, PAIR_CHUNK_TOKENS),
    OneStreamShape: (ONE_STREAM_SHIFT, PAIR_CHUNK_TOKENS),
}
"""Shift and tokens of a text, by the layout's shape."""
LATENT_SHAPE = (CHANNELS, 5, 12, 12)


@dataclass(frozen=True)
class LeanSampler:
    """The averaged weights of a training run at `step`, with the linear decoder of the latent basis."""

    model: Denoiser
    basis: LatentBasis
    step: int
    shift: float
    chunk_tokens: int

    @torch.inference_mode()
    def sample(self, prompts: list[str], seed: int, steps: int, guidance: float) -> torch.Tensor:
        """Videos [n, 17, 3, 96, 96] in 0..1 of `prompts`; the noise of place i is that of `seed` + i."""
        noise = [
            torch.randn(LATENT_SHAPE, generator=torch.Generator().manual_seed(seed + i)) for i in range(len(prompts))
        ]
        latents = torch.stack(noise)
        known = with_rows(PAIR_WORDS, self.model.text.words.shape[0])
        texts = [*prompts, *[""] * len(prompts)]
        ids = torch.tensor([token_ids(text, known, self.chunk_tokens) for text in texts])
        for sigma, following in pairwise(flow_sigmas(steps, self.shift)):
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
    shape = shape_of(weights)
    model = Denoiser(shape, known_words=weights["text.words"].shape[0])
    model.load_state_dict(weights)
    shift, chunk_tokens = SAMPLING[type(shape)]
    return LeanSampler(model.requires_grad_(False), basis, int(saved["step"]), shift, chunk_tokens)


def shape_of(weights: dict[str, torch.Tensor]) -> Shape:
    """Sizes of the transformer whose state dict (names start with "transformer.") is given."""

    def count(blocks: str) -> int:
        return len({name.split(".")[2] for name in weights if name.startswith(f"transformer.{blocks}.")})

    if "transformer.img_in.proj.weight" in weights:
        dim, channels = weights["transformer.img_in.proj.weight"].shape[:2]
        text_dim = weights["transformer.txt_in.input_embedder.weight"].shape[1]
        return JointShape(dim, count("double_blocks"), count("single_blocks"), channels, text_dim)
    if "transformer.patch_embed.text_proj.weight" in weights:
        dim, text_dim = weights["transformer.patch_embed.text_proj.weight"].shape
        time_dim = weights["transformer.time_embedding_linear_1.weight"].shape[0]
        channels, patch = weights["transformer.patch_embed.proj.weight"].shape[1:3]
        return OneStreamShape(dim, count("blocks"), time_dim, patch, channels, text_dim)
    ffn_dim, dim = weights["transformer.blocks.0.ffn.0.weight"].shape
    channels = weights["transformer.patch_embedding.weight"].shape[1]
    return TransformerShape(dim=dim, ffn_dim=ffn_dim, layers=count("blocks"), channels=channels)


def flow_sigmas(steps: int, shift: float = WAN_SHIFT) -> torch.Tensor:
    """The host's "simple" schedule of a shifted flow model: `steps` noise levels from 1 down, then 0."""
    level = torch.linspace(1, 0, steps + 1)
    return shift * level / (1 + (shift - 1) * level)
