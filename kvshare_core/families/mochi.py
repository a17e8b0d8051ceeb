"""Mochi 1: text-to-video.

Joint attention over video and text, one call per block, the video first. The host drops the text's padding before the
attention: only the first `num_tokens` tokens of the conditioning take part.
"""

from collections.abc import Mapping
from typing import Any

from ..attention.rope import RopeScheme
from .base import AttentionCall, BlockName, CallSite, FamilyInfo, calls_in_turn
from .block_presets import BlockPreset
from .joint import joint_call
from .model_inputs import InputLayout
from .text_encoders import PLAIN_PROMPT, T5_XXL, TextEncoders

NATIVE_FRAMES = 28

PRESETS: Mapping[tuple[int, int], tuple[BlockPreset, ...]] = {
    (48, 24): (
        BlockPreset(
            "masks",
            tuple(range(43)),
            "inferred",
            "2504.10317 finds that late blocks of Mochi attend to the first text token whatever is there",
        ),
    ),
}
"""Block presets by a model's numbers of blocks and heads."""

INPUTS: Mapping[str, InputLayout] = {"num_tokens": "text length"}


class MochiFamily:
    """Models of the host's `AsymmDiTJoint` class."""

    name = "mochi"
    inputs = INPUTS
    text_encoders = (TextEncoders("MOCHI", (T5_XXL,), PLAIN_PROMPT),)
    image_channels = None
    audio = None

    def describe(self, diffusion_model: Any, latent_channels: int) -> FamilyInfo | None:
        if type(diffusion_model).__name__ != "AsymmDiTJoint":
            return None
        side = int(diffusion_model.patch_size)
        blocks, heads = len(diffusion_model.blocks), int(diffusion_model.num_heads)
        return FamilyInfo(
            family=self.name,
            blocks=blocks,
            heads=heads,
            head_dim=int(diffusion_model.head_dim),
            joint=True,
            patch=(1, side, side),
            compression=(6, 8, 8),
            latent_channels=latent_channels,
            native_frames=NATIVE_FRAMES,
            presets=PRESETS.get((blocks, heads), ()),
            text_encoders=self.text_encoders[0],
        )

    def classify(
        self, diffusion_model: Any, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        parts = {"video": video_tokens, "text": text_tokens}
        return joint_call(call_index, len(diffusion_model.blocks), call, parts)

    def calls_of_block(self, diffusion_model: Any, call: AttentionCall, block: BlockName) -> range:
        return calls_in_turn(block, len(diffusion_model.blocks), each=1)

    def rope_scheme(self, diffusion_model: Any, rope_options: Mapping[str, float]) -> RopeScheme | None:
        """None: every head has learned frequencies of its own that mix the three axes, which a RopeScheme cannot
        express."""
        return None
