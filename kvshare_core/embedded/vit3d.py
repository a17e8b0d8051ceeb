"""ViT3D: a diffusion model of pixels whose frames go through an image transformer one by one.

Frames -> backbone (torchvision's ViT) -> features -> attention across frames -> time and text -> feature processing
-> spatial projection -> 3-D convolution. It predicts the clean video and returns the velocity of flow matching: noise
does not fit into the few numbers that a frame becomes, the clean frame does. The text is read by attention to its
words, not by one vector, so that words can be located and hidden.

Plain PyTorch: training uses it as it is. ComfyUI hands in its own layers (`operations`) and attention. The weights of
the backbone have torchvision's names, except that of attention, which `backbone_names` changes.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

Options = Mapping[str, Any]
"""What the host tells of an attention call: its transformer options."""
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int, Options], torch.Tensor]
"""(query, key, value, heads, options), tensors [rows, tokens, dim], to [rows, tokens, dim]."""

SPATIAL, MIXER = "spatial", "mixer"
"""Kinds of blocks in the options of a call: a layer of the backbone, and one that mixes frames, time and text."""
BLOCK_INDEX, BLOCK_TYPE, ROW_FRAMES = "block_index", "block_type", "kvshare_row_frames"
"""Options of a call: number and kind of the block, and how many frames follow one another as batch rows."""

DROPOUT = 0.1
HIDDEN_CHANNELS = 16
"""Channels of the full-size video before the last convolution."""
LONGEST_PERIOD = 10_000.0
STEPS = 1000
"""Timesteps of the host for a sigma of 1."""
LOWEST_SIGMA = 1e-3
"""Sigma below which the velocity is not divided by a smaller one."""
IMAGE_MEAN, IMAGE_STD = 0.449, 0.226
"""Mean and spread of the pictures that torchvision's backbones were trained on, in 0..1, over the three colours."""


@dataclass(frozen=True)
class BackboneShape:
    """Sizes of the image transformer; the defaults are those of torchvision's `vit_b_16`. `image_size` is the side
    that frames are resized to."""

    image_size: int = 224
    patch_size: int = 16
    layers: int = 12
    heads: int = 12
    mlp_dim: int = 3072

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size is {self.image_size}; it must be a multiple of patch_size {self.patch_size}.")

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch_size


def plain_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int, options: Options
) -> torch.Tensor:
    """PyTorch's attention; has no use for the options."""
    query, key, value = (rearrange(part, "n l (h d) -> n h l d", h=heads) for part in (query, key, value))
    return rearrange(F.scaled_dot_product_attention(query, key, value), "n h l d -> n l (h d)")


def backbone_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of one of torchvision's ViT models under the names that they have here; its classifier is left
    out."""
    renamed = {
        re.sub(r"in_proj_(weight|bias)$", r"in_proj.\1", name).replace("encoder_layer_", ""): tensor
        for name, tensor in state.items()
        if not name.startswith("heads.")
    }
    return {f"backbone.{name}": tensor for name, tensor in renamed.items()}


def sines(places: torch.Tensor, dim: int) -> torch.Tensor:
    """Sines, then cosines, of `places` [n] at `dim / 2` frequencies from 1 down to 1 / LONGEST_PERIOD: [n, dim]."""
    half = dim // 2
    step = math.log(LONGEST_PERIOD) / (half - 1)
    frequency = torch.exp(-step * torch.arange(half, device=places.device, dtype=torch.float32))
    angle = torch.outer(places.float(), frequency)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class TimeEmbedding(nn.Module):
    """Timesteps [n] to vectors [n, dim] by sines and two layers."""

    def __init__(self, time_dim: int, dim: int, operations: Any, **place: Any):
        super().__init__()
        if time_dim < 4 or time_dim % 2:
            raise ValueError(f"time_dim is {time_dim}; it must be even and at least 4.")
        self.time_dim = time_dim
        self.mlp = nn.Sequential(
            operations.Linear(time_dim, dim, **place), nn.SiLU(), operations.Linear(dim, dim, **place)
        )

    def forward(self, timestep: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return self.mlp(sines(timestep, self.time_dim).to(dtype))


class SelfAttention(nn.Module):
    """Attention of tokens [rows, tokens, dim] to themselves, with the weights of torch's MultiheadAttention."""

    def __init__(self, dim: int, heads: int, attention: Attention, operations: Any, **place: Any):
        super().__init__()
        if dim % heads:
            raise ValueError(f"embed_dim {dim} does not divide into {heads} heads.")
        self.heads = heads
        self.attention = attention
        self.in_proj = operations.Linear(dim, 3 * dim, **place)
        self.out_proj = operations.Linear(dim, dim, **place)

    def forward(self, hidden: torch.Tensor, options: Options) -> torch.Tensor:
        query, key, value = self.in_proj(hidden).chunk(3, dim=-1)
        return self.out_proj(self.attention(query, key, value, self.heads, options))


