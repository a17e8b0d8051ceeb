"""What a model is told of its whole sequence of tokens, made anew for one segment.

The host makes it for the latent that is sampled: where text, pictures, audio and video stand in the sequence and in
time, and which pictures the video begins and ends with. A segment has a latent of its own, and only some begin or end
anything. The layout is built by the host's own class.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from ...timeline.timeline import Segment, Timeline
from .. import BEAT_TAG
from .mixing import TEXT

LAYOUT, KEYFRAMES, TAGS = "layout", "keyframes", "text_token_tags"
"""Keys of the host's dictionary: the layout, the pictures that the video begins and ends with, what each row of text
is."""

WORDS = 1
"""The tag of a row of text."""


def fit_sequence(
    entry: dict[str, Any], names: Iterable[str], shapes: Sequence[Sequence[int]], segment: Segment, timeline: Timeline
) -> dict[str, Any]:
    """The conditioning `entry` of a segment with those of its inputs, `names`, fitted to the segment's latent.

    shapes: of the latent's parts, video first. The picture that a beat begins with goes to the beat's first segment,
    and the one that it ends with to its last; pictures of a conditioning for all beats to those of the video.
    References go to all. Raises ValueError for pictures in the middle of a clip.
    """
    conds = entry["model_conds"]
    fitted: dict[str, Any] = {}
    for name in names:
        if name in conds:
            told = _with_own_pictures(conds[name].cond, entry.get(BEAT_TAG), segment, timeline)
            fitted[name] = conds[name]._copy_with(_laid_out(told, conds[TEXT].cond.shape[1], shapes))
    return {**entry, "model_conds": {**conds, **fitted}}


def _with_own_pictures(told: dict[str, Any], beat: int | None, segment: Segment, timeline: Timeline) -> dict[str, Any]:
    keyframes: list[dict[str, Any]] | None = told.get(KEYFRAMES)
    if keyframes is None:
        return told
    own = [
        other.index for other in timeline.segments if beat is None or (other.beat == beat and other.next_beat is None)
    ]
    last_picture = (told.get("frame_count") or 0) - 1
    kept: list[dict[str, Any]] = []
    for keyframe in keyframes:
        picture = keyframe["resolved_frame_index"]
        if picture not in (0, last_picture):
            raise ValueError(
                f"MaskGuidedKVShare: the conditioning has a picture at frame {picture} of a clip, in the middle of it, "
                "which KV Share cannot give to a segment. Give the prompt a first or a last picture instead, with Long "
                "Video Beat Images."
            )
        if segment.index == (own[0] if picture == 0 else own[-1]):
            kept.append(keyframe)
    if len(kept) == len(keyframes):
        return told
    without = {key: value for key, value in told.items() if key not in (KEYFRAMES, "cond_video_latents")}
    return {**without, KEYFRAMES: kept, "cond_video_latents": [one["latent"] for one in kept]} if kept else without


def _laid_out(told: dict[str, Any], text: int, shapes: Sequence[Sequence[int]]) -> dict[str, Any]:
    """`told` with the layout of a text of that many rows and a latent of these `shapes`."""
    result = dict(told)
    tags = told.get(TAGS)
    if tags is not None:
        # A text between two prompts has as many rows as the longer one.
        row = tags.view(-1)
        result[TAGS] = torch.cat([row, row.new_full((max(0, text - len(row)),), WORDS)])[:text]
    if told.get(LAYOUT) is not None:
        frames, height, width = shapes[0][2:]
        # The model pads height and width to its patches.
        result[LAYOUT] = type(told[LAYOUT])(
            text,
            frames,
            height + height % 2,
            width + width % 2,
            shapes[1][-1],
            keyframes=told.get(KEYFRAMES),
            refs=told.get("refs"),
            frame_count=told.get("frame_count"),
        )
    return result
