"""What a model is told of its whole sequence of tokens, made anew for one segment.

The host makes it for the latent that is sampled: where text, pictures, audio and video stand in the sequence and in
time, and at which frames pictures are given. A segment has a latent of its own and only some of the frames. The layout
is built by the host's own class, whose newer versions take pictures at any frame, and older ones at both ends only.
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from ...timeline.timeline import FRAME_DIM, Segment, Timeline
from .. import SEGMENTS_TAG
from .mixing import TEXT

LAYOUT, KEYFRAMES, REFERENCES, TAGS = "layout", "keyframes", "refs", "text_token_tags"
"""Keys of the host's dictionary: the layout, pictures at frames of the video, references, and what each row of the text
is."""

PICTURES = "frame_count"
"""Key for the pictures of the clip, and parameter of the layouts of hosts that take pictures at both ends only."""

SIZES = 5
"""A layout's first parameters: rows of text, latent frames, height, width, steps of audio. The others are keys."""

WORDS = 1
"""The tag of a row of text."""


def fit_sequence(
    entry: dict[str, Any], names: Iterable[str], shapes: Sequence[Sequence[int]], segment: Segment, timeline: Timeline
) -> dict[str, Any]:
    """The conditioning `entry` of a segment with those of its inputs, `names`, fitted to the segment's latent.

    shapes: of the latent's parts, video first. Pictures are given to the segments that have their frames; those of a
    conditioning for single segments stand at frames of the segment, all others at frames of the whole video.
    References go to all. Raises ValueError for sound that is given at a frame.
    """
    conds = entry["model_conds"]
    fitted: dict[str, Any] = {}
    for name in names:
        if name in conds:
            told, text = dict(conds[name].cond), conds[TEXT].cond.shape[1]
            if told.get(KEYFRAMES) is not None and SEGMENTS_TAG not in entry:
                _keep_own_pictures(told, segment, timeline)
            if told.get(TAGS) is not None:
                told[TAGS] = _of_length(told[TAGS], text)
            if told.get(LAYOUT) is not None:
                told[LAYOUT] = _laid_out(told, text, shapes)
            fitted[name] = conds[name]._copy_with(told)
    return {**entry, "model_conds": {**conds, **fitted}}


def _keep_own_pictures(told: dict[str, Any], segment: Segment, timeline: Timeline) -> None:
    """Leaves of the pictures at frames of the whole video those of a segment, at frames of the segment."""
    first, stop = timeline.picture_range(segment.start, segment.stop)
    at_ends_only = told.get(LAYOUT) is not None and PICTURES in inspect.signature(type(told[LAYOUT])).parameters
    kept: list[Mapping[str, Any]] = []
    for keyframe in told[KEYFRAMES]:
        if keyframe.get("audio_latent") is not None:
            raise ValueError(
                "Mask-Guided KV Share: the conditioning has sound at a frame of the video, which KV Share cannot give "
                "to segments. Disconnect audio from MiniMaxH3AddGuide."
            )
        place, frames = keyframe["resolved_frame_index"] - first, keyframe["latent"].shape[FRAME_DIM]
        last = place + (1 if frames == 1 else timeline.picture_range(0, frames)[1])
        if place >= 0 and last <= stop - first and not (at_ends_only and 0 < place and last < stop - first):
            kept.append({**keyframe, "resolved_frame_index": place})
    references = [one["latent"] for one in told.get(REFERENCES) or () if "latent" in one]
    told |= {
        KEYFRAMES: kept,
        PICTURES: stop - first,
        "cond_video_latents": [one["latent"] for one in kept] + references,
    }


def _of_length(tags: torch.Tensor, rows: int) -> torch.Tensor:
    """Tags of so many rows: a text between two prompts has as many as the longer one."""
    row = tags.view(-1)
    return torch.cat([row, row.new_full((max(0, rows - len(row)),), WORDS)])[:rows]


def _laid_out(told: Mapping[str, Any], text: int, shapes: Sequence[Sequence[int]]) -> Any:
    """The layout of a text of so many rows and a latent of these `shapes`, with what else is `told`."""
    kind = type(told[LAYOUT])
    further = {name: told.get(name) for name in list(inspect.signature(kind).parameters)[SIZES:]}
    frames, height, width = shapes[0][FRAME_DIM:]
    # The model pads height and width to its patches.
    return kind(text, frames, height + height % 2, width + width % 2, shapes[1][-1], **further)
