"""HunyuanVideo text-to-video (host.md 1.3).

Joint attention over video and text: first the calls of the text refiner, over text alone, then one call per double
block and one per single block. Newer hosts put the text before the video, the oldest supported one behind it.
"""

from collections.abc import Mapping

from torch import nn

from ..rope import RopeScheme, embed_nd_scheme
from .base import AttentionCall, CallSite, FamilyInfo, UnexpectedCallError

NATIVE_FRAMES = 33


class HunyuanFamily:
    """Models of the host's `HunyuanVideo` class with three-dimensional patches."""

    name = "hunyuan"

    def describe(self, diffusion_model: nn.Module, latent_channels: int) -> FamilyInfo | None:
        if type(diffusion_model).__name__ != "HunyuanVideo" or len(diffusion_model.patch_size) != 3:  # type: ignore[arg-type]
            return None
        return FamilyInfo(
            family=self.name,
            blocks=len(diffusion_model.double_blocks) + len(diffusion_model.single_blocks),  # type: ignore[arg-type]
            heads=int(diffusion_model.num_heads),  # type: ignore[arg-type]
            head_dim=int(diffusion_model.hidden_size) // int(diffusion_model.num_heads),  # type: ignore[arg-type]
            joint=True,
            patch=tuple(diffusion_model.patch_size),  # type: ignore[arg-type]
            compression=(4, 8, 8),
            latent_channels=latent_channels,
            native_frames=NATIVE_FRAMES,
        )

    def classify(
        self, diffusion_model: nn.Module, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        refiner_calls = len(diffusion_model.txt_in.individual_token_refiner.blocks)  # type: ignore[union-attr, arg-type]
        block = call_index - refiner_calls
        if call.query_tokens != call.key_tokens:
            raise UnexpectedCallError(f"{call.query_tokens} queries and {call.key_tokens} keys in a joint attention")
        if block < 0:
            if call.query_tokens != text_tokens:
                raise UnexpectedCallError(f"{call.query_tokens} tokens where the text has {text_tokens}")
            return CallSite(0, "other")
        if block >= len(diffusion_model.double_blocks) + len(diffusion_model.single_blocks):  # type: ignore[arg-type]
            raise UnexpectedCallError("no block to belong to")
        if call.query_tokens != video_tokens + text_tokens:
            raise UnexpectedCallError(
                f"{call.query_tokens} tokens where video and text have {video_tokens} + {text_tokens}"
            )
        text_last = bool(getattr(diffusion_model.double_blocks[0], "flipped_img_txt", False))  # type: ignore[index]
        if text_last:
            return CallSite(block, "joint", video_start=0, text_start=video_tokens)
        return CallSite(block, "joint", video_start=text_tokens, text_start=0)

    def rope_scheme(self, diffusion_model: nn.Module, rope_options: Mapping[str, float]) -> RopeScheme:
        embedder = diffusion_model.pe_embedder
        return embed_nd_scheme(embedder.axes_dim, embedder.theta)  # type: ignore[union-attr, arg-type]
