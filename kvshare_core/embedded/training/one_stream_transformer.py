"""A lean forward of the CogVideoX layout, for training without a host.

Parameter names and arithmetic are those of the native layout (`blocks.0.norm1.linear.weight`, ...), so a state dict
trained here is an ordinary ComfyUI diffusion model; a test holds its output against the host's own class. Text and
video tokens are one stream, the text first: the same weights project both and every token attends to every other; only
the modulation is different for each. What is left out is what training does not need: patches, masks, image
conditioning, learned positions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from ..text import TEXT_WIDTH
from .transformer import (
    attend,
    from_patches,
    project_patches,
    rope_angles,
    rotate,
    sinusoidal_embedding,
    start_plainly,
    token_grid,
)

HEAD_DIM = 64
ROPE_AXES = (16, 24, 24)
ROPE_STEPS = (1.0, 1.875, 1.875)
"""How far apart the host takes neighbouring tokens to be on each axis."""
SHIFT, SCALE, GATE = range(3)
"""Order of a stream's modulation vectors."""


@dataclass(frozen=True)
class OneStreamShape:
    """Sizes of the one-stream transformer; heads are 64 wide because the host derives their number from `dim`. A token
    is `patch` x `patch` latent positions: with one, a frame has 12 x 12 tokens, four times as many as other models'."""

    dim: int = 256
    layers: int = 4
    time_dim: int = 32
    patch: int = 1
    channels: int = 16
    text_dim: int = TEXT_WIDTH

    @property
    def heads(self) -> int:
        return self.dim // HEAD_DIM

    @property
    def ffn_dim(self) -> int:
        return 4 * self.dim


class ExpertNorm(nn.Module):
    """Layer norm of both kinds of tokens, then shift and scale of their own: "expert adaptive layer norm" (CogVideoX,
    Yang et al. 2024, section 2.2)."""

    def __init__(self, shape: OneStreamShape):
        super().__init__()
        self.linear = nn.Linear(shape.time_dim, 6 * shape.dim)
        self.norm = nn.LayerNorm(shape.dim, eps=1e-5)

    def forward(
        self, video: torch.Tensor, text: torch.Tensor, time: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Both kinds [n, tokens, dim] in one sequence, the text first, and the gates of video and text [n, 1, dim]."""
        vectors = self.linear(F.silu(time))[:, None].chunk(6, dim=-1)
        normed = [
            self.norm(hidden) * (1 + part[SCALE]) + part[SHIFT]
            for hidden, part in ((text, vectors[3:]), (video, vectors[:3]))
        ]
        return torch.cat(normed, dim=1), vectors[GATE], vectors[3 + GATE]


class Block(nn.Module):
    """Attention over text and video, then a feed-forward part."""

    def __init__(self, shape: OneStreamShape):
        super().__init__()
        dim = shape.dim
        self.heads = shape.heads
        self.norm1, self.norm2 = ExpertNorm(shape), ExpertNorm(shape)
        self.q, self.k, self.v, self.attn_out = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = (nn.LayerNorm(HEAD_DIM, eps=1e-6) for _ in range(2))
        self.ff_proj, self.ff_out = nn.Linear(dim, shape.ffn_dim), nn.Linear(shape.ffn_dim, dim)

    def forward(
        self, video: torch.Tensor, text: torch.Tensor, time: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        words = text.shape[1]
        joined, gate, text_gate = self.norm1(video, text, time)
        attended = self.attn_out(self._attend(joined, rotation))
        video, text = video + gate * attended[:, words:], text + text_gate * attended[:, :words]
        joined, gate, text_gate = self.norm2(video, text, time)
        inner = self.ff_out(F.gelu(self.ff_proj(joined), approximate="tanh"))
        return video + gate * inner[:, words:], text + text_gate * inner[:, :words]

    def _attend(self, hidden: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        query, key, value = (
            rearrange(project(hidden), "n l (h d) -> n h l d", h=self.heads) for project in (self.q, self.k, self.v)
        )
        return attend(rotate(self.norm_q(query), *rotation), rotate(self.norm_k(key), *rotation), value)


class PatchEmbedding(nn.Module):
    """Latent patches and words to tokens of one width."""

    def __init__(self, shape: OneStreamShape):
        super().__init__()
        self.proj = nn.Conv2d(shape.channels, shape.dim, shape.patch, shape.patch)
        self.text_proj = nn.Linear(shape.text_dim, shape.dim)

    def forward(self, latents: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return project_patches(latents, self.proj), self.text_proj(text)


class FinalNorm(nn.Module):
    """Layer norm with shift and scale."""

    def __init__(self, shape: OneStreamShape):
        super().__init__()
        self.linear = nn.Linear(shape.time_dim, 2 * shape.dim)
        self.norm = nn.LayerNorm(shape.dim, eps=1e-5)

    def forward(self, hidden: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        shift, scale = self.linear(F.silu(time))[:, None].chunk(2, dim=-1)
        return self.norm(hidden) * (1 + scale) + shift


class OneStreamTransformer(nn.Module):
    """The denoiser: latents [n, 16, t, h, w], timesteps [n] in 0..1000 and text [n, tokens, text_dim] to velocities."""

    def __init__(self, shape: OneStreamShape):
        super().__init__()
        self.shape = shape
        self.patch_embed = PatchEmbedding(shape)
        self.time_embedding_linear_1 = nn.Linear(shape.dim, shape.time_dim)
        self.time_embedding_linear_2 = nn.Linear(shape.time_dim, shape.time_dim)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm_final = nn.LayerNorm(shape.dim, eps=1e-5)
        self.norm_out = FinalNorm(shape)
        self.proj_out = nn.Linear(shape.dim, shape.channels * shape.patch**2)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A plain start, with gates at one, shifts and scales at zero: a fresh network is an ordinary one without
        modulation, and learns from its first step. The output projection starts at zero."""
        start_plainly(self)
        for module in self.modules():
            if isinstance(module, ExpertNorm):
                nn.init.zeros_(module.linear.weight)
                nn.init.ones_(module.linear.bias.view(2, 3, self.shape.dim)[:, GATE])
        nn.init.zeros_(self.norm_out.linear.weight)
        nn.init.zeros_(self.proj_out.weight)

    def forward(self, latents: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        grid = token_grid(latents, self.shape.patch)
        angles = rope_angles(grid, ROPE_AXES, steps=ROPE_STEPS).to(latents.device)
        angles = F.pad(angles, (0, 0, text.shape[1], 0))
        rotation = (angles.cos(), angles.sin())
        time = self.time_embedding_linear_1(sinusoidal_embedding(timestep, self.shape.dim))
        time = self.time_embedding_linear_2(F.silu(time))
        # Under autocast the residual stream keeps the precision of the input, as the host's does.
        video, words = (part.to(latents.dtype) for part in self.patch_embed(latents, text))
        for block in self.blocks:
            video, words = block(video, words, time, rotation)
        patches = self.proj_out(self.norm_out(self.norm_final(video), time))
        return from_patches(patches, grid, patch=self.shape.patch)
