"""A ViT3D model in one safetensors file: its weights, its table of word vectors, and in the metadata its sizes, its
words and the recipe that it was trained by."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from .vit3d import BackboneShape, ViT3D

KEY = "kvshare_vit3d"
"""Entry of a file's metadata that only these files have."""
WORD_TABLE = "text_encoder.words"
"""Name of the table of word vectors in a file; all other tensors are the model's."""
MOST_SIZE = 4096
"""Largest number that a file may state for any size: no file makes the loader reserve more than it has."""


@dataclass(frozen=True)
class ViT3DShape:
    """The arguments of ViT3D that decide its weights; the defaults are the class's own."""

    in_channels: int = 3
    out_channels: int = 3
    frames: int = 28
    height: int = 128
    width: int = 128
    time_dim: int = 128
    text_dim: int | None = None
    embed_dim: int = 768
    num_temporal_heads: int = 8
    backbone: BackboneShape = field(default_factory=BackboneShape)
    patch_features: bool = False
    mixing_every: int = 0

    def arguments(self) -> dict[str, Any]:
        """The same as keyword arguments of ViT3D."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def model(self, **options: Any) -> ViT3D:
        """A model of that shape. Raises ValueError for sizes that do not go together."""
        return ViT3D(**self.arguments(), **options)


@dataclass(frozen=True)
class ViT3DFile:
    """What a file says besides its weights."""

    shape: ViT3DShape
    words: tuple[str, ...]
    """The words that have a vector; the first two stand for padding and for unknown words."""
    shift: float
    """Of the noise schedule that it was trained with."""
    recipe: Mapping[str, Any]
    """How it was trained."""


def save_vit3d(model: ViT3D, table: torch.Tensor, content: ViT3DFile, path: Path) -> None:
    """Writes a model and its word vectors [words, width], in half precision."""
    state = {**model.state_dict(), WORD_TABLE: table}
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {KEY: json.dumps(asdict(content))}
    save_file({name: tensor.detach().cpu().half().contiguous() for name, tensor in state.items()}, path, metadata)


def read_vit3d(path: str | Path) -> ViT3DFile | None:
    """What a safetensors file says of its ViT3D; None for any other file. Raises ValueError for sizes that are none."""
    try:
        with safe_open(str(path), framework="pt") as opened:
            text = (opened.metadata() or {}).get(KEY)
    # safetensors raises an error of its own, for anything that is not in its format.
    except Exception:
        return None
    return None if text is None else _content(json.loads(text))


def _content(document: dict[str, Any]) -> ViT3DFile:
    try:
        sizes = dict(document["shape"])
        backbone = BackboneShape(**{name: _size(value) for name, value in sizes.pop("backbone").items()})
        known: dict[str, Any] = {
            name: value if isinstance(value, bool | None) else _size(value) for name, value in sizes.items()
        }
        words = tuple(str(word) for word in document["words"])
        return ViT3DFile(
            ViT3DShape(**known, backbone=backbone), words, float(document["shift"]), document.get("recipe", {})
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it does not say what a ViT3D needs: {error}") from error


def _size(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MOST_SIZE:
        raise ValueError(f"it states the size {str(value)[:40]!r}; sizes are whole numbers up to {MOST_SIZE}")
    return value
