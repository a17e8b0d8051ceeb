"""Tiny text encoders of every kind that the host's video models use, with the host's own tokenizers and templates.

Sentencepiece models come with checkpoints of a gigabyte, so a small one is trained for umT5 and Gemma 3, and a small
vocabulary of pairs for Gemma 4.
"""

import functools
import inspect
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import pytest
import sentencepiece
import tokenizers
import torch
from comfy import sdxl_clip
from comfy.text_encoders import cosmos, genmo, hunyuan_image, hunyuan_video, lt, sd2_clip, wan

from tests.tiny.ltx2 import AUDIO_WIDTH, VIDEO_WIDTH

T5_SIZES = {"d_ff": 64, "d_model": 32, "d_kv": 8, "num_heads": 4, "num_layers": 2}
CLIP_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "projection_dim": 32,
}
LANGUAGE_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
}

EYE_SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 64,
    "depth": 2,
    "deepstack_visual_indexes": [0, 1],
}
"""Of the part of MiniMax H3's encoder that sees pictures."""

SIZES: dict[str, Any] = {
    "clip_l_model_config": CLIP_SIZES,
    "clip_h_model_config": CLIP_SIZES,
    "clip_g_model_config": CLIP_SIZES,
    "t5xxl_model_config": T5_SIZES,
    "umt5xxl_model_config": T5_SIZES,
    "llama_model_config": LANGUAGE_SIZES,
    "qwen25_7b_model_config": LANGUAGE_SIZES,
    "gemma3_12b_model_config": LANGUAGE_SIZES,
    "qwen3vl_32b_model_config": LANGUAGE_SIZES,
    "gemma4_model_config": LANGUAGE_SIZES,
}
UNUSED = ("visual.", "vision_model.", "multi_modal_projector.", "byt5_small.")
"""Parts that are not used for a prompt; some are large."""

CORPUS = [
    "a red fox runs through tall green grass",
    "the blue wolf sleeps in the snow while a fox watches",
    "an old man walks over a bridge, a dog runs ahead",
    "ein roter Fuchs springt durch hohes Gras",
    "un renard roux court dans l'herbe verte",
    "\u4e00\u53ea\u7ea2\u8272\u7684\u72d0\u72f8\u5728\u8349\u5730\u4e0a\u5954\u8dd1",
    "\u72d0\u72f8\u5728\u96ea\u5730\u91cc\u7761\u89c9",
    "system user model You are a helpful assistant.",
]


@functools.cache
def tiny_sentencepiece() -> bytes:
    """A small unigram model with byte fallback and umT5's numbers for padding and the end."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 4),
        model_writer=model,
        vocab_size=420,
        model_type="unigram",
        byte_fallback=True,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        minloglevel=2,
    )
    return model.getvalue()


@functools.cache
def tiny_tokenizer_json() -> torch.Tensor:
    """A small tokenizer of the form of Gemma 4's, as a checkpoint has it: the bytes of its JSON."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = tokenizers.normalizers.Replace(" ", "\u2581")
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    return torch.tensor(list(tokenizer.to_str().encode()), dtype=torch.uint8)


Parts = tuple[Any, Any]
"""The classes of a tokenizer and of an encoder."""


def _newer(module: str) -> Any:
    name = f"comfy.text_encoders.{module}"
    return pytest.importorskip(name, reason=f"this ComfyUI has no {name}", exc_type=ImportError)


def _cogvideox() -> Parts:
    return _newer("cogvideo").CogVideoXTokenizer, _newer("cogvideo").cogvideo_te()


def _hunyuan_video() -> Parts:
    vocabulary = Path(hunyuan_video.__file__).parent / "llama_tokenizer" / "tokenizer.json"
    if not vocabulary.exists():
        pytest.skip(f"this ComfyUI lacks {vocabulary}")
    return hunyuan_video.HunyuanVideoTokenizer, hunyuan_video.hunyuan_video_clip()


def _kandinsky5() -> Parts:
    return _newer("kandinsky5").Kandinsky5Tokenizer, _newer("kandinsky5").te()


def _ltxav() -> Parts:
    newer: Any = lt
    if not hasattr(newer, "ltxav_te"):
        pytest.skip("this ComfyUI has no LTX-2")
    if "video_projection_dim" in inspect.signature(newer.ltxav_te).parameters:
        widths = {"video_projection_dim": VIDEO_WIDTH, "audio_projection_dim": AUDIO_WIDTH}
        return newer.LTXAVGemmaTokenizer, newer.ltxav_te(text_projection_type="dual_linear", **widths)

    class Small(newer.ltxav_te(text_projection_type="dual_linear")):
        """Its projection has the released model's size on this host, whatever the language model's is."""

        def __init__(self, dtype: Any = None, **options: Any) -> None:
            super().__init__(dtype=dtype, **options)
            states = LANGUAGE_SIZES["hidden_size"] * (LANGUAGE_SIZES["num_hidden_layers"] + 1)
            operations = self.gemma3_12b.operations
            self.text_embedding_projection = newer.DualLinearProjection(
                states, VIDEO_WIDTH, AUDIO_WIDTH, dtype=dtype, operations=operations
            )

    return newer.LTXAVGemmaTokenizer, Small


