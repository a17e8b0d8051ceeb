"""Cosmos Predict2: text-to-video and video-to-world.

Every block calls self-attention, then cross-attention to the text. ComfyUI 0.3.75 does not tell which block calls.
"""

from collections.abc import Mapping
from typing import Any

from ..attention.rope import RopeScheme
from .base import AttentionCall, BlockName, CallSite, FamilyInfo, calls_in_turn
from .cosmos import INPUTS, T5, info_of
from .self_cross import self_then_cross

NATIVE_FRAMES = 24
"""93 pictures, the length of the clips it was trained on."""

THETA = 10000.0
"""Base of the rotary frequencies of a model that is not extrapolated to larger pictures or longer clips."""


class CosmosPredict2Family:
    """Models of the host's `MiniTrainDIT` class itself; Anima, a subclass, makes pictures."""

    name = "cosmos_predict2"
    inputs = INPUTS
    text_encoders = (T5,)
    image_channels = None
    audio = None

    def describe(self, diffusion_model: Any, latent_channels: int) -> FamilyInfo | None:
        if type(diffusion_model).__name__ != "MiniTrainDIT":
            return None
        return info_of(diffusion_model, self.name, (4, 8, 8), latent_channels, NATIVE_FRAMES)

    def classify(
        self, diffusion_model: Any, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        return self_then_cross(call_index, call, len(diffusion_model.blocks), video_tokens, text_tokens)

    def calls_of_block(self, diffusion_model: Any, call: AttentionCall, block: BlockName) -> range:
        return calls_in_turn(block, len(diffusion_model.blocks), each=2)

    def rope_scheme(self, diffusion_model: Any, rope_options: Mapping[str, float]) -> RopeScheme | None:
        """None where keys cannot be moved: the conditioning's frame rate scales the positions, or the model adds
        learned positions to its tokens too."""
        embedder = diffusion_model.pos_embedder
        if embedder.enable_fps_modulation or diffusion_model.extra_per_block_abs_pos_emb:
            return None
        spatial, temporal = len(embedder.dim_spatial_range), len(embedder.dim_temporal_range)
        return RopeScheme(
            (
                _frequencies(2 * temporal, THETA * float(embedder.t_ntk_factor)),
                _frequencies(2 * spatial, THETA * float(embedder.h_ntk_factor)),
                _frequencies(2 * spatial, THETA * float(embedder.w_ntk_factor)),
            ),
            "halves",
        )


def _frequencies(channels: int, theta: float) -> tuple[float, ...]:
    """Angular frequencies of an axis, in radians per token step, one for each channel pair."""
    return tuple(theta ** (-channel / channels) for channel in range(0, channels, 2))
