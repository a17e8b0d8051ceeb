"""HunyuanVideo and HunyuanVideo 1.5, text-to-video and image-to-video, and SkyReels.

Joint attention over video and text: first the calls of the text refiner, over the prompt alone, then one call per
double block and one per single block. Newer hosts put the text before the video, ComfyUI 0.3.75 after it. Besides the
prompt's tokens the text has those of an image (`clip_fea`) and of text to be rendered (`txt_byt5`); the tokens of a
reference image (`ref_latent`) come right before the video's.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..attention.rope import RopeScheme, embed_nd_scheme
from .base import AttentionCall, BlockName, CallSite, FamilyInfo, Shapes, calls_in_turn
from .block_presets import BlockPreset
from .joint import check_tokens, joint_call
from .model_inputs import ImageChannels, InputLayout
from .text_encoders import (
    CLIP_L,
    QWEN25_7B,
    EncoderFile,
    Excerpt,
    PromptTokens,
    TextEncoders,
    after_qwen_header,
    find_piece,
)

NATIVE_FRAMES = 33
NATIVE_FRAMES_1_5 = 31
NATIVE_FRAMES_SKYREELS = 25

IMAGE_TEXT, RENDERED_TEXT, REFERENCE = "clip_fea", "txt_byt5", "ref_latent"
"""Inputs that add tokens: [batch, tokens, width] twice, and [batch, channels, frames, height, width]."""

INPUTS: Mapping[str, InputLayout] = {
    IMAGE_TEXT: "whole video",
    RENDERED_TEXT: "whole video",
    REFERENCE: "whole video",
    "guidance": "whole video",
    "guiding_frame_index": "first segment",
}

LLAMA_HEADER = ["<|start_header_id|>", "user", "<|end_header_id|>"]

PRESETS: Mapping[tuple[int, int], tuple[BlockPreset, ...]] = {
    (8, 1): (
        BlockPreset(
            "masks", (1, 5, 7), "measured", "the true masks of the embedded joint-attention model (docs/laboratory.md)"
        ),
    ),
    (60, 24): (
        BlockPreset("masks", tuple(range(20)), "published", "IMAP (2603.02919) reads the double blocks only"),
        BlockPreset("matches", (16,), "published", "DiffTrack for HunyuanVideo, at step 29 of 30"),
    ),
}
"""Block presets by a model's numbers of blocks and heads."""


def after_llama_header(pieces: Sequence[str]) -> Excerpt | None:
    """The host keeps what follows the last user header and, if it can, leaves out the end of it and a blank line."""
    headers = [place for place in range(len(pieces) - 2) if list(pieces[place : place + 3]) == LLAMA_HEADER]
    if not headers:
        return None
    start = headers[-1] + 3
    stop = find_piece(pieces, "<|eot_id|>", start)
    cut = list(pieces[start : start + 1]) == ["\u010a\u010a"] and len(pieces) > start + 1
    return Excerpt(start + 1 if cut else start - 1, start, stop)


LLAMA_AND_CLIP = TextEncoders(
    "HUNYUAN_VIDEO",
    (EncoderFile("LLaVA-LLaMA-3 8B", ("LLAMA3_8",)), CLIP_L),
    PromptTokens(("HunyuanVideoClipModel",), after_llama_header, encoder_part="llama", tokenizer_part="llama"),
)
QWEN_AND_BYT5 = TextEncoders(
    "HUNYUAN_VIDEO_15",
    (QWEN25_7B, EncoderFile("byT5 small glyph", ("BYT5_SMALL_GLYPH",))),
    PromptTokens(("HunyuanImageTEModel", "QwenImageTEModel"), after_qwen_header),
)
"""The text encoders of 1.5."""


def _is_newer(model: Any) -> bool:
    """Whether a `HunyuanVideo` of the host is a HunyuanVideo 1.5."""
    return tuple(model.patch_size) == (1, 1, 1) and getattr(model, "vision_in", None) is not None


