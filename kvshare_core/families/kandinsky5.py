"""Kandinsky 5: text-to-video and image-to-video. ComfyUI 0.3.75 lacks it.

First come the self-attention calls of the text blocks, over the text alone; then every visual block calls
self-attention and cross-attention to the text.
"""

import math
from collections.abc import Mapping
from typing import Any

from ..attention.rope import RopeScheme, embed_nd_scheme
from .base import AttentionCall, BlockName, CallSite, FamilyInfo, UnexpectedCallError, calls_in_turn
from .model_inputs import InputLayout, PerFrame
from .self_cross import self_then_cross
from .text_encoders import CLIP_L, QWEN25_7B, PromptTokens, TextEncoders, after_qwen_header

NATIVE_FRAMES = 31
"""121 pictures, 5 seconds."""

PRO_MODEL_CHANNELS = 4096
"""Width of the model that scales its positions differently from a certain picture size on."""

INPUTS: Mapping[str, InputLayout] = {"time_dim_replace": PerFrame(2, length="any")}

QWEN_AND_CLIP = TextEncoders(
    "KANDINSKY5", (QWEN25_7B, CLIP_L), PromptTokens(("Kandinsky5TEModel", "QwenImageTEModel"), after_qwen_header)
)


class Kandinsky5Family:
    """Video models of the host's `Kandinsky5` class; those for images take no second latent besides the noisy one."""

    name = "kandinsky5"
    inputs = INPUTS
    text_encoders = (QWEN_AND_CLIP,)
    image_channels = None
    audio = None

    def describe(self, diffusion_model: Any, latent_channels: int) -> FamilyInfo | None:
        if type(diffusion_model).__name__ != "Kandinsky5":
            return None
        frames, height, width = diffusion_model.patch_size
        if int(diffusion_model.visual_embed_dim) <= latent_channels * math.prod((frames, height, width)):
            return None
        attention = diffusion_model.visual_transformer_blocks[0].self_attention
        return FamilyInfo(
            family=self.name,
            blocks=len(diffusion_model.visual_transformer_blocks),
            heads=int(attention.num_heads),
            head_dim=int(attention.head_dim),
            joint=False,
            patch=(frames, height, width),
            compression=(4, 8, 8),
            latent_channels=latent_channels,
            native_frames=NATIVE_FRAMES,
            text_encoders=QWEN_AND_CLIP,
        )

    def classify(
        self, diffusion_model: Any, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        visual_call = call_index - len(diffusion_model.text_transformer_blocks)
        if visual_call >= 0:
            blocks = len(diffusion_model.visual_transformer_blocks)
            return self_then_cross(visual_call, call, blocks, video_tokens, text_tokens)
        if (call.query_tokens, call.key_tokens) != (text_tokens, text_tokens):
            raise UnexpectedCallError(
                f"{call.query_tokens} query and {call.key_tokens} key tokens where the text has {text_tokens}"
            )
        return CallSite(0, "other")

    def calls_of_block(self, diffusion_model: Any, call: AttentionCall, block: BlockName) -> range:
        before = len(diffusion_model.text_transformer_blocks)
        return calls_in_turn(block, len(diffusion_model.visual_transformer_blocks), each=2, before=before)

    def rope_scheme(self, diffusion_model: Any, rope_options: Mapping[str, float]) -> RopeScheme | None:
        """None for the largest model unless `rope_options` set the scale: it scales its positions by the picture's
        size, which is not known here."""
        embedder = diffusion_model.rope_embedder_3d
        if rope_options:
            scale = tuple(rope_options.get(name, 1.0) for name in ("scale_t", "scale_y", "scale_x"))
        elif diffusion_model.model_dim == PRO_MODEL_CHANNELS:
            return None
        else:
            scale = tuple(1 / factor for factor in diffusion_model.rope_scale_factor)
        frame, height, width = scale
        return embed_nd_scheme(embedder.axes_dim, embedder.theta, (frame, height, width))
