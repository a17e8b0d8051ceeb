"""LTX-2: video with audio, packed into one latent, or video alone (host.md 1.3).

Every block calls attention six times: video to itself, video to text, audio to itself, audio to text, video to audio,
audio to video; a latent without audio has the first two only. The hosts pass no block index, so blocks are counted
within one forward. Keys and values are shared in the first; the audio of a segment stays its own.

Guidance that leaves audio, video or what lies between them out changes the cycle. That is told by shapes and left
unshared, as are guides (see ltxv).
"""

from typing import Literal

from torch import nn

from .base import AttentionCall, CallKind, CallSite, UnexpectedCallError
from .ltxv import LTXVideoFamily, check_mask

Sequence = Literal["video", "text", "audio"]

CYCLE: tuple[tuple[Sequence, Sequence, CallKind], ...] = (
    ("video", "video", "self"),
    ("video", "text", "cross"),
    ("audio", "audio", "other"),
    ("audio", "text", "aside"),
    ("video", "audio", "other"),
    ("audio", "video", "other"),
)
"""Whose queries look at whose keys in one block, in the order of the calls."""

LATENT_SHAPES = "latent_shapes"
"""Input that tells the shapes of what is packed: video [batch, channels, frames, height, width] and, where there is
any, audio [batch, channels, steps, bands]."""


class LTX2Family(LTXVideoFamily):
    """Models of the host's `LTXAVModel` class, whose video part is one of LTX-Video."""

    name = "ltx2"
    model_class = "LTXAVModel"
    # Its connectors mix the text's tokens.
    routes_text = False

    def classify(
        self, diffusion_model: nn.Module, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        shapes = call.inputs.get(LATENT_SHAPES, ())
        if len(shapes) < 2:
            return super().classify(diffusion_model, call_index, call, video_tokens, text_tokens)
        blocks = diffusion_model.transformer_blocks
        block, place = divmod(call_index, len(CYCLE))
        if block >= len(blocks):  # type: ignore[arg-type]
            raise UnexpectedCallError("no block to belong to")
        queries, keys, kind = CYCLE[place]
        # Reference audio stands in front of the latent's own, so there may be more of it.
        expected = {"video": (video_tokens, False), "text": (text_tokens, False), "audio": (shapes[1][2], True)}
        for name, role, found in ((queries, "query", call.query_tokens), (keys, "key", call.key_tokens)):
            count, may_be_more = expected[name]
            if found != count and not (may_be_more and found > count):
                raise UnexpectedCallError(f"{found} {role} tokens where the {name} has {count}")
        if queries == keys and call.query_tokens != call.key_tokens:
            raise UnexpectedCallError(f"{call.key_tokens} key tokens in a self-attention over {call.query_tokens}")
        attention = blocks[0].attn1 if "audio" not in (queries, keys) else blocks[0].audio_attn1  # type: ignore[index, union-attr]
        if call.query.shape[-1] != attention.dim_head:  # type: ignore[union-attr]
            raise UnexpectedCallError(
                f"heads of {call.query.shape[-1]} channels where {queries} looks at {keys} in {attention.dim_head}"  # type: ignore[union-attr]
            )
        site = CallSite(block, kind)
        check_mask(site, call)
        return site
