"""A lean forward of the Wan layout, text-to-video and Wan 2.2's image-to-video, for training without a host.

Parameter names and arithmetic are those of the native layout (`blocks.0.self_attn.q.weight`, ...), so a state dict
trained here is an ordinary ComfyUI diffusion model; a test holds its output against the host's own class. What is left
out is what training does not need: patches, reference latents.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from ..layouts import TEXT_DIM

PATCH = 2
FREQUENCY_DIM = 256
ROPE_AXES = (44, 42, 42)
ROPE_THETA = 10000.0


@dataclass(frozen=True)
class TransformerShape:
    """Sizes of the embedded transformer; heads are 128 wide because the host derives their number from `dim`.

    `channels` of the latents are denoised. An image-to-video model reads `condition_channels` more beside them.
    """

    dim: int = 128
    ffn_dim: int = 512
    layers: int = 7
    channels: int = 16
    condition_channels: int = 0

    @property
    def heads(self) -> int:
        return self.dim // 128


def sinusoidal_embedding(position: torch.Tensor, dim: int = FREQUENCY_DIM) -> torch.Tensor:
    """Cosines, then sines, of `position` [n] at `dim / 2` geometric frequencies: [n, dim]."""
    half = dim // 2
    frequency = torch.pow(10000, -torch.arange(half, device=position.device, dtype=torch.float32) / half)
    angle = torch.outer(position.float(), frequency)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def rope_angles(
    grid: tuple[int, int, int],
    axes: tuple[int, int, int] = ROPE_AXES,
    theta: float = ROPE_THETA,
    steps: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> torch.Tensor:
    """Rotation angles [t * h * w, sum(axes) / 2] of every token of `grid`, frame axis first.

    `axes` are the channels that each axis rotates, `theta` is the base of their frequencies, `steps` how far apart
    neighbouring tokens are.
    """
    positions = torch.meshgrid(*(torch.arange(size) for size in grid), indexing="ij")
    angles = [
        torch.outer(step * place.flatten().double(), theta ** (-torch.arange(0, size, 2, dtype=torch.float64) / size))
        for place, size, step in zip(positions, axes, steps, strict=True)
    ]
    return torch.cat(angles, dim=1).float()


def rotate(tensor: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Rotates neighbouring channel pairs of `tensor` [n, heads, tokens, head_dim]."""
    even, odd = tensor.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1).flatten(-2)


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention of tokens [n, heads, tokens, head_dim], as [n, tokens, dim]; computed in the dtype of `value`."""
    attended = F.scaled_dot_product_attention(query.to(value.dtype), key.to(value.dtype), value)
    return rearrange(attended, "n h l d -> n l (h d)")


def token_grid(latents: torch.Tensor, patch: int = PATCH) -> tuple[int, int, int]:
    """Tokens of `latents` [n, channels, t, h, w] along (frame, height, width)."""
    return latents.shape[2], latents.shape[3] // patch, latents.shape[4] // patch


def project_patches(latents: torch.Tensor, projection: nn.Conv2d | nn.Conv3d) -> torch.Tensor:
    """Tokens [n, t * h * w, dim] of `latents`: what a convolution over patches gives, by one matrix product."""
    patch = projection.weight.shape[-1]
    patches = rearrange(latents, "n c t (h p) (w q) -> n (t h w) (c p q)", p=patch, q=patch)
    return F.linear(patches, projection.weight.flatten(1), projection.bias)


def from_patches(
    patches: torch.Tensor, grid: tuple[int, int, int], order: str = "c p q", patch: int = PATCH
) -> torch.Tensor:
    """Latents of patches [n, t * h * w, channels * patch * patch] whose values lie in `order`."""
    frames, height, width = grid
    pattern = f"n (t h w) ({order}) -> n c t (h p) (w q)"
    return rearrange(patches, pattern, t=frames, h=height, w=width, p=patch, q=patch)


def start_plainly(module: nn.Module) -> None:
    """Xavier weights, zero biases, unit norms; tables of modulation [1, vectors, dim] small and random."""
    for name, parameter in module.named_parameters():
        if parameter.ndim == 3:
            nn.init.normal_(parameter, std=0.02)
        elif parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter.view(parameter.shape[0], -1))
        elif "norm" in name and not name.endswith("bias"):
            nn.init.ones_(parameter)
        else:
            nn.init.zeros_(parameter)


class Attention(nn.Module):
    """Attention with RMS-normed queries and keys; self-attention when no context is given."""

    def __init__(self, shape: TransformerShape):
        super().__init__()
        self.heads = shape.heads
        self.q = nn.Linear(shape.dim, shape.dim)
        self.k = nn.Linear(shape.dim, shape.dim)
        self.v = nn.Linear(shape.dim, shape.dim)
        self.o = nn.Linear(shape.dim, shape.dim)
        self.norm_q = nn.RMSNorm(shape.dim, eps=1e-6)
        self.norm_k = nn.RMSNorm(shape.dim, eps=1e-6)

    def forward(
        self,
        hidden: torch.Tensor,
        context: torch.Tensor | None = None,
        rotation: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        source = hidden if context is None else context
        query, key, value = (
            rearrange(tensor, "n l (h d) -> n h l d", h=self.heads)
            for tensor in (self.norm_q(self.q(hidden)), self.norm_k(self.k(source)), self.v(source))
        )
        if rotation is not None:
            query, key = rotate(query, *rotation), rotate(key, *rotation)
        return self.o(attend(query, key, value))


class Block(nn.Module):
    """Self-attention, cross-attention to the text and a feed-forward part, modulated by the time embedding."""

    def __init__(self, shape: TransformerShape):
        super().__init__()
        dim = shape.dim
        self.self_attn = Attention(shape)
        self.cross_attn = Attention(shape)
        self.norm3 = nn.LayerNorm(dim, eps=1e-6)
        self.ffn = nn.Sequential(
            nn.Linear(dim, shape.ffn_dim), nn.GELU(approximate="tanh"), nn.Linear(shape.ffn_dim, dim)
        )
        self.modulation = nn.Parameter(torch.empty(1, 6, dim))

    def forward(
        self,
        hidden: torch.Tensor,
        time: torch.Tensor,
        context: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (self.modulation + time).chunk(6, dim=1)
        dim = hidden.shape[-1:]
        attended = self.self_attn(F.layer_norm(hidden, dim, eps=1e-6) * (1 + scale) + shift, rotation=rotation)
        hidden = hidden + attended * gate
        hidden = hidden + self.cross_attn(self.norm3(hidden), context)
        return hidden + self.ffn(F.layer_norm(hidden, dim, eps=1e-6) * (1 + ffn_scale) + ffn_shift) * ffn_gate


class Head(nn.Module):
    """Modulated projection from tokens to latent patches."""

    def __init__(self, shape: TransformerShape):
        super().__init__()
        self.head = nn.Linear(shape.dim, shape.channels * PATCH * PATCH)
        self.modulation = nn.Parameter(torch.empty(1, 2, shape.dim))

    def forward(self, hidden: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        shift, scale = (self.modulation + time[:, None]).chunk(2, dim=1)
        return self.head(F.layer_norm(hidden, hidden.shape[-1:], eps=1e-6) * (1 + scale) + shift)


class WanTransformer(nn.Module):
    """The denoiser: latents [n, channels + condition_channels, t, h, w], timesteps [n] in 0..1000 and text
    [n, tokens, 4096] to velocities [n, channels, t, h, w]."""

    def __init__(self, shape: TransformerShape):
        super().__init__()
        self.shape = shape
        dim = shape.dim
        read = shape.channels + shape.condition_channels
        self.patch_embedding = nn.Conv3d(read, dim, (1, PATCH, PATCH), (1, PATCH, PATCH))
        self.text_embedding = nn.Sequential(nn.Linear(TEXT_DIM, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim))
        self.time_embedding = nn.Sequential(nn.Linear(FREQUENCY_DIM, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.head = Head(shape)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A plain start; the output projection starts at zero."""
        start_plainly(self)
        nn.init.zeros_(self.head.head.weight)

    def forward(self, latents: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        grid = token_grid(latents)
        angles = rope_angles(grid).to(latents.device)
        rotation = (angles.cos(), angles.sin())
        hidden = project_patches(latents, self.patch_embedding)
        time = self.time_embedding(sinusoidal_embedding(timestep))
        modulation = self.time_projection(time).unflatten(1, (6, self.shape.dim))
        context = self.embed_text(text)
        for block in self.blocks:
            hidden = block(hidden, modulation, context, rotation)
        return from_patches(self.head(hidden, time), grid, "p q c")

    def embed_text(self, text: torch.Tensor) -> torch.Tensor:
        """Text [n, tokens, width <= 4096]; a narrower text stands for one padded with zeros."""
        first, rest = self.text_embedding[0], self.text_embedding[1:]
        assert isinstance(first, nn.Linear)
        return rest(F.linear(text, first.weight[:, : text.shape[-1]], first.bias))


def parameter_count(module: nn.Module) -> int:
    """Number of trainable values of `module`."""
    return sum(math.prod(parameter.shape) for parameter in module.parameters())