class HunyuanFamily:
    """Models of the host's `HunyuanVideo` class that make videos.

    The class has image models too: their patches have two dimensions, or are those of 1.5 without its image input.
    """

    name = "hunyuan"
    inputs = INPUTS
    text_encoders = (LLAMA_AND_CLIP, QWEN_AND_BYT5)
    # HunyuanImageToVideo ("v1 (concat)") and HunyuanVideo15ImageToVideo of the host.
    # The text-to-video models of 1.5 have the channels too.
    image_channels = ImageChannels(
        "img_in.proj.weight",
        extra_channels=None,
        mask_channels=1,
        empty_pixel=None,
        last_image=False,
        mask_first=False,
        optional=_is_newer,
    )
    audio = None

    def describe(self, diffusion_model: Any, latent_channels: int) -> FamilyInfo | None:
        if type(diffusion_model).__name__ != "HunyuanVideo":
            return None
        model = diffusion_model
        patch = tuple(model.patch_size)
        newer = _is_newer(model)
        if patch != (1, 2, 2) and not newer:
            return None
        blocks, heads = len(model.double_blocks) + len(model.single_blocks), int(model.num_heads)
        skyreels = not newer and model.in_channels == 2 * model.out_channels
        return FamilyInfo(
            family=self.name,
            blocks=blocks,
            heads=heads,
            head_dim=int(model.hidden_size) // heads,
            joint=True,
            patch=patch,
            compression=(4, 16, 16) if newer else (4, 8, 8),
            latent_channels=latent_channels,
            native_frames=NATIVE_FRAMES_1_5 if newer else NATIVE_FRAMES_SKYREELS if skyreels else NATIVE_FRAMES,
            presets=PRESETS.get((blocks, heads), ()),
            text_encoders=QWEN_AND_BYT5 if newer else LLAMA_AND_CLIP,
        )

    def classify(
        self, diffusion_model: Any, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        model = diffusion_model
        block = call_index - len(model.txt_in.individual_token_refiner.blocks)
        if block < 0:
            check_tokens(call, {"text": text_tokens})
            return CallSite(0, "other")
        before, after = _tokens_around_prompt(model, call.inputs)
        text = {"text": before + text_tokens + after}
        video = {"reference": _reference_tokens(model, call.inputs), "video": video_tokens}
        text_last = bool(getattr(model.double_blocks[0], "flipped_img_txt", False))
        parts = {**video, **text} if text_last else {**text, **video}
        site = joint_call(block, len(model.double_blocks) + len(model.single_blocks), call, parts)
        return replace(site, text_start=site.text_start + before)

    def calls_of_block(self, diffusion_model: Any, call: AttentionCall, block: BlockName) -> range:
        model = diffusion_model
        before, blocks = len(model.txt_in.individual_token_refiner.blocks), len(model.double_blocks)
        if block.kind == "single":
            before, blocks = before + blocks, len(model.single_blocks)
        return calls_in_turn(block, blocks, 1, before)

    def rope_scheme(self, diffusion_model: Any, rope_options: Mapping[str, float]) -> RopeScheme:
        embedder = diffusion_model.pe_embedder
        return embed_nd_scheme(embedder.axes_dim, embedder.theta)


def _tokens_around_prompt(model: Any, inputs: Shapes) -> tuple[int, int]:
    """Numbers of text tokens before the prompt's and after them."""
    image = sum(shape[1] for shape in inputs.get(IMAGE_TEXT, ()))
    rendered = 0 if model.byt5_in is None else sum(shape[1] for shape in inputs.get(RENDERED_TEXT, ()))
    # 1.5, which marks the kinds of text by an embedding, puts all other text before the prompt.
    return (image + rendered, 0) if model.cond_type_embedding is not None else (image, rendered)


def _reference_tokens(model: Any, inputs: Shapes) -> int:
    """Number of tokens of reference images."""
    return sum(
        math.prod(-(-size // patch) for size, patch in zip(shape[2:], model.patch_size, strict=True))
        for shape in inputs.get(REFERENCE, ())
    )
