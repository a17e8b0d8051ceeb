"""ControlNets of a film that is a batch of pictures: every segment gets those hints that are its own frames'."""

import copy
from typing import Any

import torch

from ...timeline.fades import take_frames
from ...timeline.timeline import Segment

Controls = dict[tuple[Any, int], Any]
"""By a ControlNet of the host and the index of a segment, the one with the segment's hints: made once in a run, since
the host scales a hint when it is first used, and evaluates together what has the same ControlNet."""


def control_of(control: Any, segment: Segment, frames: int, made: Controls) -> Any:
    """A ControlNet of the host, of a film of so many frames, with the hints of a segment alone; one that has the same
    hint for all frames is left as it is.

    Raises ValueError for hints that are neither one nor as many as the frames.
    """
    name = control, segment.index
    if name not in made:
        made[name] = _cut(control, segment, frames)
    return made[name]


def _cut(control: Any, segment: Segment, frames: int) -> Any:
    before = control.previous_controlnet
    previous = None if before is None else _cut(before, segment, frames)
    hint = _of_segment(control.cond_hint_original, segment, frames)
    if hint is control.cond_hint_original and previous is before:
        return control
    # A shallow copy has the same weights, and what the host has prepared for this run.
    own = copy.copy(control)
    own.cond_hint_original, own.cond_hint, own.previous_controlnet = hint, None, previous
    beside = getattr(control, "extra_concat_orig", [])
    own.extra_concat_orig = [_of_segment(tensor, segment, frames) for tensor in beside]
    return own


def _of_segment(hint: Any, segment: Segment, frames: int) -> Any:
    if not isinstance(hint, torch.Tensor) or len(hint) == 1:
        return hint
    if len(hint) != frames:
        raise ValueError(
            f"Mask-Guided KV Share: a ControlNet has {len(hint)} images, but the timeline has {frames} pictures. Give "
            "Apply ControlNet one image for all of them, or one for each."
        )
    return take_frames(hint, 0, segment.start, segment.length)
