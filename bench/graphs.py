"""Changes to a workflow in API format, and what came of running it."""

import copy
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from devtools import client

Workflow = dict[str, dict[str, Any]]
"""A workflow in API format: node id to class_type and inputs."""


def nodes_of(workflow: Workflow, class_type: str) -> list[str]:
    """The ids of all nodes of a type."""
    return [node_id for node_id, node in workflow.items() if node["class_type"] == class_type]


def node_of(workflow: Workflow, class_type: str) -> str:
    """The id of the one node of a type. Raises ValueError when there are none or several."""
    found = nodes_of(workflow, class_type)
    if len(found) != 1:
        raise ValueError(f"the workflow needs one {class_type}, it has {len(found)}")
    return found[0]


def with_inputs(workflow: Workflow, node_id: str, **inputs: Any) -> Workflow:
    """The workflow with some inputs of a node changed."""
    changed = copy.deepcopy(workflow)
    changed[node_id]["inputs"] |= inputs
    return changed


def with_pictures(workflow: Workflow, name: str, images: list[Any]) -> Workflow:
    """The workflow with a SaveImage node `name` behind the output `images`: [node id, number]."""
    inputs = {"images": images, "filename_prefix": name}
    return {**workflow, name: {"class_type": "SaveImage", "inputs": inputs}}


def only(workflow: Workflow, *targets: str) -> Workflow:
    """The nodes `targets` and all that they depend on."""
    kept: Workflow = {}
    waiting = list(targets)
    while waiting:
        node_id = waiting.pop()
        if node_id in kept:
            continue
        kept[node_id] = workflow[node_id]
        inputs = workflow[node_id]["inputs"].values()
        waiting += [value[0] for value in inputs if isinstance(value, list)]
    return kept


def fetch_frames(url: str, entry: Mapping[str, Any], node_id: str) -> torch.Tensor:
    """The pictures [f, 3, h, w] in 0..1 that a SaveImage node left, in order. Raises ValueError when there are none."""
    files = [file for file in client.output_files(entry) if file.node_id == node_id]
    if not files:
        raise ValueError(f"node {node_id} saved no picture.")
    pictures = [Image.open(io.BytesIO(client.fetch_view(url, file))).convert("RGB") for file in files]
    return torch.stack([torch.from_numpy(np.array(picture)) for picture in pictures]).movedim(-1, 1) / 255