class EncoderLayer(nn.Module):
    """One layer of the backbone, as torchvision's EncoderBlock."""

    def __init__(self, dim: int, shape: BackboneShape, attention: Attention, operations: Any, **place: Any):
        super().__init__()
        self.ln_1 = operations.LayerNorm(dim, eps=1e-6, **place)
        self.self_attention = SelfAttention(dim, shape.heads, attention, operations, **place)
        self.ln_2 = operations.LayerNorm(dim, eps=1e-6, **place)
        # Numbers as in torchvision, whose second and fourth are dropouts of 0.
        self.mlp = nn.ModuleDict(
            {
                "0": operations.Linear(dim, shape.mlp_dim, **place),
                "3": operations.Linear(shape.mlp_dim, dim, **place),
            }
        )

    def forward(self, hidden: torch.Tensor, options: Options) -> torch.Tensor:
        hidden = hidden + self.self_attention(self.ln_1(hidden), options)
        return hidden + self.mlp["3"](F.gelu(self.mlp["0"](self.ln_2(hidden))))


class Encoder(nn.Module):
    """The layers of the backbone, its positions and its last norm."""

    def __init__(self, dim: int, shape: BackboneShape, attention: Attention, operations: Any, **place: Any):
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, shape.grid**2 + 1, dim, **place))
        self.layers = nn.ModuleList(
            EncoderLayer(dim, shape, attention, operations, **place) for _ in range(shape.layers)
        )
        self.ln = operations.LayerNorm(dim, eps=1e-6, **place)


