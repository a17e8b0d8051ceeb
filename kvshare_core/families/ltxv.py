"""LTX-Video 0.9: text-to-video, and image-to-video by a noise mask.

Every block calls self-attention, then cross-attention to the text, which always has a mask over the text tokens.

Guides split self-attention into calls on some of the queries or give it a mask, and perturbed guidance skips it. Shapes
and masks show all of that, and such a block is left unshared.
"""

from collections.abc import Mapping
from typing import Any

from .base import AttentionCall, BlockName, CallSite, FamilyInfo, UnexpectedCallError, calls_in_turn
from .model_inputs import ImageInput, Indivisible, InputLayout, PackedAudio
from .self_cross import self_then_cross
from .text_encoders import PLAIN_PROMPT, T5_XXL, TextEncoders

NATIVE_FRAMES = 16
"""121 pictures, the default of the authors' own inference."""

GUIDE_FRAMES = Indivisible(
    "guide frames (LTXVAddGuide), which belong to the video as a whole and to none of its segments. Remove that node; "
    "to start from an image, use LTXVImgToVideo."
)
"""The host appends guide frames to the latent's own, and these inputs say where in time they belong."""

INPUTS: Mapping[str, InputLayout] = {
    "frame_rate": "whole video",
    "generated_keyframes": GUIDE_FRAMES,
    "keyframe_idxs": GUIDE_FRAMES,
}

T5 = TextEncoders("LTXV", (T5_XXL,), PLAIN_PROMPT)


class LTXVideoFamily:
    """Models of the host's `LTXVModel` class; LTX-2, of another class, packs audio into the latent."""

    name = "ltxv"
    inputs = INPUTS
    text_encoders = (T5,)
    # LTXVImgToVideoInplace of the host.
    image_channels: ImageInput = "latent"
    audio: PackedAudio | None = None
    model_class = "LTXVModel"
    routes_text = True

    def describe(self, diffusion_model: Any, latent_channels: int) -> FamilyInfo | None:
        if type(diffusion_model).__name__ != self.model_class:
            return None
        attention = diffusion_model.transformer_blocks[0].attn1
        frames, height, width = diffusion_model.vae_scale_factors
        return FamilyInfo(
            family=self.name,
            blocks=len(diffusion_model.transformer_blocks),
            heads=int(attention.heads),
            head_dim=int(attention.dim_head),
            joint=False,
            patch=(1, 1, 1),
            compression=(frames, height, width),
            latent_channels=latent_channels,
            native_frames=NATIVE_FRAMES,
            routes_text=self.routes_text,
            text_encoders=self.text_encoders[0],
        )

    def classify(
        self, diffusion_model: Any, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        blocks = len(diffusion_model.transformer_blocks)
        site = self_then_cross(call_index, call, blocks, video_tokens, text_tokens)
        check_mask(site, call)
        # With as many text tokens as video tokens, only the mask shows that no self-attention was skipped.
        if site.kind == "cross" and call.mask is None and text_tokens == video_tokens:
            raise UnexpectedCallError(f"no mask over its {text_tokens} keys, as many as video and text tokens each")
        return site

    def calls_of_block(self, diffusion_model: Any, call: AttentionCall, block: BlockName) -> range:
        return calls_in_turn(block, len(diffusion_model.transformer_blocks), each=2)

    def rope_scheme(self, diffusion_model: Any, rope_options: Mapping[str, float]) -> None:
        """None: every head has frequencies of its own, and the conditioning's frame rate scales them."""
        return None


def check_mask(site: CallSite, call: AttentionCall) -> None:
    """Raises UnexpectedCallError for self-attention with a mask, which guides give it."""
    if site.kind == "self" and call.mask is not None:
        raise UnexpectedCallError("a mask, which self-attention over a video without guides does not have")