def _minimax() -> Parts:
    newer, vision = _newer("minimax"), _newer("qwen3vl").QWEN3VL_VISION

    class Small(newer.te()):
        """Its eyes have the released model's size on this host, whatever the language model's is."""

        def __init__(self, **options: Any) -> None:
            whole = vision["qwen3vl_32b"]
            vision["qwen3vl_32b"] = EYE_SIZES
            try:
                super().__init__(**options)
            finally:
                vision["qwen3vl_32b"] = whole

    return newer.MiniMaxH3Tokenizer, Small


def _ltxav_gemma4() -> Parts:
    newer: Any = lt
    if not hasattr(newer, "ltxav_gemma4_tokenizer"):
        pytest.skip("this ComfyUI has no LTX-2.5")
    gemma4 = _newer("gemma4")
    encoder = newer.ltxav_te(
        text_projection_type="dual_linear",
        video_projection_dim=32,
        audio_projection_dim=32,
        text_encoder_model=gemma4.gemma4_text_encoder_model(gemma4.Gemma4_12B),
        text_encoder_key="gemma4",
    )
    return newer.ltxav_gemma4_tokenizer(gemma4.Gemma4_12B.tokenizer), encoder


KINDS: dict[str, Callable[[], Parts]] = {
    "clip_l": lambda: (comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel),
    "mochi": lambda: (genmo.MochiT5Tokenizer, genmo.mochi_te()),
    "ltxv": lambda: (lt.LTXVT5Tokenizer, lt.ltxv_te()),
    "cosmos": lambda: (cosmos.CosmosT5Tokenizer, cosmos.te()),
    "wan": lambda: (wan.WanT5Tokenizer, wan.te()),
    "cogvideox": _cogvideox,
    "hunyuan_video": _hunyuan_video,
    "hunyuan_video_15": lambda: (hunyuan_video.HunyuanVideo15Tokenizer, hunyuan_image.te()),
    "kandinsky5": _kandinsky5,
    "ltxav": _ltxav,
    "minimax": _minimax,
    "ltxav gemma 4": _ltxav_gemma4,
    "sd2": lambda: (sd2_clip.SD2Tokenizer, sd2_clip.SD2ClipModel),
    "sdxl": lambda: (sdxl_clip.SDXLTokenizer, sdxl_clip.SDXLClipModel),
}
"""The text encoders of the host's video models, and of the image models that are supported too."""


def tiny_encoder(kind: str, embeddings: Path | None = None, **changes: int) -> Any:
    """A CLIP of one of KINDS, whose tokens do not attend to each other: each row of its output depends on one token.

    embeddings: the folder of the prompt's `embedding:` files. changes: other sizes for its transformers, such as the
    width that a model takes. Skips the test where the host has no such kind.
    """
    tokenizer, encoder = KINDS[kind]()
    # LTX-2's encoder does not tell its language model which of the sizes are its own.
    own = {"ltxav": "gemma3_12b", "ltxav gemma 4": "gemma4"}
    sizes: dict[str, Any] = {name: {**small, **changes} for name, small in SIZES.items()}
    sizes |= {"model_name": own[kind]} if kind in own else {}
    clip = comfy.sd.CLIP(
        comfy.supported_models_base.ClipTarget(tokenizer, encoder),
        embedding_directory=None if embeddings is None else str(embeddings),
        tokenizer_data={"spiece_model": tiny_sentencepiece(), "tokenizer_json": tiny_tokenizer_json()},
        parameters=1,
        model_options=sizes | {"dtype": torch.float32},
    )
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}
    for name, parameter in clip.cond_stage_model.named_parameters():
        if name.endswith(("SelfAttention.o.weight", "out_proj.weight", "out_proj.bias", "o_proj.weight")):
            state[name] = torch.zeros(parameter.shape)
        elif kind == "minimax" and "visual." in name:
            state[name] = 0.1 * torch.randn(parameter.shape, generator=generator)
        elif not any(part in name for part in UNUSED):
            state[name] = torch.randn(parameter.shape, generator=generator)
    clip.cond_stage_model.load_state_dict(state, strict=False)
    return clip
