"""The diffusion models that LoadVideoDiT lists, and their files."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import folder_paths

from ...embedded.model import (
    CROSS_ATTENTION,
    IMAGE_TO_VIDEO,
    JOINT_ATTENTION,
    ONE_STREAM_ATTENTION,
    VIT3D,
    EmbeddedKind,
    is_available,
)

EMBEDDED = "embedded"
"""Name of the small model that ships with the pack, in all lists of the loader."""

EMBEDDED_JOINT = "embedded (joint attention)"
EMBEDDED_ONE_STREAM = "embedded (one-stream attention)"
EMBEDDED_IMAGE = "embedded (image)"
EMBEDDED_VIT3D = "embedded (ViT3D)"
"""Names of the other small models; their text encoders and VAEs are named EMBEDDED too."""

EMBEDDED_MODELS: Mapping[str, EmbeddedKind] = {
    EMBEDDED: CROSS_ATTENTION,
    EMBEDDED_JOINT: JOINT_ATTENTION,
    EMBEDDED_ONE_STREAM: ONE_STREAM_ATTENTION,
    EMBEDDED_IMAGE: IMAGE_TO_VIDEO,
    EMBEDDED_VIT3D: VIT3D,
}
"""The models that ship with the pack, by their names in the list."""

CHECKPOINT = "checkpoint: "
"""Prefix of the names of checkpoints, which may be the same as those of diffusion models."""

DIFFUSERS = "diffusers folder: "
"""Prefix of the names of folders in the diffusers layout."""

SHARD = r"(?P<front>.*-)(?P<number>\d{5})-of-(?P<count>\d{5})(?P<end>\.\w+)"
"""One part of a model in several files: model-00001-of-00006.safetensors."""

SINGLE_FILES = ("diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.safetensors")


@dataclass(frozen=True)
class ModelFiles:
    """The files of one diffusion model."""

    paths: tuple[str, ...]
    """All its shards in order, or its single file."""

    checkpoint: bool = False
    """Whether they may contain a text encoder and a VAE too."""


def diffusion_model_names() -> list[str]:
    """The embedded models that this host can load, then the user's diffusion models, checkpoints and diffusers folders.

    Of a model in shards only the first shard is listed.
    """
    return [
        *(name for name, kind in EMBEDDED_MODELS.items() if is_available(kind)),
        *_without_later_shards(folder_paths.get_filename_list("diffusion_models")),
        *(CHECKPOINT + name for name in _without_later_shards(folder_paths.get_filename_list("checkpoints"))),
        *(DIFFUSERS + name for name in _diffusers_folders()),
    ]


def find_model(name: str) -> ModelFiles:
    """The files of a listed model other than the embedded ones. Raises ValueError for a file that is missing."""
    if name.startswith(DIFFUSERS):
        return ModelFiles(_all_shards(name, _transformer_file(name)))
    if name.startswith(CHECKPOINT):
        path = find_file("diffusion_model", "checkpoints", name.removeprefix(CHECKPOINT))
        return ModelFiles(_all_shards(name, path), checkpoint=True)
    return ModelFiles(_all_shards(name, find_file("diffusion_model", "diffusion_models", name)))


def find_file(input_name: str, folder: str, name: str) -> str:
    """Path of a file in one of the host's model folders. Raises ValueError, naming the input, when it is missing."""
    path = folder_paths.get_full_path(folder, name)
    if path is None:
        raise ValueError(
            f"{input_name} '{name}' is not in models/{folder}. Put it there, reload the page and choose it."
        )
    return path


def is_shard(name: str) -> bool:
    """Whether a file is one part of several."""
    return re.fullmatch(SHARD, name) is not None


def _without_later_shards(names: Sequence[str]) -> list[str]:
    def is_listed(name: str) -> bool:
        part = re.fullmatch(SHARD, name)
        return part is None or int(part["number"]) == 1 or _shard_name(part, 1) not in names

    return [name for name in names if is_listed(name)]


def _shard_name(part: re.Match[str], number: int) -> str:
    return f"{part['front']}{number:05d}-of-{part['count']}{part['end']}"


def _all_shards(name: str, path: str) -> tuple[str, ...]:
    part = re.fullmatch(SHARD, path)
    if part is None:
        return (path,)
    paths = tuple(_shard_name(part, number) for number in range(1, int(part["count"]) + 1))
    missing = [os.path.basename(path) for path in paths if not os.path.isfile(path)]
    if missing:
        named = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise ValueError(
            f"diffusion_model '{name}' is one of {len(paths)} files, but {named} "
            f"{'is' if len(missing) == 1 else 'are'} not in its folder. Download all of them into one folder."
        )
    return paths


def _diffusers_folders() -> dict[str, Path]:
    """Folders with a video transformer in the diffusers layout by their names, as the host's own list has them."""
    found: dict[str, Path] = {}
    for root in map(Path, folder_paths.get_folder_paths("diffusers")):
        for index in sorted(root.rglob("model_index.json")):
            if (index.parent / "transformer").is_dir():
                found.setdefault(str(index.parent.relative_to(root)), index.parent)
    return found


def _transformer_file(name: str) -> str:
    folder = _diffusers_folders().get(name.removeprefix(DIFFUSERS))
    if folder is None:
        raise ValueError(f"diffusion_model '{name}' is not in models/diffusers. Put it there, reload the page.")
    single = [folder / "transformer" / file for file in SINGLE_FILES]
    shards = sorted((folder / "transformer").glob("*-00001-of-*.safetensors"))
    for file in (*single, *shards):
        if file.is_file():
            return str(file)
    raise ValueError(
        f"diffusion_model '{name}' has neither transformer/{SINGLE_FILES[1]} nor shards of it. Download the folder "
        "again."
    )
