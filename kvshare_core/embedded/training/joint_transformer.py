"""A lean forward of the HunyuanVideo layout, for training without a host.

Parameter names and arithmetic are those of the native layout (`double_blocks.0.img_attn.qkv.weight`, ...), so a state
dict trained here is an ordinary ComfyUI diffusion model; a test holds its output against the host's own class. Video
and text tokens attend to each other in one call: in streams of their own in the double blocks, in one stream in the
single blocks. What is left out is what training does not need: patches, masks, guidance embedding, image conditioning.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from ..layouts import POOLED_DIM
from ..text import TEXT_WIDTH
from .transformer import (
    FREQUENCY_DIM,
    PATCH,
    attend,
    from_patches,
    project_patches,
    rope_angles,
    rotate,
    sinusoidal_embedding,
    start_plainly,
    token_grid,
)

HEAD_DIM = 128
ROPE_AXES = (16, 56, 56)
ROPE_THETA = 256.0
REFINER_BLOCKS = 2
"""The host builds no other number."""


@dataclass(frozen=True)
class JointShape:
    """Sizes of the joint-attention transformer; heads are 128 wide because the host rotates 16 + 56 + 56 channels."""

    dim: int = 128
    double_blocks: int = 1
    single_blocks: int = 6
    channels: int = 16
    text_dim: int = TEXT_WIDTH

    @property
    def heads(self) -> int:
        return self.dim // HEAD_DIM

    @property
    def ffn_dim(self) -> int:
        return 4 * self.dim


class Embedder(nn.Module):
    """Two linear layers from a vector to a modulation vector."""

    def __init__(self, inputs: int, dim: int):
        super().__init__()
        self.in_layer = nn.Linear(inputs, dim)
        self.out_layer = nn.Linear(dim, dim)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.out_layer(F.silu(self.in_layer(input)))


class Modulation(nn.Module):
    """`count` vectors [n, 1, dim] each of shift, scale or gate from a modulation vector [n, dim]."""

    def __init__(self, dim: int, count: int):
        super().__init__()
        self.count = count
        self.lin = nn.Linear(dim, count * dim)

    def forward(self, vector: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.lin(F.silu(vector))[:, None].chunk(self.count, dim=-1)


class Scale(nn.Module):
    """Root-mean-square norm over the channels of a head."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(HEAD_DIM))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(input, (HEAD_DIM,), self.scale.to(input.dtype), eps=1e-6)


