"""Text encoders suited to a model family: which the host has, whether a file is one, and loading them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.sd
import comfy.utils
import folder_paths
from comfy.text_encoders import lt

from ...families.base import FamilyInfo
from ..host_errors import host_errors
from .model_files import find_file, is_shard

NO_FILE = "none"
"""Choice of the second text encoder for models that have only one."""

UMT5 = "UMT5_XXL"
UMT5_KEY = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"
"""umT5 has position biases in every block, T5 in the first only; the host calls both T5_XXL."""

GEMMA = "GEMMA"
GEMMAS: tuple[str, ...] = ("GEMMA_3_12B", "GEMMA_4_E4B", "GEMMA_4_E2B", "GEMMA_4_12B", "GEMMA_4_31B")
"""What the host takes for LTX-2; which of them a model needs shows when its projection is loaded."""

PROJECTION = "TEXT_PROJECTION"
"""LTX-2's layer behind Gemma: part of the model's checkpoint, a file of its own, or in one file with Gemma 4 12B."""

COMMON_NAMES = {
    "T5_XXL": "T5-XXL 1.1",
    "T5_XXL_OLD": "T5-XXL 1.0",
    UMT5: "umT5-XXL",
    "CLIP_L": "CLIP-L",
    "LLAMA3_8": "LLaVA-LLaMA-3 8B",
    "QWEN25_7B": "Qwen2.5-VL 7B",
    "BYT5_SMALL_GLYPH": "byT5 small glyph",
    GEMMA: "Gemma 3 12B (or the Gemma 4 that the model was made with)",
    PROJECTION: "text projection",
}
"""What people call the kinds of files that the host tells apart (its `TEModel`)."""


@dataclass(frozen=True)
class TextEncoders:
    """clip_type: the host's name for the combination; kinds: the files it takes, in any order."""

    clip_type: str
    kinds: tuple[str, ...]

    def __str__(self) -> str:
        return " and ".join(COMMON_NAMES[kind] for kind in self.kinds)


FAMILY_TEXT_ENCODERS = {
    "wan": TextEncoders("WAN", (UMT5,)),
    "hunyuan": TextEncoders("HUNYUAN_VIDEO", ("LLAMA3_8", "CLIP_L")),
    "ltxv": TextEncoders("LTXV", ("T5_XXL",)),
    "mochi": TextEncoders("MOCHI", ("T5_XXL",)),
    "cosmos": TextEncoders("COSMOS", ("T5_XXL_OLD",)),
    "cosmos_predict2": TextEncoders("COSMOS", ("T5_XXL_OLD",)),
    "cogvideox": TextEncoders("COGVIDEOX", ("T5_XXL",)),
    "ltx2": TextEncoders("LTXV", (GEMMA, PROJECTION)),
    "kandinsky5": TextEncoders("KANDINSKY5", ("QWEN25_7B", "CLIP_L")),
}
HUNYUAN_15 = TextEncoders("HUNYUAN_VIDEO_15", ("QWEN25_7B", "BYT5_SMALL_GLYPH"))
HUNYUAN_15_LATENT_CHANNELS = 32


def text_encoders_of(info: FamilyInfo) -> TextEncoders:
    """The text encoders of a model. Raises ValueError when none are known for it or the host lacks them."""
    if info.family == "hunyuan" and info.latent_channels == HUNYUAN_15_LATENT_CHANNELS:
        encoders = HUNYUAN_15
    else:
        encoders = FAMILY_TEXT_ENCODERS.get(info.family)
    if encoders is None:
        raise ValueError(
            f"text_encoder: which text encoder a {info.family} model takes is not known here. Load model, text "
            "encoder and VAE with ComfyUI's own nodes; MaskGuidedKVShare takes any MODEL."
        )
    known = hasattr(comfy.sd.CLIPType, encoders.clip_type)
    if not known or (PROJECTION in encoders.kinds and not hasattr(lt, "sd_detect")):
        raise ValueError(
            f"text_encoder: this ComfyUI does not know the text encoder of {info.family} models. Update ComfyUI."
        )
    return encoders


