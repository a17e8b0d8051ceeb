"""Pictures with which a beat begins or ends, for models that take them as further input channels.

The host's own nodes (WanFirstLastFrameToVideo, HunyuanImageToVideo, HunyuanVideo15ImageToVideo) say it for a whole
clip: a latent with the encoded pictures, and a mask that is 0 where they are. Here every beat has such a latent and
mask of its own, as long as the video, of which its segments are cut.
"""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from comfy.utils import common_upscale

from ...timeline.timeline import Segment, Timeline
from .. import BEAT_TAG, NEGATIVE_TAG
from ..loading.model_info import model_info

GREY = 0.5
"""What Wan's nodes encode where there is no picture."""

WAN_EXTRA_CHANNELS = 20
"""Of Wan's image-to-video models: a latent and four channels of mask."""

PICTURE_MASKS = 4
"""Wan's mask has a channel for each picture of a latent frame."""

FRAME_DIM = 2


def add_beat_images(
    model: Any,
    vae: Any,
    timeline: Timeline,
    latent: torch.Tensor,
    positive: list[Any],
    negative: list[Any],
    beat: int,
    start_image: torch.Tensor | None,
    end_image: torch.Tensor | None,
    vision: Any = None,
) -> tuple[list[Any], list[Any]]:
    """Both conditionings, in which the beat number `beat` (from 1) begins with `start_image` and ends with `end_image`
    [pictures, height, width, 3], each in the window that shows its beginning or its end.

    latent: [batch, channels, frames, height, width] of the timeline. vision: what a vision encoder says of them.
    Conditioning for all beats becomes one of each. Raises ValueError when there is no such beat, when there are no
    pictures, and for models that do not take such ones.
    """
    if not 1 <= beat <= len(timeline.beats):
        raise ValueError(f"beat is {beat}; the timeline has prompts 1 to {len(timeline.beats)}.")
    if start_image is None and end_image is None:
        raise ValueError("start_image: connect a start_image, an end_image or both.")
    values = _pictures(model, vae, timeline, latent, beat - 1, start_image, end_image)
    if vision is not None:
        values["clip_vision_output"] = vision
    beats = range(len(timeline.beats))
    return (
        _with(_of_beats(positive, beats, {}), beat - 1, values),
        _with(_of_beats(negative, beats, {NEGATIVE_TAG: True}), beat - 1, values),
    )


def both_seen(start: Any, end: Any) -> Any:
    """What a vision encoder says of the first picture and of the last, as Wan's nodes put it together."""
    if start is None or end is None:
        return end if start is None else start
    states = [seen.penultimate_hidden_states for seen in (start, end)]
    return SimpleNamespace(penultimate_hidden_states=torch.cat(states, dim=-2))


def _of_beats(entries: list[Any], beats: range, marks: Mapping[str, Any]) -> list[Any]:
    """Conditioning of which every entry belongs to one beat."""
    result: list[Any] = []
    for beat in beats:
        for tensor, extra in entries:
            if extra.get(BEAT_TAG, beat) == beat:
                result.append([tensor, {**extra, **({} if BEAT_TAG in extra else marks), BEAT_TAG: beat}])
    return result


def _with(entries: list[Any], beat: int, values: Mapping[str, Any]) -> list[Any]:
    return [[tensor, {**extra, **values} if extra[BEAT_TAG] == beat else extra] for tensor, extra in entries]


