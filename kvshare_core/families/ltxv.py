"""LTX-Video 0.9: text-to-video, and image-to-video by a noise mask (host.md 1.3).

Every block calls self-attention, then cross-attention to the text, which always comes with a mask over the text tokens.
The hosts pass no block index, so blocks are counted within one forward.

Guides split self-attention into calls on some of the queries or give it a mask, and perturbed guidance skips it. All of
that is told by shapes and masks and left unshared.
"""

from collections.abc import Mapping

from torch import nn

from .base import AttentionCall, CallSite, FamilyInfo, UnexpectedCallError
from .self_cross import self_then_cross

NATIVE_FRAMES = 16
"""121 pictures, what the authors' own inference makes unless told otherwise."""


class LTXVideoFamily:
    """Models of the host's `LTXVModel` class; LTX-2, of another class, packs audio into the latent."""

    name = "ltxv"
    model_class = "LTXVModel"
    routes_text = True

    def describe(self, diffusion_model: nn.Module, latent_channels: int) -> FamilyInfo | None:
        if type(diffusion_model).__name__ != self.model_class:
            return None
        attention = diffusion_model.transformer_blocks[0].attn1  # type: ignore[index, union-attr]
        return FamilyInfo(
            family=self.name,
            blocks=len(diffusion_model.transformer_blocks),  # type: ignore[arg-type]
            heads=int(attention.heads),  # type: ignore[arg-type]
            head_dim=int(attention.dim_head),  # type: ignore[arg-type]
            joint=False,
            patch=(1, 1, 1),
            compression=tuple(diffusion_model.vae_scale_factors),  # type: ignore[arg-type]
            latent_channels=latent_channels,
            native_frames=NATIVE_FRAMES,
            routes_text=self.routes_text,
        )

    def classify(
        self, diffusion_model: nn.Module, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        blocks = len(diffusion_model.transformer_blocks)  # type: ignore[arg-type]
        site = self_then_cross(call_index, call, blocks, video_tokens, text_tokens)
        check_mask(site, call)
        # Only masks tell the two kinds apart where a skipped call would go unnoticed by the number of tokens.
        if site.kind == "cross" and call.mask is None and text_tokens == video_tokens:
            raise UnexpectedCallError(f"no mask over its {text_tokens} keys, as many as video and text tokens each")
        return site

    def rope_scheme(self, diffusion_model: nn.Module, rope_options: Mapping[str, float]) -> None:
        """None: every head rotates by frequencies of its own, and the conditioning's frame rate scales them."""
        return None


def check_mask(site: CallSite, call: AttentionCall) -> None:
    """Raises UnexpectedCallError where self-attention has a mask: guides give it one."""
    if site.kind == "self" and call.mask is not None:
        raise UnexpectedCallError("a mask, which self-attention over a video without guides does not have")
