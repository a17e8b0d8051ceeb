"""Inputs that several nodes have in common, and aliases for the node search."""

import inspect
from typing import Any

import torch
from comfy_api.latest import io

from ..kvshare_core.config import MAX_INDEX, KVShareConfig
from ..kvshare_core.timeline.pictures import as_pictures, as_video
from .sockets import ConfigSocket

MAX_LAYER = 1000


def search_words(*words: str) -> dict[str, Any]:
    """Search aliases of a node, for ComfyUI versions that support them (0.3.75 does not)."""
    return {"search_aliases": list(words)} if "search_aliases" in inspect.signature(io.Schema).parameters else {}


def rare() -> dict[str, Any]:
    """For an input that few films need: ComfyUI folds it away where it can (0.3.75 cannot)."""
    return {"advanced": True} if "advanced" in inspect.signature(io.String.Input).parameters else {}


def indices_input(name: str, default: tuple[int, ...], tooltip: str, optional: bool = False) -> io.Input:
    """A text input that config.parse_indices parses, folded away."""
    return io.String.Input(name, default=indices_text(default), tooltip=tooltip, optional=optional, **rare())


def indices_text(indices: tuple[int, ...]) -> str:
    """The text that config.parse_indices reads as these indices."""
    return ", ".join(map(str, indices))


def incoming_config(kept: str) -> io.Input:
    """The configuration that a node changes; `kept` says which settings are kept."""
    return ConfigSocket.Input("config", tooltip=f"From KV Sharing Config or DiTCtrl Config (paper). {kept}")


def config_output() -> io.Output:
    """The resulting configuration."""
    return ConfigSocket.Output(display_name="config", tooltip="For Mask-Guided KV Share, or for another settings node.")


def range_inputs(defaults: KVShareConfig, about_blocks: str = "") -> list[io.Input]:
    """The steps and blocks that share, as ranges and as lists; `about_blocks` is added to the block tooltips."""
    return [
        io.Int.Input(
            "start_step",
            default=defaults.start_step,
            min=0,
            max=MAX_INDEX,
            tooltip="First step that shares, counted from 0 in each sampler. Raise it to leave the layout to each "
            "prompt.",
            **rare(),
        ),
        io.Int.Input(
            "end_step",
            default=defaults.end_step,
            min=-1,
            max=MAX_INDEX,
            tooltip="Sharing stops before this step. -1 shares until the end. Lower it to leave details to each "
            "prompt; end_percent does so for any number of steps.",
            **rare(),
        ),
        io.Int.Input(
            "start_layer",
            default=defaults.start_layer,
            min=0,
            max=MAX_LAYER,
            tooltip=f"First transformer block that shares, counted from 0. Raise it to save memory.{about_blocks}",
            **rare(),
        ),
        io.Int.Input(
            "end_layer",
            default=defaults.end_layer,
            min=-1,
            max=MAX_LAYER,
            tooltip="Sharing stops before this transformer block. -1 includes the last block. Lower it to save "
            f"memory.{about_blocks}",
            **rare(),
        ),
        indices_input(
            "step_idx",
            defaults.step_idx,
            "List of steps, such as 2, 5, 8-12. If set, start_step and end_step are ignored.",
        ),
        indices_input(
            "layer_idx",
            defaults.layer_idx,
            "List of blocks, such as 10-20, 25. If set, start_layer and end_layer are ignored.",
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
        tooltip="Threshold on the subject map. A higher value makes the mask tighter. Raise it if the mask covers too "
        "much, lower it if parts are missing.",
        **rare(),
    )


def token_place_inputs(defaults: KVShareConfig, without: str) -> list[io.Input]:
    """The subject as positions of text tokens; `without` says what happens when they are left empty."""
    return [
        indices_input(
            "ref_token_idx",
            defaults.masks.ref_token_idx,
            "Positions of the subject's text tokens in the source segment's prompt, counted from 0, such as 2 or 2-3. "
            f"They override the subject words of Mask-Guided KV Share. {without}",
        ),
        indices_input(
            "cur_token_idx",
            defaults.masks.cur_token_idx,
            "The same for the segment that attends to the source. Set both or neither.",
        ),
    ]


def edit_input(**shown: Any) -> io.Input:
    """Whether later prompts are edits of the first; shown: further arguments of the input."""
    return io.Boolean.Input(
        "is_edit",
        default=False,
        optional=True,
        tooltip="Later prompts are edits of the first one: they begin with its noise and attend to it, each frame at "
        "its own time. Put [cut] between the prompts, and decode each of them by itself. Turn it on to change a word "
        "of a prompt and keep the rest of the video.",
        **shown,
    )


def check_connected(**inputs: Any) -> None:
    """Raises ValueError for an input through whose link nothing came, as from a checkpoint without a text encoder."""
    for name, value in inputs.items():
        if value is None:
            raise ValueError(
                f"{name}: nothing came through its link. The node before it has none, such as a loader of a file "
                "without it; connect another."
            )


def video_samples(name: str, latent: dict[str, Any] | None) -> torch.Tensor:
    """The tensor of a LATENT input as a video, also of a batch of pictures. Raises ValueError if there is none, it
    holds audio as well, or is no video's."""
    samples = _samples(name, latent)
    if not isinstance(samples, torch.Tensor):
        raise ValueError(
            f"{name}: it holds video and audio together. Split them with Separate AV Latent before this node, "
            "and combine them again after it."
        )
    if samples.ndim == 4 and 0 not in samples.shape:
        return as_video(samples)
    if samples.ndim != 5 or 0 in samples.shape:
        raise ValueError(
            f"{name}: it has the shape {list(samples.shape)}; that of a video is [batch, channels, latent frames, "
            "height, width]. Connect the latent of a video."
        )
    return samples


def like_latent(video: torch.Tensor, latent: dict[str, Any]) -> torch.Tensor:
    """A video, or a noise mask of one, in the form of a LATENT input: as pictures where that is a batch of pictures."""
    return as_pictures(video) if latent["samples"].ndim == 4 else video


def noise_mask_of(latent: dict[str, Any]) -> torch.Tensor | None:
    """The noise mask of a LATENT input, in the form of a video's where it is one of a batch of pictures."""
    mask = latent.get("noise_mask")
    if mask is None or latent["samples"].ndim != 4:
        return mask
    return as_video(mask if mask.ndim == 4 else mask.reshape(-1, 1, *mask.shape[-2:]))


def video_part(latent: dict[str, Any] | None, name: str = "latent") -> torch.Tensor:
    """The video of a LATENT input, which may hold audio as well. Raises ValueError if there is none."""
    samples = _samples(name, latent)
    return samples if isinstance(samples, torch.Tensor) else samples.unbind()[0]


def _samples(name: str, latent: dict[str, Any] | None) -> Any:
    if latent is None or latent.get("samples") is None:
        raise ValueError(f"{name}: it is empty. Connect the latent of a video.")
    return latent["samples"]
