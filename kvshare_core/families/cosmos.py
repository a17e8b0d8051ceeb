"""Cosmos 1: text-to-video and video-to-world.

Every block calls self-attention, then cross-attention to the text, with a dimension for the heads in tensors and
output. No host tells which block calls or lets a block be replaced, so calls are counted within one forward.
"""

from collections.abc import Mapping
from typing import Any

from .base import AttentionCall, BlockName, CallSite, FamilyInfo, calls_in_turn
from .model_inputs import InputLayout
from .self_cross import self_then_cross
from .text_encoders import PLAIN_PROMPT, EncoderFile, TextEncoders

NATIVE_FRAMES = 16
"""121 pictures, the only length it was trained on."""

INPUTS: Mapping[str, InputLayout] = {"fps": "whole video"}

T5 = TextEncoders("COSMOS", (EncoderFile("T5-XXL 1.0", ("T5_XXL_OLD",)),), PLAIN_PROMPT)


class CosmosFamily:
    """Models of the host's `GeneralDIT` class."""

    name = "cosmos"
    inputs = INPUTS
    text_encoders = (T5,)
    image_channels = None
    audio = None

    def describe(self, diffusion_model: Any, latent_channels: int) -> FamilyInfo | None:
        if type(diffusion_model).__name__ != "GeneralDIT":
            return None
        return info_of(diffusion_model, self.name, (8, 8, 8), latent_channels, NATIVE_FRAMES)

    def classify(
        self, diffusion_model: Any, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        return self_then_cross(call_index, call, len(diffusion_model.blocks), video_tokens, text_tokens)

    def calls_of_block(self, diffusion_model: Any, call: AttentionCall, block: BlockName) -> range:
        return calls_in_turn(block, len(diffusion_model.blocks), each=2)

    def rope_scheme(self, diffusion_model: Any, rope_options: Mapping[str, float]) -> None:
        """None: every block adds learned positions to its input, so rotating a key does not move it."""
        return None


def info_of(
    diffusion_model: Any,
    family: str,
    compression: tuple[int, int, int],
    latent_channels: int,
    native_frames: int,
) -> FamilyInfo:
    """What a Cosmos model of either generation is; the arguments are what its module has no attributes for."""
    heads = int(diffusion_model.num_heads)
    spatial = int(diffusion_model.patch_spatial)
    return FamilyInfo(
        family=family,
        blocks=len(diffusion_model.blocks),
        heads=heads,
        head_dim=int(diffusion_model.model_channels) // heads,
        joint=False,
        patch=(int(diffusion_model.patch_temporal), spatial, spatial),
        compression=compression,
        latent_channels=latent_channels,
        native_frames=native_frames,
        routes_text=True,
        text_encoders=T5,
    )
