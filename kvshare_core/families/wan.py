"""Wan 2.1 and 2.2: text-to-video and image-to-video (host.md 1.3).

Every block calls self-attention, then cross-attention to the image (image-to-video models only), then cross-attention
to the text. The oldest supported host passes no block index, so blocks are counted within one forward and checked by
shapes.
"""

from collections.abc import Mapping

from torch import nn

from ..rope import RopeScheme, embed_nd_scheme
from .base import AttentionCall, CallSite, FamilyInfo, UnexpectedCallError

NATIVE_FRAMES = 21


class WanFamily:
    """Models of the host's `WanModel` class itself; its subclasses add attention calls of their own."""

    name = "wan"

    def describe(self, diffusion_model: nn.Module, latent_channels: int) -> FamilyInfo | None:
        if type(diffusion_model).__name__ != "WanModel":
            return None
        spatial = 16 if latent_channels == 48 else 8
        return FamilyInfo(
            family=self.name,
            blocks=len(diffusion_model.blocks),  # type: ignore[arg-type]
            heads=int(diffusion_model.num_heads),  # type: ignore[arg-type]
            head_dim=int(diffusion_model.dim) // int(diffusion_model.num_heads),  # type: ignore[arg-type]
            joint=False,
            patch=tuple(diffusion_model.patch_size),  # type: ignore[arg-type]
            compression=(4, spatial, spatial),
            latent_channels=latent_channels,
            native_frames=NATIVE_FRAMES,
        )

    def classify(
        self, diffusion_model: nn.Module, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        cycle = 3 if diffusion_model.model_type == "i2v" else 2
        block, place = divmod(call_index, cycle)
        if block >= len(diffusion_model.blocks):  # type: ignore[arg-type]
            raise UnexpectedCallError("no block to belong to")
        if call.query_tokens != video_tokens:
            raise UnexpectedCallError(f"{call.query_tokens} query tokens where the video has {video_tokens}")
        if place == 0:
            if call.key_tokens != video_tokens:
                raise UnexpectedCallError(f"{call.key_tokens} key tokens in a self-attention over {video_tokens}")
            return CallSite(block, "self")
        if place < cycle - 1:
            return CallSite(block, "other")
        if call.key_tokens != text_tokens:
            raise UnexpectedCallError(f"{call.key_tokens} key tokens in a cross-attention to {text_tokens} text tokens")
        return CallSite(block, "cross")

    def rope_scheme(self, diffusion_model: nn.Module, rope_options: Mapping[str, float]) -> RopeScheme:
        embedder = diffusion_model.rope_embedder
        scale = (rope_options.get("scale_t", 1.0), rope_options.get("scale_y", 1.0), rope_options.get("scale_x", 1.0))
        return embed_nd_scheme(embedder.axes_dim, embedder.theta, scale)  # type: ignore[union-attr, arg-type]
