"""Mochi 1: text-to-video (host.md 1.3).

Joint attention over video and text, one call per block, the video first. The host drops the text's padding before the
attention: only the first `num_tokens` tokens of the conditioning take part.
"""

from collections.abc import Mapping

from torch import nn

from ..attention.rope import RopeScheme
from .base import AttentionCall, CallSite, FamilyInfo
from .block_presets import BlockPreset
from .joint import joint_call

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
"""What is known of the blocks of a model with that many of them and that many heads."""


class MochiFamily:
    """Models of the host's `AsymmDiTJoint` class."""

    name = "mochi"

    def describe(self, diffusion_model: nn.Module, latent_channels: int) -> FamilyInfo | None:
        if type(diffusion_model).__name__ != "AsymmDiTJoint":
            return None
        side = int(diffusion_model.patch_size)  # type: ignore[arg-type]
        blocks, heads = len(diffusion_model.blocks), int(diffusion_model.num_heads)  # type: ignore[arg-type]
        return FamilyInfo(
            family=self.name,
            blocks=blocks,
            heads=heads,
            head_dim=int(diffusion_model.head_dim),  # type: ignore[arg-type]
            joint=True,
            patch=(1, side, side),
            compression=(6, 8, 8),
            latent_channels=latent_channels,
            native_frames=NATIVE_FRAMES,
            presets=PRESETS.get((blocks, heads), ()),
        )

    def classify(
        self, diffusion_model: nn.Module, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        parts = {"video": video_tokens, "text": text_tokens}
        return joint_call(call_index, len(diffusion_model.blocks), call, parts)  # type: ignore[arg-type]

    def rope_scheme(self, diffusion_model: nn.Module, rope_options: Mapping[str, float]) -> RopeScheme | None:
        """None: every head of Mochi has learned frequencies of its own that mix the three axes, which a RopeScheme
        cannot say."""
        return None
