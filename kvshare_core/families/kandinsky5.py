"""Kandinsky 5: text-to-video and image-to-video (host.md 1.3; the oldest supported host lacks it).

First come the self-attention calls of the text blocks, over text alone; then every visual block calls self-attention
and cross-attention to the text.
"""

import math
from collections.abc import Mapping

from torch import nn

from ..attention.rope import RopeScheme, embed_nd_scheme
from .base import AttentionCall, CallSite, FamilyInfo, UnexpectedCallError
from .self_cross import self_then_cross

NATIVE_FRAMES = 31
"""121 pictures, 5 seconds."""

PRO_MODEL_CHANNELS = 4096
"""The model that spreads its positions differently from a certain picture size on."""


class Kandinsky5Family:
    """Video models of the host's `Kandinsky5` class; those for pictures take no second latent beside the noisy one."""

    name = "kandinsky5"

    def describe(self, diffusion_model: nn.Module, latent_channels: int) -> FamilyInfo | None:
        if type(diffusion_model).__name__ != "Kandinsky5":
            return None
        patch: tuple[int, int, int] = tuple(diffusion_model.patch_size)  # type: ignore[arg-type]
        if int(diffusion_model.visual_embed_dim) <= latent_channels * math.prod(patch):  # type: ignore[arg-type]
            return None
        attention = diffusion_model.visual_transformer_blocks[0].self_attention  # type: ignore[index, union-attr]
        return FamilyInfo(
            family=self.name,
            blocks=len(diffusion_model.visual_transformer_blocks),  # type: ignore[arg-type]
            heads=int(attention.num_heads),  # type: ignore[arg-type]
            head_dim=int(attention.head_dim),  # type: ignore[arg-type]
            joint=False,
            patch=patch,
            compression=(4, 8, 8),
            latent_channels=latent_channels,
            native_frames=NATIVE_FRAMES,
        )

    def classify(
        self, diffusion_model: nn.Module, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        visual_call = call_index - len(diffusion_model.text_transformer_blocks)  # type: ignore[arg-type]
        if visual_call >= 0:
            blocks = len(diffusion_model.visual_transformer_blocks)  # type: ignore[arg-type]
            return self_then_cross(visual_call, call, blocks, video_tokens, text_tokens)
        if (call.query_tokens, call.key_tokens) != (text_tokens, text_tokens):
            raise UnexpectedCallError(
                f"{call.query_tokens} query and {call.key_tokens} key tokens where the text has {text_tokens}"
            )
        return CallSite(0, "other")

    def rope_scheme(self, diffusion_model: nn.Module, rope_options: Mapping[str, float]) -> RopeScheme | None:
        """None for the largest model: how far apart its positions lie depends on the picture's size, which nobody
        tells here, unless `rope_options` set it."""
        embedder = diffusion_model.rope_embedder_3d
        if rope_options:
            scale = tuple(rope_options.get(name, 1.0) for name in ("scale_t", "scale_y", "scale_x"))
        elif diffusion_model.model_dim == PRO_MODEL_CHANNELS:
            return None
        else:
            scale = tuple(1 / factor for factor in diffusion_model.rope_scale_factor)  # type: ignore[union-attr]
        return embed_nd_scheme(embedder.axes_dim, embedder.theta, scale)  # type: ignore[union-attr, arg-type]
