"""Text encoders of a model: whether the host has them, whether files are the right ones, and loading them.

Which text encoders a model takes is stated by its family (`families/text_encoders.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import comfy.sd
import comfy.utils
import folder_paths

from ... import families
from ...families.base import FamilyInfo
from ...families.text_encoders import EncoderFile, TextEncoders
from ..host_errors import host_errors
from .model_files import find_file, is_shard

NO_FILE = "none"
"""Choice for the second text encoder of models that have only one."""


def text_encoders_of(info: FamilyInfo) -> TextEncoders:
    """The text encoders of a model. Raises ValueError when they are unknown or the host lacks them."""
    encoders = info.text_encoders
    if encoders is None:
        raise ValueError(
            f"text_encoder: KV Share does not know which text encoder a {info.family} model takes. Load model, text "
            "encoder and VAE with ComfyUI's own nodes; Mask-Guided KV Share takes any MODEL."
        )
    known = hasattr(comfy.sd.CLIPType, encoders.clip_type)
    if not known or any(file.detector is not None and _detector(file) is None for file in encoders.files):
        raise ValueError(
            f"text_encoder: this ComfyUI does not know the text encoder of {info.family} models. Update ComfyUI."
        )
    return encoders


def check_text_encoders(info: FamilyInfo, first: str, second: str, model_file: str | None = None) -> None:
    """Checks that the files are the text encoders of the model. Raises ValueError, naming the input, when they are not.

    model_file: path of the model's file, if it is a single one.
    """
    encoders = text_encoders_of(info)
    if second == NO_FILE and len([file for file in encoders.files if not file.in_model_file]) == 2:
        raise ValueError(
            f"text_encoder_2 is '{NO_FILE}', but a {info.family} model needs two text encoders: {encoders}. Choose "
            "one of them as text_encoder and the other as text_encoder_2."
        )
    if second != NO_FILE and len(encoders.files) == 1:
        raise ValueError(
            f"text_encoder_2 is '{second}', but a {info.family} model has one text encoder, {encoders}. Set "
            f"text_encoder_2 to '{NO_FILE}'."
        )
    missing = list(encoders.files)
    for input_name, name in _chosen(first, second).items():
        parts = _parts_of_file(f"{input_name} '{name}'", _path(input_name, name), encoders)
        if not parts or not set(parts) <= set(missing):
            found = (
                f"of the kind {' and '.join(part.title for part in parts)}" if parts else "that ComfyUI does not know"
            )
            raise ValueError(
                f"{input_name} '{name}' is a file {found}, but a {info.family} model needs {encoders}. Choose such "
                "a file in the format made for ComfyUI."
            )
        missing = [file for file in missing if file not in parts]
    if missing and (model_file is None or set(missing) - {*_parts_of_file("diffusion_model", model_file, encoders)}):
        raise ValueError(
            f"text_encoder_2 is '{NO_FILE}', but a {info.family} model needs {encoders}, and neither text_encoder nor "
            f"the file of diffusion_model has the {missing[0].title}. Choose the model's whole checkpoint as "
            "diffusion_model, or a file with what is missing as text_encoder_2."
        )


def load_text_encoders(info: FamilyInfo, first: str, second: str, model_file: str | None = None) -> Any:
    """The CLIP of files that `check_text_encoders` accepted; a part that they lack comes from `model_file`, as with the
    host's own loader. Raises ValueError, naming the input, when they cannot be loaded."""
    chosen, encoders = _chosen(first, second), text_encoders_of(info)
    paths = [_path(input_name, name) for input_name, name in chosen.items()]
    parts = {path: _parts_of_file(" and ".join(chosen), path, encoders) for path in paths}
    # ComfyUI 0.30.0 takes the tokenizer from the first file, for LTX-2 too.
    paths.sort(key=lambda path: encoders.files.index(parts[path][0]))
    inside = {file for file in encoders.files if file.in_model_file}
    if model_file is not None and inside - {part for found in parts.values() for part in found}:
        paths.append(model_file)
    with host_errors(f"{' and '.join(chosen)} '{', '.join(chosen.values())}' cannot be loaded"):
        return comfy.sd.load_clip(
            ckpt_paths=paths,
            embedding_directory=folder_paths.get_folder_paths("embeddings"),
            clip_type=getattr(comfy.sd.CLIPType, encoders.clip_type),
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


def _parts_of_file(label: str, path: str, encoders: TextEncoders) -> tuple[EncoderFile, ...]:
    """The parts of `encoders` in a file; if none, those of other families' text encoders, or its kind by the host's
    name. Empty when the host does not know the file either."""
    with host_errors(f"{label} cannot be read"):
        state: Any = comfy.utils.load_torch_file(path, safe_load=True)
    if "transformer.resblocks.0.ln_1.weight" in state:
        state = comfy.utils.clip_text_transformers_convert(state, "", "")
    detected = comfy.sd.detect_te_model(state)
    kind = None if detected is None else str(detected.name)
    for stated in (encoders, *(others for family in families.FAMILIES for others in family.text_encoders)):
        parts = tuple(file for file in stated.files if _is_in(file, kind, state))
        if parts:
            return parts
    return () if kind is None else (EncoderFile(kind, (kind,)),)


def _is_in(file: EncoderFile, kind: str | None, state: Mapping[str, Any]) -> bool:
    """Whether a state dict, which the host takes for `kind`, has the weights of `file`."""
    if kind in file.kinds:
        return (file.with_weight is None or file.with_weight in state) and file.without_weight not in state
    detector = _detector(file)
    return detector is not None and (kind is None or kind in file.combined_kinds) and bool(detector([state]))


def _detector(file: EncoderFile) -> Callable[[list[Mapping[str, Any]]], Any] | None:
    """The host's function that recognises the part; None when there is none or this host lacks it."""
    if file.detector is None:
        return None
    module, _, function = file.detector.rpartition(".")
    try:
        return getattr(import_module(module), function, None)
    except ModuleNotFoundError:
        return None
