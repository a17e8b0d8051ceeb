"""Cuts conditioning to one segment: what has an entry per frame is cut, everything else stays whole.

How the inputs of a model lie over frames is stated by its family (`families/model_inputs.py`) and, for those that the
host gives to models of every family, here. Start images that a model takes as input channels are cut like everything
else: the first segment has the image, and later ones have the long video's input channels of their frames, which is
what the host's nodes write for "no image", mask channels included.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ...families.model_inputs import Indivisible, InputLayout, PerFrame
from ...timeline.fades import take_frames
from ...timeline.timeline import FRAME_DIM, Segment
from .controls import control_of

Resize = Callable[..., Any]
"""The `resize_cond_for_context_window` of newer hosts' models."""

COMMON_INPUTS: Mapping[str, InputLayout] = {
    "attention_mask": "whole video",
    "c_concat": PerFrame(FRAME_DIM),
    "c_crossattn": "whole video",
    "clip_text_pooled": "whole video",
    "crossattn_controlnet": "whole video",
    "denoise_mask": PerFrame(FRAME_DIM),
    "y": "whole video",
}
"""Inputs that the host gives to models of every family: texts, image channels and noise masks, by its names."""


def check_divisible(cond: Sequence[Mapping[str, Any]], family_inputs: Mapping[str, InputLayout]) -> None:
    """Raises ValueError when a list of processed conditioning has an input that cannot be cut into segments."""
    for entry in cond:
        for name in entry.get("model_conds", {}):
            layout = family_inputs.get(name)
            if isinstance(layout, Indivisible):
                raise _refusal(layout)


def _refusal(layout: Indivisible) -> ValueError:
    return ValueError(f"Mask-Guided KV Share: the conditioning has {layout.reason}")


def slice_conditioning(
    cond: dict[str, Any],
    x_in: torch.Tensor,
    segment: Segment,
    window: Any,
    family_inputs: Mapping[str, InputLayout],
    resize: Resize | None = None,
) -> dict[str, Any]:
    """A copy of `cond` for one segment of the long latent `x_in`. Its uuid is derived, so that caches keyed by it do
    not mix segments.

    window: the segment as the host's context window; it has ControlNets of segments (`controls`) where the film is a
    batch of pictures. family_inputs: how further inputs of the model lie over time.
    resize: the host's own cutting, where it has one, called for inputs that have no known layout. Raises ValueError for
    what cannot be cut, naming it and what to do.
    """
    frames = x_in.shape[FRAME_DIM]
    result = {**cond, "uuid": uuid.uuid5(cond["uuid"], str(segment.index))}
    if segment.length == frames:
        return result
    controls = getattr(window, "controls", None)
    if cond.get("control") is not None and controls is not None:
        result["control"] = control_of(cond["control"], segment, frames, controls)
    elif cond.get("control") is not None:
        raise ValueError(
            "Mask-Guided KV Share: a ControlNet is applied to the conditioning, and its control video cannot be cut "
            "into segments. Remove the Apply ControlNet nodes before the sampler, or plan a video of one segment."
        )
    _check_area(cond.get("area"), frames)
    mask = cond.get("mask")
    if isinstance(mask, torch.Tensor) and mask.ndim == 4 and mask.shape[1] > 1:
        result["mask"] = _cut(PerFrame(1), "mask", mask, segment, frames)
    if controls is not None and isinstance(mask, torch.Tensor) and len(mask) > 1:
        result["mask"] = _cut(PerFrame(0), "mask", mask, segment, frames)
    layouts: dict[str, InputLayout] = {**COMMON_INPUTS, **family_inputs}

    def resized(name: str, value: Any) -> Any:
        """The input as the host cuts it; None when the host leaves it alone."""
        return None if resize is None else resize(name, value, window, x_in, x_in.device, retain_index_list=[])

    model_conds: dict[str, Any] = {}
    for name, value in cond["model_conds"].items():
        if controls is None:
            piece = _slice_input(name, value, layouts.get(name), x_in, segment, resized)
        else:
            piece = _slice_pictures(name, value, segment, frames)
        if piece is not None:
            model_conds[name] = piece
    return {**result, "model_conds": model_conds}