class Backbone(nn.Module):
    """Frames [n, channels, h, w] in -1..1 to tokens [n, 1 + patches, dim]: the class token, then the patches."""

    def __init__(
        self, channels: int, dim: int, shape: BackboneShape, attention: Attention, operations: Any, **place: Any
    ):
        super().__init__()
        self.shape = shape
        self.class_token = nn.Parameter(torch.empty(1, 1, dim, **place))
        self.conv_proj = operations.Conv2d(channels, dim, shape.patch_size, shape.patch_size, **place)
        self.encoder = Encoder(dim, shape, attention, operations, **place)

    def tokens(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames, resized to the backbone's size, as tokens with their positions."""
        side = self.shape.image_size
        if frames.shape[-2:] != (side, side):
            frames = F.interpolate(frames.float(), (side, side), mode="bilinear", antialias=True).to(frames.dtype)
        scaled = ((frames + 1) / 2 - IMAGE_MEAN) / IMAGE_STD
        patches = self.conv_proj(scaled).flatten(2).transpose(1, 2)
        first = self.class_token.to(patches).expand(len(patches), -1, -1)
        return torch.cat([first, patches], dim=1) + self.encoder.pos_embedding.to(patches)


class TemporalAttention(nn.Module):
    """Attention across frames: features [batch, frames, places, dim], each place by itself."""

    def __init__(self, dim: int, heads: int, attention: Attention, operations: Any, **place: Any):
        super().__init__()
        self.norm = operations.LayerNorm(dim, **place)
        self.attention = SelfAttention(dim, heads, attention, operations, **place)

    def forward(self, features: torch.Tensor, options: Options) -> torch.Tensor:
        batch, frames, _, dim = features.shape
        positions = sines(torch.arange(frames, device=features.device), dim).to(features)
        rows = rearrange(self.norm(features) + positions[:, None], "b f p d -> (b p) f d")
        return features + rearrange(self.attention(rows, options), "(b p) f d -> b f p d", b=batch)


class TextAttention(nn.Module):
    """Attention of features [batch, frames, places, dim] to text [batch, words, text_dim]."""

    def __init__(self, dim: int, text_dim: int, heads: int, attention: Attention, operations: Any, **place: Any):
        super().__init__()
        self.heads = heads
        self.attention = attention
        self.norm = operations.LayerNorm(dim, **place)
        self.q = operations.Linear(dim, dim, **place)
        self.kv = operations.Linear(text_dim, 2 * dim, **place)
        self.out = operations.Linear(dim, dim, **place)

    def forward(self, features: torch.Tensor, text: torch.Tensor, options: Options) -> torch.Tensor:
        batch, frames, _, _ = features.shape
        query = rearrange(self.q(self.norm(features)), "b f p d -> b (f p) d")
        key, value = self.kv(text).chunk(2, dim=-1)
        read = self.out(self.attention(query, key, value, self.heads, options))
        return features + rearrange(read, "b (f p) d -> b f p d", b=batch, f=frames)


class Mixer(nn.Module):
    """Attention across frames, time, text, and feature processing: norm, MLP, residual."""

    def __init__(self, dim: int, text_dim: int | None, heads: int, attention: Attention, operations: Any, **place: Any):
        super().__init__()
        self.temporal = TemporalAttention(dim, heads, attention, operations, **place)
        self.time = operations.Linear(dim, dim, **place)
        self.text = None if text_dim is None else TextAttention(dim, text_dim, heads, attention, operations, **place)
        self.norm = operations.LayerNorm(dim, **place)
        self.mlp = nn.Sequential(
            operations.Linear(dim, 4 * dim, **place),
            nn.GELU(),
            nn.Dropout(DROPOUT),
            operations.Linear(4 * dim, dim, **place),
        )

    def forward(
        self, features: torch.Tensor, time: torch.Tensor, text: torch.Tensor | None, options: Options
    ) -> torch.Tensor:
        features = self.temporal(features, options) + self.time(time)[:, None, None]
        if self.text is not None and text is not None:
            features = self.text(features, text, options)
        return features + self.mlp(self.norm(features))


class ViT3D(nn.Module):
    """Noisy video [b, in_channels, frames, h, w] in -1..1, timesteps [b] in 0..STEPS and text [b, words, text_dim] to
    the velocity [b, out_channels, frames, h, w].

    frames, height, width: of the videos that it is trained on; others are taken too, frames of another size resized
    for the backbone. time_dim: sines of a timestep. text_dim: width of a text token; None for no text. embed_dim:
    width of the backbone. freeze_backbone: whether its weights stay as they are; of a classifier they tell little of
    noise. num_temporal_heads: heads of the attention across frames and to the text.
    patch_features: whether the features of a frame are those of its patches, not the one global feature.
    mixing_every: after how many layers of the backbone frames, time and text are mixed; 0 for once, after the last.

    Raises ValueError for sizes that do not go together.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        frames: int = 28,
        height: int = 128,
        width: int = 128,
        time_dim: int = 128,
        text_dim: int | None = None,
        embed_dim: int = 768,
        freeze_backbone: bool = False,
        num_temporal_heads: int = 8,
        *,
        backbone: BackboneShape | None = None,
        patch_features: bool = False,
        mixing_every: int = 0,
        attention: Attention = plain_attention,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ):
        super().__init__()
        shape = backbone or BackboneShape()
        place: dict[str, Any] = {"dtype": dtype, "device": device}
        self.dtype = dtype or torch.float32
        self.frames, self.height, self.width = frames, height, width
        self.patch_features = patch_features
        self.mixing_every = mixing_every or shape.layers
        if shape.layers % self.mixing_every:
            raise ValueError(f"mixing_every is {mixing_every}; it must divide the {shape.layers} layers.")
        self.time_embedding = TimeEmbedding(time_dim, embed_dim, operations, **place)
        self.backbone = Backbone(in_channels, embed_dim, shape, attention, operations, **place)
        self.mixers = nn.ModuleList(
            Mixer(embed_dim, text_dim, num_temporal_heads, attention, operations, **place)
            for _ in range(shape.layers // self.mixing_every)
        )
        self.side = shape.patch_size if patch_features else shape.image_size // 4
        self.projection = operations.Linear(embed_dim, HIDDEN_CHANNELS * self.side**2, **place)
        self.conv = operations.Conv3d(HIDDEN_CHANNELS + in_channels, out_channels, 3, padding=1, **place)
        self.backbone.requires_grad_(not freeze_backbone)

    def reset_parameters(self) -> None:
        """Starts what is no layer of PyTorch's own; layers start as PyTorch does."""
        nn.init.normal_(self.backbone.encoder.pos_embedding, std=0.02)
        nn.init.normal_(self.backbone.class_token, std=0.02)

    def forward(
        self,
        x: torch.Tensor,
        timestep: torch.Tensor,
        context: torch.Tensor | None = None,
        transformer_options: Options | None = None,
        **_others: Any,
    ) -> torch.Tensor:
        sigma = (timestep.float() / STEPS).clamp(min=LOWEST_SIGMA).reshape(-1, 1, 1, 1, 1)
        return (x.float() - self.clean(x, timestep, context, transformer_options or {}).float()) / sigma

    def clean(
        self, x: torch.Tensor, timestep: torch.Tensor, context: torch.Tensor | None, options: Options
    ) -> torch.Tensor:
        """The clean video that it takes `x` for."""
        batch, _, frames = x.shape[:3]
        time = self.time_embedding(timestep, x.dtype)
        tokens = self.backbone.tokens(rearrange(x, "b c f h w -> (b f) c h w"))
        first = 0 if self.patch_features else 1
        for number, layer in enumerate(self.backbone.encoder.layers):
            told = {**options, BLOCK_INDEX: number, BLOCK_TYPE: SPATIAL, ROW_FRAMES: frames}
            tokens = layer(tokens, told)
            group, rest = divmod(number + 1, self.mixing_every)
            if rest:
                continue
            if number + 1 == len(self.backbone.encoder.layers):
                tokens = self.backbone.encoder.ln(tokens)
            cut = slice(1, None) if self.patch_features else slice(0, 1)
            features = rearrange(tokens[:, cut], "(b f) p d -> b f p d", b=batch)
            told = {**options, BLOCK_INDEX: group - 1, BLOCK_TYPE: MIXER}
            mixed = rearrange(self.mixers[group - 1](features, time, context, told), "b f p d -> (b f) p d")
            tokens = torch.cat([mixed, tokens[:, 1:]] if first else [tokens[:, :1], mixed], dim=1)
        return self._video(tokens, x)

    def _video(self, tokens: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The video of the last tokens, of the size of `x`."""
        grid = self.backbone.shape.grid if self.patch_features else 1
        features = tokens[:, 1:] if self.patch_features else tokens[:, :1]
        pictures = rearrange(
            F.gelu(self.projection(features)),
            "n (i j) (c p q) -> n c (i p) (j q)",
            i=grid,
            j=grid,
            p=self.side,
            q=self.side,
        )
        if pictures.shape[-2:] != x.shape[-2:]:
            pictures = F.interpolate(pictures.float(), x.shape[-2:], mode="bilinear").to(x.dtype)
        video = rearrange(pictures, "(b f) c h w -> b c f h w", b=x.shape[0])
        # The noisy frame itself, which tells more than its features where there is little noise.
        return self.conv(torch.cat([video, x], dim=1))
