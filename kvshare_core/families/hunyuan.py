"""HunyuanVideo and HunyuanVideo 1.5, text-to-video and image-to-video, and SkyReels (host.md 1.3).

Joint attention over video and text: first the calls of the text refiner, over the prompt alone, then one call per
double block and one per single block. Newer hosts put the text before the video, the oldest supported one behind it.
Beside the prompt's own tokens the text has those of an image (`clip_fea`) and of written signs (`txt_byt5`); those of a
reference picture (`ref_latent`) stand right before the video.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from ..attention.rope import RopeScheme, embed_nd_scheme
from .base import AttentionCall, CallSite, FamilyInfo
from .block_presets import BlockPreset
from .joint import check_tokens, joint_call

NATIVE_FRAMES = 33
NATIVE_FRAMES_1_5 = 31
NATIVE_FRAMES_SKYREELS = 25

IMAGE_TEXT, SIGNS_TEXT, REFERENCE = "clip_fea", "txt_byt5", "ref_latent"
"""Inputs of the model that bring tokens: [batch, tokens, width] twice, and [batch, channels, frames, height, width]."""

PRESETS: Mapping[tuple[int, int], tuple[BlockPreset, ...]] = {
    (8, 1): (
        BlockPreset(
            "masks", (1, 5, 7), "measured", "the true masks of the embedded joint-attention model (docs/laboratory.md)"
        ),
    ),
    (60, 24): (
        BlockPreset("masks", tuple(range(20)), "published", "IMAP (2603.02919) reads the double blocks only"),
        BlockPreset("matches", (16,), "published", "DiffTrack for HunyuanVideo, at step 29 of 30"),
    ),
}
"""What is known of the blocks of a model with that many of them and that many heads."""

Shapes = Mapping[str, tuple[tuple[int, ...], ...]]
"""Shapes of the model's inputs, as AttentionCall has them."""


class HunyuanFamily:
    """Models of the host's `HunyuanVideo` class that make videos.

    The class also makes images: those have two-dimensional patches, or the patches of 1.5 without its image input.
    """

    name = "hunyuan"

    def describe(self, diffusion_model: nn.Module, latent_channels: int) -> FamilyInfo | None:
        if type(diffusion_model).__name__ != "HunyuanVideo":
            return None
        model: Any = diffusion_model
        patch = tuple(model.patch_size)
        newer = patch == (1, 1, 1) and getattr(model, "vision_in", None) is not None
        if patch != (1, 2, 2) and not newer:
            return None
        blocks, heads = len(model.double_blocks) + len(model.single_blocks), int(model.num_heads)
        skyreels = not newer and model.in_channels == 2 * model.out_channels
        return FamilyInfo(
            family=self.name,
            blocks=blocks,
            heads=heads,
            head_dim=int(model.hidden_size) // heads,
            joint=True,
            patch=patch,
            compression=(4, 16, 16) if newer else (4, 8, 8),
            latent_channels=latent_channels,
            native_frames=NATIVE_FRAMES_1_5 if newer else NATIVE_FRAMES_SKYREELS if skyreels else NATIVE_FRAMES,
            presets=PRESETS.get((blocks, heads), ()),
        )

    def classify(
        self, diffusion_model: nn.Module, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        model: Any = diffusion_model
        block = call_index - len(model.txt_in.individual_token_refiner.blocks)
        if block < 0:
            check_tokens(call, {"text": text_tokens})
            return CallSite(0, "other")
        before, after = _tokens_around_prompt(model, call.inputs)
        text = {"text": before + text_tokens + after}
        video = {"reference": _reference_tokens(model, call.inputs), "video": video_tokens}
        text_last = bool(getattr(model.double_blocks[0], "flipped_img_txt", False))
        parts = {**video, **text} if text_last else {**text, **video}
        site = joint_call(block, len(model.double_blocks) + len(model.single_blocks), call, parts)
        return replace(site, text_start=site.text_start + before)

    def rope_scheme(self, diffusion_model: nn.Module, rope_options: Mapping[str, float]) -> RopeScheme:
        embedder = diffusion_model.pe_embedder
        return embed_nd_scheme(embedder.axes_dim, embedder.theta)  # type: ignore[union-attr, arg-type]


def _tokens_around_prompt(model: Any, inputs: Shapes) -> tuple[int, int]:
    """Tokens of the text that stand before the prompt's own and behind them."""
    image = sum(shape[1] for shape in inputs.get(IMAGE_TEXT, ()))
    signs = 0 if model.byt5_in is None else sum(shape[1] for shape in inputs.get(SIGNS_TEXT, ()))
    # 1.5, which tells kinds of text apart by an embedding, puts the signs first.
    return (image + signs, 0) if model.cond_type_embedding is not None else (image, signs)


def _reference_tokens(model: Any, inputs: Shapes) -> int:
    return sum(
        math.prod(-(-size // patch) for size, patch in zip(shape[2:], model.patch_size, strict=True))
        for shape in inputs.get(REFERENCE, ())
    )