def _check_area(area: Any, frames: int) -> None:
    """Areas are (height, width, y, x) or (frames, height, width, first frame, y, x) in latent steps."""
    if area is not None and len(area) == 6 and (area[3] > 0 or area[0] < frames):
        raise ValueError(
            "Mask-Guided KV Share: a conditioning area covers only a part of the frames, which segments cannot have. "
            "Make it cover all frames (temporal 1, z 0), and give the prompt its own time in the timeline instead."
        )


def _slice_input(
    name: str,
    value: Any,
    layout: InputLayout | None,
    x_in: torch.Tensor,
    segment: Segment,
    resized: Callable[[str, Any], Any],
) -> Any:
    """One input of the model (an object of `comfy.conds`) for a segment; None when the segment has none."""
    frames = x_in.shape[FRAME_DIM]
    content = getattr(value, "cond", None)
    if isinstance(layout, Indivisible):
        raise _refusal(layout)
    if layout in ("whole video", "text length", "sequence", "audio"):
        # The last two are fitted where the audio of the segment is known.
        return value
    if layout == "first segment":
        return value if segment.start == 0 else None
    if layout == "reference latents":
        return value._copy_with([_cut_reference(name, latent, segment, frames) for latent in content or ()])
    if not isinstance(content, torch.Tensor):
        return resized(name, value) or value
    if isinstance(layout, Mapping):
        layout = layout.get(content.ndim)
    if layout is not None:
        piece = _cut(layout, name, content, segment, frames)
        return None if piece is None else value._copy_with(piece)
    piece = resized(name, value)
    if piece is not None:
        return piece
    if content.ndim == x_in.ndim and content.shape[FRAME_DIM] == frames:
        return value._copy_with(_cut(PerFrame(FRAME_DIM), name, content, segment, frames))
    if frames in content.shape[1:]:
        raise ValueError(
            f"Mask-Guided KV Share: the conditioning has an input '{name}' of shape {list(content.shape)} that may "
            f"have an entry for each of the {frames} latent frames, and KV Share does not know how to cut it. Remove "
            "the node that adds it, or plan a video of one segment."
        )
    return value


def _slice_pictures(name: str, value: Any, segment: Segment, frames: int) -> Any:
    """One input of a model whose latent is a batch of pictures: it has one entry for all of them, or one for each."""
    content = getattr(value, "cond", None)
    if not isinstance(content, torch.Tensor) or content.ndim == 0 or len(content) == 1:
        return value
    return value._copy_with(_cut(PerFrame(0), name, content, segment, frames))


def _cut(layout: PerFrame, name: str, tensor: torch.Tensor, segment: Segment, frames: int) -> torch.Tensor | None:
    """The entries of `segment` in a latent of that many frames; None when there are none.

    In each later segment the first `layout.first` frames have no entry either: models skip as many frames of whatever
    they receive. Raises ValueError naming the input when its length does not fit, or when a segment that continues at
    the video's beginning would need entries from both of its ends.
    """
    found, expected = tensor.shape[layout.dim], (frames - layout.first) * layout.per_frame
    if (layout.length == "exact" and found != expected) or (layout.length == "longer" and found < expected):
        raise ValueError(
            f"Mask-Guided KV Share: the conditioning's {name} covers {found / layout.per_frame + layout.first:g} "
            f"latent frames, but the timeline plans {frames}. Give the node that makes it the length of the timeline."
        )
    start = segment.start * layout.per_frame
    if segment.stop > frames and (layout.first or layout.length != "exact"):
        raise ValueError(
            f"Mask-Guided KV Share: the conditioning's {name} cannot be cut in a loop. Remove loop from the timeline, "
            "or remove the node that adds it."
        )
    if segment.stop > frames:
        return take_frames(tensor, layout.dim, start, segment.length * layout.per_frame)
    stop = min((segment.stop - layout.first) * layout.per_frame, found)
    return tensor.narrow(layout.dim, start, stop - start) if start < stop else None


def _cut_reference(name: str, latent: torch.Tensor, segment: Segment, frames: int) -> torch.Tensor | None:
    """The part of a reference latent for a segment: a video of the latent's length is cut, an image stays whole."""
    if latent.ndim > FRAME_DIM and latent.shape[FRAME_DIM] == frames:
        return _cut(PerFrame(FRAME_DIM), name, latent, segment, frames)
    return latent
