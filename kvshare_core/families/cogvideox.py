"""CogVideoX 1.0 and 1.5: text-to-video, image-to-video and inpainting. ComfyUI 0.3.75 lacks it.

Joint attention over text and video, one call per block, the text first. In 1.5 a token covers two latent frames; the
host pads a latent with an odd number of them at its end.
"""

from collections.abc import Mapping
from typing import Any

from ..attention.rope import RopeScheme, embed_nd_scheme
from .base import AttentionCall, BlockName, CallSite, FamilyInfo, calls_in_turn
from .block_presets import BlockPreset
from .joint import joint_call
from .model_inputs import InputLayout
from .text_encoders import PLAIN_PROMPT, T5_XXL, TextEncoders

NATIVE_FRAMES = 13
NATIVE_FRAMES_1_5 = 21

ROPE_THETA = 10000.0
"""Base of the host's rotary frequencies; its model has no attribute for it."""

# The source counts from 1, it seems: its first list has a block 42 of 42.
BACHVID = tuple(block - 1 for block in (1, 2, 12, 13, 14, 15, 16, 18, 20, 21, 22, 24, 30, 35, 42))
BACHVID_MASKS = tuple(block - 1 for block in range(6, 21))

PRESETS: Mapping[tuple[int, int], tuple[BlockPreset, ...]] = {
    (30, 30): (
        BlockPreset(
            "share",
            tuple(range(25, 30)),
            "published",
            "DiTCtrl's released configuration for CogVideoX-2B, steps 2 to 24 of 50, without an ablation",
            (0.04, 0.5),
        ),
        BlockPreset("matches", (13, 17, 21), "published", "DiffTrack for CogVideoX-2B, best in block 17"),
    ),
    (42, 48): (
        BlockPreset("share", BACHVID, "published", "vital blocks of CogVideoX-5B in BachVid (2510.21696, a summary)"),
        BlockPreset("masks", BACHVID_MASKS, "published", "BachVid for CogVideoX-5B (2510.21696, a summary)"),
        BlockPreset("matches", (15, 17, 18), "published", "DiffTrack for CogVideoX-5B"),
    ),
}
"""Block presets of 1.0 models by their numbers of blocks and heads."""

INPUTS: Mapping[str, InputLayout] = {"ofs": "whole video"}


class CogVideoXFamily:
    """Models of the host's `CogVideoXTransformer3DModel` class."""

    name = "cogvideox"
    inputs = INPUTS
    text_encoders = (TextEncoders("COGVIDEOX", (T5_XXL,), PLAIN_PROMPT),)
    image_channels = None
    audio = None

    def describe(self, diffusion_model: Any, latent_channels: int) -> FamilyInfo | None:
        if type(diffusion_model).__name__ != "CogVideoXTransformer3DModel":
            return None
        frame_patch, side = _frame_patch(diffusion_model), int(diffusion_model.patch_size)
        blocks = len(diffusion_model.blocks)
        heads = int(diffusion_model.num_attention_heads)
        return FamilyInfo(
            family=self.name,
            blocks=blocks,
            heads=heads,
            head_dim=int(diffusion_model.attention_head_dim),
            joint=True,
            patch=(frame_patch or 1, side, side),
            compression=(4, 8, 8),
            latent_channels=latent_channels,
            native_frames=NATIVE_FRAMES if frame_patch is None else NATIVE_FRAMES_1_5,
            presets=PRESETS.get((blocks, heads), ()) if frame_patch is None else (),
            text_encoders=self.text_encoders[0],
        )

    def classify(
        self, diffusion_model: Any, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        parts = {"text": text_tokens, "video": video_tokens}
        return joint_call(call_index, len(diffusion_model.blocks), call, parts)

    def calls_of_block(self, diffusion_model: Any, call: AttentionCall, block: BlockName) -> range:
        return calls_in_turn(block, len(diffusion_model.blocks), each=1)

    def rope_scheme(self, diffusion_model: Any, rope_options: Mapping[str, float]) -> RopeScheme | None:
        """None for the 2B model, which adds positions to its tokens in place of rotating keys."""
        if not diffusion_model.use_rotary_positional_embeddings:
            return None
        width = int(diffusion_model.attention_head_dim)
        # The host stretches height and width of 1.0, by 1 in models of published files; 1.5 counts tokens.
        counts_tokens = _frame_patch(diffusion_model) is not None
        stretch = 1.0 if counts_tokens else float(diffusion_model.spatial_interpolation_scale)
        return embed_nd_scheme([width // 4, width // 8 * 3, width // 8 * 3], ROPE_THETA, (1.0, stretch, stretch))


def _frame_patch(diffusion_model: Any) -> int | None:
    """Latent frames per token in 1.5, None in 1.0."""
    return getattr(diffusion_model, "patch_size_t", None)
