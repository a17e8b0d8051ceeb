"""LTX-2: video with audio, packed into one latent, or video alone.

Every block calls attention six times: video to itself, video to text, audio to itself, audio to text, video to audio,
audio to video; with a latent without audio, only the first two. Keys and values are shared in the first of the six;
the audio of a segment stays its own.

Guidance that skips audio, video or the attention between them changes the sequence of calls. Shapes show that, and such
a block is left unshared from there on, as are guides (see ltxv).
"""

from collections.abc import Sequence
from typing import Any, Literal

from .base import AttentionCall, BlockName, CallKind, CallSite, UnexpectedCallError, calls_in_turn
from .ltxv import LTXVideoFamily, check_mask
from .model_inputs import LATENT_SHAPES, PackedAudio
from .text_encoders import EncoderFile, Excerpt, PromptTokens, TextEncoders

Modality = Literal["video", "text", "audio"]

CYCLE: tuple[tuple[Modality, Modality, CallKind], ...] = (
    ("video", "video", "self"),
    ("video", "text", "cross"),
    ("audio", "audio", "other"),
    ("audio", "text", "aside"),
    ("video", "audio", "other"),
    ("audio", "video", "other"),
)
"""Whose queries attend to whose keys in one block, in the order of the calls."""


def _steps_per_second(diffusion_model: Any) -> float:
    patchifier = diffusion_model.a_patchifier
    return patchifier.sample_rate / patchifier.hop_length / patchifier.audio_latent_downsample_factor


AUDIO = PackedAudio(
    time_dim=2,
    steps_per_second=_steps_per_second,
    pictures_per_second="frame_rate",
    fix="Set frames_number {pictures} and frame_rate {rate:g} in LTXVEmptyLatentAudio, and the same frame_rate in "
    "LTXVConditioning.",
)
"""Audio latents are [batch, channels, steps, bands]."""

GEMMA = EncoderFile(
    "Gemma 3 12B (or the Gemma 4 that the model was made with)",
    ("GEMMA_3_12B", "GEMMA_4_E4B", "GEMMA_4_E2B", "GEMMA_4_12B", "GEMMA_4_31B"),
)
"""What the host takes for LTX-2; which of them a model needs shows when its projection is loaded."""

PROJECTION = EncoderFile(
    "text projection",
    detector="comfy.text_encoders.lt.sd_detect",
    combined_kinds=("GEMMA_4_12B",),
    in_model_file=True,
)
"""The layer after Gemma: part of the model's checkpoint, a file of its own, or in one file with Gemma 4 12B."""


def after_padding(pieces: Sequence[str]) -> Excerpt:
    """The host pads at the front, and drops the padding."""
    padding = next((place for place, piece in enumerate(pieces) if piece != "<pad>"), len(pieces))
    return Excerpt(padding, padding, len(pieces))


GEMMA_AND_PROJECTION = TextEncoders(
    "LTXV", (GEMMA, PROJECTION), PromptTokens(("LTXAVTEModel",), after_padding, encoder_part="gemma3_12b")
)


class LTX2Family(LTXVideoFamily):
    """Models of the host's `LTXAVModel` class, whose video part is one of LTX-Video."""

    name = "ltx2"
    text_encoders = (GEMMA_AND_PROJECTION,)
    model_class = "LTXAVModel"
    audio = AUDIO
    # Its connectors mix the text's tokens.
    routes_text = False

    def classify(
        self, diffusion_model: Any, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        shapes = call.inputs.get(LATENT_SHAPES, ())
        if len(shapes) < 2:
            return super().classify(diffusion_model, call_index, call, video_tokens, text_tokens)
        blocks = diffusion_model.transformer_blocks
        block, step = divmod(call_index, len(CYCLE))
        if block >= len(blocks):
            raise UnexpectedCallError("no block to belong to")
        queries, keys, kind = CYCLE[step]
        # Reference audio comes before the latent's own, so there may be more of it.
        expected = {"video": (video_tokens, False), "text": (text_tokens, False), "audio": (shapes[1][2], True)}
        for name, role, found in ((queries, "query", call.query_tokens), (keys, "key", call.key_tokens)):
            count, may_be_more = expected[name]
            if found != count and not (may_be_more and found > count):
                raise UnexpectedCallError(f"{found} {role} tokens where the {name} has {count}")
        if queries == keys and call.query_tokens != call.key_tokens:
            raise UnexpectedCallError(f"{call.key_tokens} key tokens in a self-attention over {call.query_tokens}")
        attention = blocks[0].attn1 if "audio" not in (queries, keys) else blocks[0].audio_attn1
        if call.query.shape[-1] != attention.dim_head:
            raise UnexpectedCallError(
                f"heads of {call.query.shape[-1]} channels where {queries} attends to {keys} with {attention.dim_head}"
            )
        site = CallSite(block, kind)
        check_mask(site, call)
        return site

    def calls_of_block(self, diffusion_model: Any, call: AttentionCall, block: BlockName) -> range:
        if len(call.inputs.get(LATENT_SHAPES, ())) < 2:
            return super().calls_of_block(diffusion_model, call, block)
        return calls_in_turn(block, len(diffusion_model.transformer_blocks), each=len(CYCLE))
