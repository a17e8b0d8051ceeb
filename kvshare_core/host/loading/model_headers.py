"""What a model file contains, from its header alone: no weight is loaded, and the model is built on the meta device."""

import os
from dataclasses import replace
from functools import lru_cache
from typing import Any

import comfy.model_detection
import comfy.model_management
import comfy.ops
import comfy.utils
import torch

from ...embedded.files import WEIGHTS, weight_file
from ...embedded.model import MODEL_FILES, NATIVE_FRAMES
from ...embedded.vit3d_file import read_vit3d
from ...embedded.vit3d_model import ViT3DConfig
from ...families import UnsupportedModelError, find_family
from ...plain_values import parse_json
from ...plan.forecast import ModelFacts
from . import cogvideox_keys
from .model_files import EMBEDDED_MODELS, diffusion_model_names, find_model

METADATA = "__metadata__"
"""Key of a header that is not the name of a tensor."""

MAX_HEADER_BYTES = 100_000_000
"""Longest header that the file format allows."""

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The dtypes of the safetensors format by their names in it."""


def facts_of(name: str) -> ModelFacts | None:
    """Facts about a model by its name in the list of LoadVideoDiT; None for names that are not listed.

    Raises families.UnsupportedModelError for a model in which keys cannot be shared.
    """
    if name in EMBEDDED_MODELS:
        kind = EMBEDDED_MODELS[name]
        found = model_facts((str(weight_file(WEIGHTS, MODEL_FILES[kind][0])),))
        if found is None or kind not in NATIVE_FRAMES:
            return found
        return replace(found, info=replace(found.info, native_frames=NATIVE_FRAMES[kind]))
    if name not in diffusion_model_names():
        return None
    try:
        return model_facts(find_model(name).paths)
    except ValueError:
        # A missing file; the loader reports it when it runs.
        return None


def model_facts(paths: tuple[str, ...]) -> ModelFacts | None:
    """Facts about the model in these safetensors files, all its shards; None for files of another kind, and for models
    that the host does not know.

    Raises families.UnsupportedModelError for a model in which keys cannot be shared.
    """
    try:
        return _read_facts(paths, tuple(os.stat(path).st_mtime_ns for path in paths))
    except UnsupportedModelError:
        raise
    # This runs before the user starts anything, so a header that the host cannot handle is not an error yet.
    except Exception:
        return None


def tensor_names(path: str) -> frozenset[str]:
    """Names of the tensors in a safetensors file; empty for a file of another kind or without a readable header."""
    try:
        return frozenset(_header(path)) - {METADATA}
    except ValueError:
        return frozenset()


@lru_cache(maxsize=4)
def _read_facts(paths: tuple[str, ...], changed: tuple[int, ...]) -> ModelFacts | None:
    tensors: dict[str, torch.Tensor] = {}
    metadata: dict[str, str] = {}
    for path in paths:
        entries = _header(path)
        metadata |= entries.pop(METADATA, {})
        for name, entry in entries.items():
            tensors[name] = torch.empty(entry["shape"], dtype=DTYPES[entry["dtype"]], device="meta")
    if cogvideox_keys.is_published(tensors):
        tensors = cogvideox_keys.with_host_names(tensors)
    prefix: str = comfy.model_detection.unet_prefix_from_state_dict(tensors)
    weights: Any = comfy.utils.state_dict_prefix_replace(tensors, {prefix: ""}, filter_keys=True) or tensors
    own = read_vit3d(paths[0]) if len(paths) == 1 else None
    config: Any = (
        comfy.model_detection.model_config_from_unet(weights, "", metadata=metadata)
        if own is None
        else ViT3DConfig(own)
    )
    if config is None:
        return None
    element_size = _compute_dtype(config, weights).itemsize
    config.custom_operations = comfy.ops.disable_weight_init
    model = config.get_model(weights, "", device=torch.device("meta"))
    info = find_family(model.diffusion_model, config.latent_format.latent_channels)[1]
    return ModelFacts(info, element_size)


def _header(path: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"{path} is not a safetensors file.")
        return parse_json(file.read(length))


def _compute_dtype(config: Any, weights: dict[str, torch.Tensor]) -> torch.dtype:
    """The dtype in which the host will compute with the model."""
    management = comfy.model_management
    supported = list(config.supported_inference_dtypes)
    weight_dtype: Any = management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(weights),
        supported_dtypes=supported,
        weight_dtype=comfy.utils.weight_dtype(weights),
    )
    cast: Any = management.unet_manual_cast(weight_dtype, management.get_torch_device(), supported)
    return cast or weight_dtype
