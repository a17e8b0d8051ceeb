"""Finds out where a MODEL was loaded from, and loads it again in another process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.sd
import folder_paths

from ..running import running_node
from .loading import WEIGHT_DTYPES, load_model
from .model_info import SOURCE_ATTACHMENT, ModelSource

FOLDERS = ("diffusion_models", "checkpoints", "diffusers")
"""The host's kinds of models folders that models are found in."""


def load_source(source: ModelSource) -> Any:
    """The MODEL, loaded in this process. Raises ValueError for a file that is not here, and what the host's loader
    raises."""
    options = dict(source.options)
    if source.loader == "Load Video DiT":
        return load_model(source.name, options["weight_dtype"])
    kind = "checkpoints" if source.loader == "Load Checkpoint" else "diffusion_models"
    path = folder_paths.get_full_path(kind, source.name)
    if path is None:
        raise ValueError(f"models/{kind} has no file '{source.name}'.")
    model: Any = None
    if source.loader == "Load Checkpoint":
        loaded: Any = comfy.sd.load_checkpoint_guess_config(
            path, output_vae=False, output_clip=False, model_options=options
        )
        model = loaded[0]
    else:
        model = comfy.sd.load_diffusion_model(path, model_options=options)
    if model is None:
        raise ValueError(f"'{source.name}' has no diffusion model that ComfyUI can load.")
    return model


def source_of(model: Any) -> ModelSource | None:
    """Where a MODEL was loaded from: told by Load Video DiT, by newer hosts, or by the graph that runs; None where
    nobody tells."""
    told = model.get_attachment(SOURCE_ATTACHMENT)
    if isinstance(told, ModelSource):
        return told
    return _told_by_host(vars(model).get("cached_patcher_init")) or _told_by_graph()


def _told_by_host(reload: Any) -> ModelSource | None:
    """Newer hosts keep the function that loads a model once more, and its arguments."""
    if not reload or reload[0] not in (comfy.sd.load_diffusion_model, comfy.sd.load_checkpoint_guess_config):
        return None
    path, options = reload[1][0], next((one for one in reload[1] if isinstance(one, Mapping)), {})
    checkpoint = reload[0] is comfy.sd.load_checkpoint_guess_config
    name = _name_in("checkpoints" if checkpoint else "diffusion_models", str(path))
    plain = tuple(sorted(options.items()))
    if name is None or not all(_is_plain(value) for _, value in plain):
        return None
    return ModelSource("Load Checkpoint" if checkpoint else "Load Diffusion Model", name, plain)


def _told_by_graph() -> ModelSource | None:
    """The loader that the running node's MODEL comes from, by the queued graph, on hosts that do not keep it."""
    found = running_node()
    if found is None:
        return None
    graph, running = found
    for node in graph.chain(running, "model"):
        name = node.inputs.get("unet_name", node.inputs.get("ckpt_name"))
        if not isinstance(name, str):
            continue
        if node.kind == "CheckpointLoaderSimple":
            return ModelSource("Load Checkpoint", name)
        if node.kind == "UNETLoader":
            dtype = WEIGHT_DTYPES.get(str(node.inputs.get("weight_dtype")))
            return None if dtype is None else ModelSource("Load Diffusion Model", name, tuple(sorted(dtype.items())))
    return None


def _is_plain(value: Any) -> bool:
    # A dtype is a name to every process.
    return isinstance(value, bool | int | float | str | None) or type(value).__module__ == "torch"


def _name_in(kind: str, path: str) -> str | None:
    """A file's name relative to the models folder it lies in; None for one in none."""
    for folder in folder_paths.get_folder_paths(kind):
        if Path(path).is_relative_to(folder):
            return Path(path).relative_to(folder).as_posix()
    return None