def check_text_encoders(info: FamilyInfo, first: str, second: str, model_file: str | None = None) -> None:
    """Whether the files are the text encoders of the model. Raises ValueError, naming the input, when not.

    model_file: path of the file that the model comes from, where it is one.
    """
    encoders = text_encoders_of(info)
    if second == NO_FILE and len(encoders.kinds) == 2 and PROJECTION not in encoders.kinds:
        raise ValueError(
            f"text_encoder_2 is '{NO_FILE}', but a {info.family} model needs two text encoders: {encoders}. Choose "
            "one of them as text_encoder and the other as text_encoder_2."
        )
    if second != NO_FILE and len(encoders.kinds) == 1:
        raise ValueError(
            f"text_encoder_2 is '{second}', but a {info.family} model has one text encoder, {encoders}. Set "
            f"text_encoder_2 to '{NO_FILE}'."
        )
    missing = list(encoders.kinds)
    for input_name, name in _chosen(first, second).items():
        kinds = _kinds_of_file(f"{input_name} '{name}'", _path(input_name, name))
        if not kinds or not set(kinds) <= set(missing):
            found = (
                f"of the kind {' and '.join(COMMON_NAMES.get(kind, kind) for kind in kinds)}"
                if kinds
                else "that ComfyUI does not know"
            )
            raise ValueError(
                f"{input_name} '{name}' is a file {found}, but a {info.family} model needs {encoders}. Choose such "
                "a file in the format made for ComfyUI."
            )
        missing = [kind for kind in missing if kind not in kinds]
    if missing and (model_file is None or set(missing) - {*_kinds_of_file("diffusion_model", model_file)}):
        raise ValueError(
            f"text_encoder_2 is '{NO_FILE}', but a {info.family} model needs {encoders}, and neither text_encoder nor "
            f"the file of diffusion_model has the {COMMON_NAMES[missing[0]]}. Choose the model's whole checkpoint as "
            "diffusion_model, or a file with what is missing as text_encoder_2."
        )


def load_text_encoders(info: FamilyInfo, first: str, second: str, model_file: str | None = None) -> Any:
    """The CLIP of files that `check_text_encoders` found right; LTX-2's is completed from `model_file` as the host's
    own loader does. Raises ValueError, naming the input, when they cannot be loaded."""
    chosen = _chosen(first, second)
    paths = [_path(input_name, name) for input_name, name in chosen.items()]
    if model_file is not None and PROJECTION in text_encoders_of(info).kinds:
        found = [kind for path in paths for kind in _kinds_of_file(" and ".join(chosen), path)]
        paths += [] if PROJECTION in found else [model_file]
    with host_errors(f"{' and '.join(chosen)} '{', '.join(chosen.values())}' cannot be loaded"):
        return comfy.sd.load_clip(
            ckpt_paths=paths,
            embedding_directory=folder_paths.get_folder_paths("embeddings"),
            clip_type=getattr(comfy.sd.CLIPType, text_encoders_of(info).clip_type),
        )


def text_encoder_files() -> Sequence[str]:
    """The user's text encoders."""
    return folder_paths.get_filename_list("text_encoders")


def _chosen(first: str, second: str) -> dict[str, str]:
    chosen = {"text_encoder": first, "text_encoder_2": second}
    return {input_name: name for input_name, name in chosen.items() if name != NO_FILE}


def _path(input_name: str, name: str) -> str:
    if is_shard(name):
        raise ValueError(
            f"{input_name} '{name}' is one part of several, which ComfyUI does not join for text encoders. Download "
            "the single file made for ComfyUI."
        )
    return find_file(input_name, "text_encoders", name)


def _kinds_of_file(label: str, path: str) -> tuple[str, ...]:
    """The kinds of text encoder in a file as COMMON_NAMES has them; none when the host knows none."""
    with host_errors(f"{label} cannot be read"):
        state: Any = comfy.utils.load_torch_file(path, safe_load=True)
    if "transformer.resblocks.0.ln_1.weight" in state:
        state = comfy.utils.clip_text_transformers_convert(state, "", "")
    kind = comfy.sd.detect_te_model(state)
    projects = bool(getattr(lt, "sd_detect", lambda states: {})([state]))  # pyright: ignore
    if kind is None:
        return (PROJECTION,) if projects else ()
    name = str(kind.name)
    if name in GEMMAS:
        # Of one file alone the host takes both from this kind only.
        return (GEMMA, PROJECTION) if projects and name == "GEMMA_4_12B" else (GEMMA,)
    return (UMT5 if name == "T5_XXL" and UMT5_KEY in state else name,)