def _pictures(
    model: Any,
    vae: Any,
    timeline: Timeline,
    latent: torch.Tensor,
    beat: int,
    start_image: torch.Tensor | None,
    end_image: torch.Tensor | None,
) -> dict[str, torch.Tensor]:
    """What the host's nodes write into a conditioning, for one beat of a long video."""
    _, info = model_info(model)
    weights = model.get_model_object("diffusion_model")
    pictures = timeline.temporal_compression * (timeline.window - 1) + 1
    for name, image in (("start_image", start_image), ("end_image", end_image)):
        if image is not None and len(image) > pictures:
            raise ValueError(f"{name}: it has {len(image)} pictures, but a segment has {pictures}. Take fewer.")
    size = _picture_size(vae, latent)
    start, end = (None if image is None else _scaled(image, *size) for image in (start_image, end_image))
    if info.family == "wan" and weights.patch_embedding.weight.shape[1] - info.latent_channels == WAN_EXTRA_CHANNELS:
        return _for_wan(vae, timeline, latent, beat, start, end)
    if info.family == "hunyuan" and weights.img_in.proj.weight.shape[1] > info.latent_channels:
        if start is None or end is not None:
            raise ValueError("end_image: HunyuanVideo takes a picture to begin with only. Disconnect end_image.")
        return _for_hunyuan(vae, timeline, latent, beat, start)
    raise ValueError(
        "model: it does not take pictures as input channels. Load an image-to-video model of Wan or HunyuanVideo, or "
        "hold the encoded picture with LongVideoContinue."
    )


def _for_wan(
    vae: Any,
    timeline: Timeline,
    latent: torch.Tensor,
    beat: int,
    start: torch.Tensor | None,
    end: torch.Tensor | None,
) -> dict[str, torch.Tensor]:
    """As in WanFirstLastFrameToVideo: everything but the pictures is grey."""
    first, last = _ends(timeline, beat)
    width, height = _picture_size(vae, latent)
    grey = torch.full((timeline.temporal_compression * (timeline.window - 1) + 1, height, width, 3), GREY)
    # What stands in the middle of a long grey video.
    image = vae.encode(grey)[:, :, -1:].repeat(1, 1, timeline.latent_frames, 1, 1)
    mask = torch.ones(1, PICTURE_MASKS, timeline.latent_frames, *latent.shape[3:])
    clips = [(first, start, end)] if first == last else [(last, None, end), (first, start, None)]
    for segment, head, tail in clips:
        if head is None and tail is None:
            continue
        clip, open_pictures = grey.clone(), torch.ones(len(grey))
        if head is not None:
            clip[: len(head)], open_pictures[: len(head)] = head, 0
        if tail is not None:
            clip[-len(tail) :], open_pictures[-len(tail) :] = tail, 0
        frames = timeline.frames_of(segment)
        image[:, :, frames] = vae.encode(clip).to(image)
        # The first latent frame is one picture, which has all four channels.
        channels = torch.cat([open_pictures[:1].repeat(PICTURE_MASKS - 1), open_pictures])
        mask[:, :, frames] = channels.unflatten(0, (-1, PICTURE_MASKS)).T[None, :, :, None, None]
    return {"concat_latent_image": image, "concat_mask": mask}


def _for_hunyuan(
    vae: Any, timeline: Timeline, latent: torch.Tensor, beat: int, start: torch.Tensor
) -> dict[str, torch.Tensor]:
    """As in HunyuanImageToVideo and HunyuanVideo15ImageToVideo: everything but the picture is zero."""
    encoded = vae.encode(start)
    image = torch.zeros(1, *latent.shape[1:])
    mask = torch.ones(1, 1, *latent.shape[FRAME_DIM:])
    frames = timeline.frames_of(_ends(timeline, beat)[0])[: encoded.shape[FRAME_DIM]]
    image[:, :, frames] = encoded.to(image)
    mask[:, :, frames] = 0
    return {"concat_latent_image": image, "concat_mask": mask}


def _ends(timeline: Timeline, beat: int) -> tuple[Segment, Segment]:
    """The segments that show a beat's beginning and its end."""
    own = [segment for segment in timeline.segments if segment.beat == beat and segment.next_beat is None]
    return own[0], own[-1]


def _picture_size(vae: Any, latent: torch.Tensor) -> tuple[int, int]:
    """Width and height of the video in pixels."""
    scale = vae.spacial_compression_encode()
    return latent.shape[4] * scale, latent.shape[3] * scale


def _scaled(image: torch.Tensor, width: int, height: int) -> torch.Tensor:
    return common_upscale(image[..., :3].movedim(-1, 1), width, height, "bilinear", "center").movedim(1, -1)
