"""Runs workflows in API format in this process: the nodes of host and pack, but for loaders that are swapped."""

import asyncio
import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from devtools.environment import find_host
from devtools.workflows import Json
from tests.support.node_calls import NODES

EXTRAS = (
    "nodes_audio",
    "nodes_custom_sampler",
    "nodes_hunyuan",
    "nodes_lt",
    "nodes_lt_audio",
    "nodes_lt_upsampler",
    "nodes_minimax_h3",
    "nodes_model_advanced",
    "nodes_video",
)
"""Files of the host with the nodes of the released models' workflows, as far as the host has them."""

Loader = Callable[[Json], tuple[Any, ...]]
"""Takes a node's inputs, links replaced by what they carry, and gives its outputs."""


@cache
def node_classes() -> Mapping[str, Any]:
    """The node types of the host and of the pack by their ids."""
    host: Any = importlib.import_module("nodes")
    folder = find_host() / "comfy_extras"
    for name in EXTRAS:
        file: Path = folder / f"{name}.py"
        if file.exists():
            assert asyncio.run(host.load_custom_node(str(file), module_parent="comfy_extras"))
    host.NODE_CLASS_MAPPINGS.update(NODES)
    return host.NODE_CLASS_MAPPINGS


def node_definitions() -> Json:
    """What `devtools.workflows` needs of the host's /object_info."""
    return {name: {"input": kind.INPUT_TYPES()} for name, kind in node_classes().items()}


def refusals(workflow: Mapping[str, Json]) -> list[Json]:
    """What the host's own validation of a queued workflow finds: reasons, each with the `class_type` of its node."""
    execution: Any = importlib.import_module("execution")
    node_classes()
    _, error, _, found = asyncio.run(execution.validate_prompt("test", workflow, None))
    reasons = [{**reason, "class_type": node["class_type"]} for node in found.values() for reason in node["errors"]]
    return reasons if reasons or error is None else [error]


def run_workflow(workflow: Mapping[str, Json], loaders: Mapping[str, Loader]) -> dict[str, tuple[Any, ...]]:
    """Outputs of every node by its id. A node whose type `loaders` names, output nodes among them, is left to that."""
    done: dict[str, tuple[Any, ...]] = {}
    with torch.inference_mode():
        for node_id in workflow:
            _run(node_id, workflow, loaders, done)
    return done


def _run(
    node_id: str, workflow: Mapping[str, Json], loaders: Mapping[str, Loader], done: dict[str, tuple[Any, ...]]
) -> tuple[Any, ...]:
    if node_id not in done:
        kind, inputs = workflow[node_id]["class_type"], dict[str, Any]()
        for name, value in workflow[node_id]["inputs"].items():
            linked = isinstance(value, list)
            inputs[name] = _run(value[0], workflow, loaders, done)[value[1]] if linked else value
        done[node_id] = loaders[kind](inputs) if kind in loaders else _execute(node_classes()[kind], inputs)
    return done[node_id]


def _execute(kind: Any, inputs: Json) -> tuple[Any, ...]:
    """What a node class of either kind gives."""
    if hasattr(kind, "EXECUTE_NORMALIZED"):
        return kind.EXECUTE_NORMALIZED(**inputs).result
    given = getattr(kind(), kind.FUNCTION)(**inputs)
    assert not inspect.isawaitable(given)
    return given
