"""Inputs that several nodes have, and the words under which the host finds a node."""

import inspect
from typing import Any

import torch
from comfy_api.latest import io

from ..kvshare_core.config import MAX_INDEX, KVShareConfig
from .sockets import ConfigSocket

MAX_LAYER = 1000


def search_words(*words: str) -> dict[str, Any]:
    """Further names of a node for the search of hosts that know such (ComfyUI 0.3.75 does not)."""
    return {"search_aliases": list(words)} if "search_aliases" in inspect.signature(io.Schema).parameters else {}


def indices_input(name: str, default: tuple[int, ...], tooltip: str) -> io.Input:
    """A text that config.parse_indices reads."""
    return io.String.Input(name, default=", ".join(map(str, default)), tooltip=tooltip)


def incoming_config(kept: str) -> io.Input:
    """The configuration that a node changes; `kept` says what of it stays."""
    return ConfigSocket.Input("config", tooltip=f"From KVShareConfig or DiTCtrlConfig. {kept}")


def config_output() -> io.Output:
    """The configuration that a node makes."""
    return ConfigSocket.Output(
        display_name="config", tooltip="For MaskGuidedKVShare, or for a node that changes more settings."
    )


def range_inputs(defaults: KVShareConfig, about_blocks: str = "") -> list[io.Input]:
    """The steps and blocks that share, as both ranges and lists; `about_blocks` is said where blocks are counted."""
    return [
        io.Int.Input(
            "start_step",
            default=defaults.start_step,
            min=0,
            max=MAX_INDEX,
            tooltip="First sampler step that shares, counted from 0 in each sampler.",
        ),
        io.Int.Input(
            "end_step",
            default=defaults.end_step,
            min=-1,
            max=MAX_INDEX,
            tooltip="Sharing stops before this sampler step; -1 shares until the end.",
        ),
        io.Int.Input(
            "start_layer",
            default=defaults.start_layer,
            min=0,
            max=MAX_LAYER,
            tooltip=f"First transformer block that shares, counted from 0.{about_blocks}",
        ),
        io.Int.Input(
            "end_layer",
            default=defaults.end_layer,
            min=-1,
            max=MAX_LAYER,
            tooltip=f"Sharing stops before this transformer block; -1 shares until the last.{about_blocks}",
        ),
        indices_input(
            "step_idx",
            defaults.step_idx,
            "Explicit steps such as 2, 5, 8-12. When given, start_step and end_step do not matter.",
        ),
        indices_input(
            "layer_idx",
            defaults.layer_idx,
            "Explicit blocks such as 10-20, 25. When given, start_layer and end_layer do not matter.",
        ),
    ]


def threshold_input(defaults: KVShareConfig) -> io.Input:
    """The threshold on the subject map."""
    return io.Float.Input(
        "thres",
        default=defaults.masks.thres,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="Threshold on the subject map: higher takes in less around the subject.",
    )


def token_place_inputs(defaults: KVShareConfig, without: str) -> list[io.Input]:
    """The subject as places of text tokens; `without` says what holds when they are left empty."""
    return [
        indices_input(
            "ref_token_idx",
            defaults.masks.ref_token_idx,
            "Places of the subject among the text tokens of the earlier segment, counted from 0, such as 2 or 2-3. "
            f"They override the words of MaskGuidedKVShare's subject. {without}",
        ),
        indices_input(
            "cur_token_idx",
            defaults.masks.cur_token_idx,
            "The same for the segment that looks at the earlier one. Give both or neither.",
        ),
    ]


def video_samples(name: str, latent: dict[str, Any]) -> torch.Tensor:
    """The tensor of a LATENT input. Raises ValueError for one that has audio packed with it."""
    samples = latent["samples"]
    if not isinstance(samples, torch.Tensor):
        raise ValueError(
            f"{name}: it holds video and audio together. Take them apart (LTXV Separate AV Latent) in front of this "
            "node, and join them again behind it."
        )
    return samples
