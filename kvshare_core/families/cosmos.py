"""Cosmos 1: text-to-video and video-to-world (host.md 1.3).

Every block calls self-attention, then cross-attention to the text, with heads apart in what goes in and what comes out.
No host passes a block index, so blocks are counted within one forward.
"""

from collections.abc import Mapping

from torch import nn

from .base import AttentionCall, CallSite, FamilyInfo
from .self_cross import self_then_cross

NATIVE_FRAMES = 16
"""121 pictures, the only length it was trained on."""


class CosmosFamily:
    """Models of the host's `GeneralDIT` class."""

    name = "cosmos"

    def describe(self, diffusion_model: nn.Module, latent_channels: int) -> FamilyInfo | None:
        if type(diffusion_model).__name__ != "GeneralDIT":
            return None
        return info_of(diffusion_model, self.name, (8, 8, 8), latent_channels, NATIVE_FRAMES)

    def classify(
        self, diffusion_model: nn.Module, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        return self_then_cross(call_index, call, len(diffusion_model.blocks), video_tokens, text_tokens)  # type: ignore[arg-type]

    def rope_scheme(self, diffusion_model: nn.Module, rope_options: Mapping[str, float]) -> None:
        """None: learned positions are added before every block, so a turned key is not the key of another place."""
        return None


def info_of(
    diffusion_model: nn.Module,
    family: str,
    compression: tuple[int, int, int],
    latent_channels: int,
    native_frames: int,
) -> FamilyInfo:
    """Numbers of a Cosmos of either generation; those that its module does not tell are given."""
    heads = int(diffusion_model.num_heads)  # type: ignore[arg-type]
    spatial = int(diffusion_model.patch_spatial)  # type: ignore[arg-type]
    return FamilyInfo(
        family=family,
        blocks=len(diffusion_model.blocks),  # type: ignore[arg-type]
        heads=heads,
        head_dim=int(diffusion_model.model_channels) // heads,  # type: ignore[arg-type]
        joint=False,
        patch=(int(diffusion_model.patch_temporal), spatial, spatial),  # type: ignore[arg-type]
        compression=compression,
        latent_channels=latent_channels,
        native_frames=native_frames,
        routes_text=True,
    )
