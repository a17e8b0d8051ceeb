"""MiniMax H3: video with stereo audio, from text, from a first or last picture, or with references. ComfyUI 0.3.75
lacks it.

Every block is one joint attention, without a batch, over one sequence: text, then the pictures that the video begins or
ends with or rows of references, then the audio, then the video. Where the host has not refined the text before it
samples, the refiner's calls over the text alone come first. Hosts from 0.35 on tell the sequence's layout in the
transformer options; before, it is in an input of the model.

Positions in time run through the whole sequence: the text counts its tokens, references take some, and the video goes
on from there. So the same frame of two segments stands at two positions where their texts differ in length, and
`CallSite.origin` says at which.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..attention.rope import RopeScheme
from ..timeline.frame_cycle import FrameCycle
from .base import AttentionCall, BlockName, CallSite, FamilyInfo, UnexpectedCallError, calls_in_turn
from .joint import check_tokens
from .model_inputs import InputLayout, PackedAudio, PictureNode
from .text_encoders import EncoderFile, PromptTokens, TextEncoders, whole_text

NODES = "comfy_extras.nodes_minimax_h3"

NATIVE_FRAMES = 37
"""124 pictures, 5 seconds: what the host's nodes make unless told otherwise. It was trained on up to 362 pictures."""

CYCLE = FrameCycle((1, 4, 4, 4, 4), rest=2)
"""The VAE encodes 17 pictures at a time, and the last 5."""

PICTURES_PER_SECOND, AUDIO_STEPS_PER_SECOND = 24, 40

FRAME_SPANS = tuple(pictures * AUDIO_STEPS_PER_SECOND / PICTURES_PER_SECOND for pictures in CYCLE.pictures)
"""Positions count steps of audio."""

PICTURE_SIDE = 32.0

TEXT = "c_crossattn"
"""Input of the model: rows of text."""

PAYLOAD = "minimax_payload"
"""Input of the model: a dictionary with the sequence's layout, the tags of the text's rows, first and last pictures and
references."""

LAYOUT = "minimax_h3_layout"
"""Transformer option with the layout."""

INPUTS: Mapping[str, InputLayout] = {PAYLOAD: "sequence", "audio_denoise_mask": "audio"}

AUDIO = PackedAudio(
    time_dim=3,
    steps_per_second=lambda diffusion_model: AUDIO_STEPS_PER_SECOND,
    pictures_per_second=PICTURES_PER_SECOND,
    fix="Connect the latent of Long Video Segmenter, or set length {pictures} in Empty MiniMax H3 AV Latent.",
    shape=lambda diffusion_model, steps: (diffusion_model.audio_latents_dim, 2, steps),
)
"""Audio latents are [batch, channels, ears, steps]."""

QWEN = TextEncoders(
    "MINIMAX",
    (EncoderFile("Qwen3-VL 32B of MiniMax H3", ("QWEN3VL_32B",)),),
    PromptTokens(("SD1ClipModel",), whole_text, language_models=("MiniMaxH3ClipModel",)),
)


class MiniMaxH3Family:
    """Models of the host's `MiniMaxH3Model` class."""

    name = "minimax_h3"
    inputs = INPUTS
    text_encoders = (QWEN,)
    image_channels = PictureNode(
        f"{NODES}.MiniMaxH3ImageToVideo", f"{NODES}.MiniMaxH3ReferenceToVideo", f"{NODES}.MiniMaxH3AddGuide"
    )
    audio = AUDIO

    def describe(self, diffusion_model: Any, latent_channels: int) -> FamilyInfo | None:
        """Its latent's channels are those of the video; the host's format counts those of the audio."""
        if type(diffusion_model).__name__ != "MiniMaxH3Model":
            return None
        attention = diffusion_model.blocks[0].attn
        frames, height, width = diffusion_model.patch_size
        return FamilyInfo(
            family=self.name,
            blocks=len(diffusion_model.blocks),
            heads=int(attention.heads),
            head_dim=int(attention.head_dim),
            joint=True,
            patch=(frames, height, width),
            compression=(max(CYCLE.pictures), 16, 16),
            latent_channels=int(diffusion_model.latents_dim),
            native_frames=NATIVE_FRAMES,
            text_encoders=QWEN,
            frame_cycle=CYCLE,
        )

    def classify(
        self, diffusion_model: Any, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        payload = call.options.get(PAYLOAD) or {}
        layout = call.options.get(LAYOUT) or payload.get("layout")
        if layout is None:
            raise UnexpectedCallError("no layout of its sequence")
        segments: Sequence[tuple[int, int, str]] = layout.segments
        if call.query_tokens == text_tokens and segments[-1][1] != text_tokens:
            # The refiner, in whatever layer.
            check_tokens(call, {"text": text_tokens})
            return CallSite(0, "other")
        check_tokens(call, {kind: stop - start for start, stop, kind in _one_of_each(segments)})
        places = {kind: (start, stop) for start, stop, kind in segments}
        for kind, tokens in (("text", text_tokens), ("video", video_tokens)):
            start, stop = places.get(kind, (0, 0))
            if stop - start != tokens:
                raise UnexpectedCallError(f"{stop - start} tokens of {kind} instead of {tokens}")
        block = call_index - _refiner_calls(diffusion_model, call)
        if not 0 <= block < len(diffusion_model.blocks):
            raise UnexpectedCallError("no block to belong to")
        before = prompt_start(payload.get("text_token_tags"))
        return CallSite(
            block,
            "joint",
            video_start=places["video"][0],
            text_start=places["text"][0] + before,
            text_tokens=text_tokens - before,
            origin=float(layout.position_ids[places["video"][0], 0]),
        )

    def calls_of_block(self, diffusion_model: Any, call: AttentionCall, block: BlockName) -> range:
        return calls_in_turn(block, len(diffusion_model.blocks), 1, _refiner_calls(diffusion_model, call))

    def rope_scheme(self, diffusion_model: Any, rope_options: Mapping[str, float]) -> RopeScheme:
        """The three axes have the same frequencies."""
        along: tuple[float, ...] = tuple(diffusion_model.rope.inv_freq.double().tolist())
        return RopeScheme((along, along, along), "halves", FRAME_SPANS, PICTURE_SIDE)


def prompt_start(tags: torch.Tensor | None) -> int:
    """The first row of the prompt in a text, in front of which pictures may stand; tags: of its rows, 0 for those of
    pictures, or None for a text of words alone."""
    pictures = () if tags is None else (tags.view(-1) == 0).nonzero().view(-1).tolist()
    return pictures[-1] + 1 if pictures else 0


def _one_of_each(segments: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Segments whose kinds occur several times, under names of their own."""
    return [(start, stop, f"{kind} {number}") for number, (start, stop, kind) in enumerate(segments)]


def _refiner_calls(diffusion_model: Any, call: AttentionCall) -> int:
    """How many calls of the refiner precede the blocks': none where the text that the model gets is refined already."""
    refined = all(shape[-1] == diffusion_model.hidden_size for shape in call.inputs.get(TEXT, ()))
    return 0 if refined else len(diffusion_model.token_refiner.blocks)
