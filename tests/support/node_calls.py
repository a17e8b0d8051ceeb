"""Calls the pack's nodes in this process as ComfyUI calls them."""

import asyncio
from typing import Any

import torch
from comfy_api.latest import ComfyExtension, io

import kv_share


def nodes_of_the_pack() -> dict[str, type[io.ComfyNode]]:
    """The nodes, loaded through the entry point that ComfyUI calls."""
    extension = asyncio.run(kv_share.comfy_entrypoint())
    assert isinstance(extension, ComfyExtension)
    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(extension.get_node_list())}


NODES = nodes_of_the_pack()


def shown_name(name: str) -> str:
    """What users know a node as."""
    return NODES[name].GET_SCHEMA().display_name


def run_node(name: str, **inputs: Any) -> tuple[Any, ...]:
    """What a node gives when the host executes it, in inference mode as the host does."""
    with torch.inference_mode():
        return NODES[name].EXECUTE_NORMALIZED(**inputs).result


def segmenter_inputs(model: Any, clip: Any, **changes: Any) -> dict[str, Any]:
    """Inputs of LongVideoSegmenter for a tiny video of two beats."""
    return {
        "model": model,
        "clip": clip,
        "prompts": "a red circle moves right\n[3s] a red circle moves up over grass",
        "negative_prompt": "",
        "width": 48,
        "height": 48,
        "fps": 8.0,
        "sampling_num_frames": 3,
        "overlap_size": 1,
        "batch_size": 1,
        **changes,
    }