class HeadNorm(nn.Module):
    """The norms of queries and keys."""

    def __init__(self):
        super().__init__()
        self.query_norm = Scale()
        self.key_norm = Scale()

    def forward(self, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.query_norm(query), self.key_norm(key)


def split_heads(joined: torch.Tensor, heads: int) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values [n, heads, tokens, 128] from their projection [n, tokens, 3 * dim]."""
    return rearrange(joined, "n l (three h d) -> three n h l d", three=3, h=heads).unbind(0)


def modulated(hidden: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Layer norm without weights of its own, then `scale` and `shift`."""
    return F.layer_norm(hidden, hidden.shape[-1:], eps=1e-6) * (1 + scale) + shift


class StreamAttention(nn.Module):
    """Projections of one stream of a double block."""

    def __init__(self, dim: int):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.norm = HeadNorm()
        self.proj = nn.Linear(dim, dim)

    def project(self, hidden: torch.Tensor, heads: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Normed queries, normed keys and values [n, heads, tokens, 128]."""
        query, key, value = split_heads(self.qkv(hidden), heads)
        return *self.norm(query, key), value


class DoubleBlock(nn.Module):
    """One attention over video and text, everything else apart for each of them."""

    def __init__(self, shape: JointShape):
        super().__init__()
        dim = shape.dim
        self.heads = shape.heads
        self.img_mod, self.txt_mod = Modulation(dim, 6), Modulation(dim, 6)
        self.img_attn, self.txt_attn = StreamAttention(dim), StreamAttention(dim)
        self.img_mlp, self.txt_mlp = (
            nn.Sequential(nn.Linear(dim, shape.ffn_dim), nn.GELU(approximate="tanh"), nn.Linear(shape.ffn_dim, dim))
            for _ in range(2)
        )

    def forward(
        self, video: torch.Tensor, text: torch.Tensor, vector: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        streams = (
            (video, self.img_attn, self.img_mlp, self.img_mod(vector)),
            (text, self.txt_attn, self.txt_mlp, self.txt_mod(vector)),
        )
        projected = [part.project(modulated(hidden, *mod[:2]), self.heads) for hidden, part, _, mod in streams]
        query, key, value = (torch.cat(parts, dim=2) for parts in zip(*projected, strict=True))
        attended = attend(rotate(query, *rotation), rotate(key, *rotation), value)
        results: list[torch.Tensor] = []
        for (hidden, part, mlp, mod), own in zip(
            streams, attended.split([video.shape[1], text.shape[1]], dim=1), strict=True
        ):
            hidden = hidden + part.proj(own) * mod[2]
            results.append(hidden + mlp(modulated(hidden, *mod[3:5])) * mod[5])
        return results[0], results[1]


class SingleBlock(nn.Module):
    """Attention and feed-forward part side by side, over video and text in one stream."""

    def __init__(self, shape: JointShape):
        super().__init__()
        self.heads = shape.heads
        self.widths = (3 * shape.dim, shape.ffn_dim)
        self.modulation = Modulation(shape.dim, 3)
        self.linear1 = nn.Linear(shape.dim, sum(self.widths))
        self.linear2 = nn.Linear(shape.dim + shape.ffn_dim, shape.dim)
        self.norm = HeadNorm()

    def forward(
        self, hidden: torch.Tensor, vector: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        shift, scale, gate = self.modulation(vector)
        joined, inner = self.linear1(modulated(hidden, shift, scale)).split(self.widths, dim=-1)
        query, key, value = split_heads(joined, self.heads)
        query, key = self.norm(query, key)
        attended = attend(rotate(query, *rotation), rotate(key, *rotation), value)
        return hidden + self.linear2(torch.cat([attended, F.gelu(inner, approximate="tanh")], dim=-1)) * gate


class RefinerAttention(nn.Module):
    """Attention of the text to itself."""

    def __init__(self, shape: JointShape):
        super().__init__()
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim)
        self.proj = nn.Linear(shape.dim, shape.dim)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        query, key, value = split_heads(self.qkv(text), self.heads)
        return self.proj(attend(query, key, value))


class RefinerBlock(nn.Module):
    """Self-attention and feed-forward part of the text, each with a gate."""

    def __init__(self, shape: JointShape):
        super().__init__()
        dim = shape.dim
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.self_attn = RefinerAttention(shape)
        self.mlp = nn.Sequential(nn.Linear(dim, shape.ffn_dim), nn.SiLU(), nn.Linear(shape.ffn_dim, dim))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))

    def forward(self, text: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        gate, ffn_gate = self.adaLN_modulation(vector)[:, None].chunk(2, dim=-1)
        text = text + self.self_attn(self.norm1(text)) * gate
        return text + self.mlp(self.norm2(text)) * ffn_gate


class TextRefiner(nn.Module):
    """Lets the words of a text see each other before the video does. Their order is in the text's position code."""

    def __init__(self, shape: JointShape):
        super().__init__()
        self.input_embedder = nn.Linear(shape.text_dim, shape.dim)
        self.t_embedder = Embedder(FREQUENCY_DIM, shape.dim)
        self.c_embedder = Embedder(shape.text_dim, shape.dim)
        self.individual_token_refiner = nn.ModuleDict(
            {"blocks": nn.ModuleList(RefinerBlock(shape) for _ in range(REFINER_BLOCKS))}
        )

    def forward(self, text: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        vector = self.t_embedder(time) + self.c_embedder(text.mean(1))
        hidden = self.input_embedder(text)
        blocks = self.individual_token_refiner["blocks"]
        assert isinstance(blocks, nn.ModuleList)
        for block in blocks:
            hidden = block(hidden, vector)
        return hidden


class PatchEmbedding(nn.Module):
    """Latent patches to video tokens."""

    def __init__(self, shape: JointShape):
        super().__init__()
        self.proj = nn.Conv3d(shape.channels, shape.dim, (1, PATCH, PATCH), (1, PATCH, PATCH))

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return project_patches(latents, self.proj)


class FinalLayer(nn.Module):
    """Modulated projection from video tokens to latent patches."""

    def __init__(self, shape: JointShape):
        super().__init__()
        self.linear = nn.Linear(shape.dim, shape.channels * PATCH * PATCH)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(shape.dim, 2 * shape.dim))

    def forward(self, hidden: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        shift, scale = self.adaLN_modulation(vector)[:, None].chunk(2, dim=-1)
        return self.linear(modulated(hidden, shift, scale))


class JointTransformer(nn.Module):
    """The denoiser: latents [n, 16, t, h, w], timesteps [n] in 0..1000, text [n, tokens, text_dim] and optionally
    pooled text [n, 768] to velocities. Without pooled text it is zero."""

    def __init__(self, shape: JointShape):
        super().__init__()
        self.shape = shape
        self.img_in = PatchEmbedding(shape)
        self.time_in = Embedder(FREQUENCY_DIM, shape.dim)
        self.vector_in = Embedder(POOLED_DIM, shape.dim)
        self.txt_in = TextRefiner(shape)
        self.double_blocks = nn.ModuleList(DoubleBlock(shape) for _ in range(shape.double_blocks))
        self.single_blocks = nn.ModuleList(SingleBlock(shape) for _ in range(shape.single_blocks))
        self.final_layer = FinalLayer(shape)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A plain start, with gates at one, shifts and scales at zero: a fresh network is an ordinary one without
        modulation, and learns from its first step. The output projection starts at zero."""
        start_plainly(self)
        dim = self.shape.dim
        for module in self.modules():
            if isinstance(module, Modulation):
                nn.init.zeros_(module.lin.weight)
                nn.init.ones_(module.lin.bias.view(-1, 3, dim)[:, 2])
            elif isinstance(module, RefinerBlock):
                start_as(module.adaLN_modulation, 1.0)
        start_as(self.final_layer.adaLN_modulation, 0.0)
        nn.init.zeros_(self.final_layer.linear.weight)

    def forward(
        self, latents: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor, pooled: torch.Tensor | None = None
    ) -> torch.Tensor:
        grid = token_grid(latents)
        angles = rope_angles(grid, ROPE_AXES, ROPE_THETA).to(latents.device)
        angles = F.pad(angles, (0, 0, 0, text.shape[1]))
        rotation = (angles.cos(), angles.sin())
        time = sinusoidal_embedding(timestep)
        if pooled is None:
            pooled = latents.new_zeros(latents.shape[0], POOLED_DIM)
        vector = self.time_in(time) + self.vector_in(pooled)
        # Under autocast the residual stream keeps the precision of the input, as the host's does.
        video, refined = (part.to(latents.dtype) for part in (self.img_in(latents), self.txt_in(text, time)))
        for block in self.double_blocks:
            video, refined = block(video, refined, vector, rotation)
        hidden = torch.cat([video, refined], dim=1)
        for block in self.single_blocks:
            hidden = block(hidden, vector, rotation)
        return from_patches(self.final_layer(hidden[:, : video.shape[1]], vector), grid)


def start_as(modulation: nn.Sequential, value: float) -> None:
    """Makes the last layer of `modulation` give `value` whatever it gets."""
    last = modulation[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, value)
