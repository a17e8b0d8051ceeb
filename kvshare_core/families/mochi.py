"""Mochi 1: text-to-video (host.md 1.3).

Joint attention over video and text, one call per block, the video first. The host drops the text's padding before the
attention: only the first `num_tokens` tokens of the conditioning take part.
"""

from collections.abc import Mapping

from torch import nn

from ..rope import RopeScheme
from .base import AttentionCall, CallSite, FamilyInfo
from .joint import joint_call

NATIVE_FRAMES = 28


class MochiFamily:
    """Models of the host's `AsymmDiTJoint` class."""

    name = "mochi"

    def describe(self, diffusion_model: nn.Module, latent_channels: int) -> FamilyInfo | None:
        if type(diffusion_model).__name__ != "AsymmDiTJoint":
            return None
        side = int(diffusion_model.patch_size)  # type: ignore[arg-type]
        return FamilyInfo(
            family=self.name,
            blocks=len(diffusion_model.blocks),  # type: ignore[arg-type]
            heads=int(diffusion_model.num_heads),  # type: ignore[arg-type]
            head_dim=int(diffusion_model.head_dim),  # type: ignore[arg-type]
            joint=True,
            patch=(1, side, side),
            compression=(6, 8, 8),
            latent_channels=latent_channels,
            native_frames=NATIVE_FRAMES,
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
