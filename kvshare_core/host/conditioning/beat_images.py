"""Images that a beat begins or ends with, for models that take them as further input channels.

The host's own nodes (WanFirstLastFrameToVideo, HunyuanImageToVideo, HunyuanVideo15ImageToVideo) set them for a whole
clip: a latent with the encoded images, and a mask that is 0 where they are. Here every beat has such a latent and mask
of its own, as long as the video, from which its segments are cut. Their layout is stated by the model's family
(`families/model_inputs.py`). Models whose text encoder sees the images are in `seen_pictures.py`.
"""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from comfy.utils import common_upscale

from ...families.model_inputs import ImageChannels, PictureNode
from ...timeline.timeline import FRAME_DIM, Segment, Timeline
from .. import BEAT_TAG, NEGATIVE_TAG
from ..loading.model_info import model_info
from .seen_pictures import add_seen_images, encoder_of

Clip = tuple[Segment, torch.Tensor | None, torch.Tensor | None]
"""A segment, the images that it begins with and those that it ends with [images, height, width, 3]."""


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
    clip: Any = None,
) -> tuple[list[Any], list[Any]]:
    """Both conditionings, in which the beat number `beat` (from 1) begins with `start_image` and ends with `end_image`
    [images, height, width, 3], each in the segment that has its beginning or its end.

    latent: [batch, channels, frames, height, width] of the timeline. vision: a vision encoder's output for them. clip:
    the model's text encoder, for models whose text encoder sees the images. Conditioning for all beats is repeated for
    each of them, and beats without images get the host's form of "no image". Raises ValueError when there is no such
    beat, when no image is given, and for models that do not take such images.
    """
    if not 1 <= beat <= len(timeline.beats):
        raise ValueError(f"beat is {beat}; the timeline has prompts 1 to {len(timeline.beats)}.")
    if start_image is None and end_image is None:
        raise ValueError("start_image: connect a start_image, an end_image or both.")
    family, info = model_info(model)
    beats = range(len(timeline.beats))
    both = _of_beats(positive, beats, {}), _of_beats(negative, beats, {NEGATIVE_TAG: True})
    if isinstance(family.image_channels, PictureNode):
        if vision is not None:
            raise ValueError(
                f"clip_vision_start_image: a {info.family} model takes no vision encoder's output. Disconnect it."
            )
        encoder = encoder_of(clip, vae, family.image_channels, info, timeline, latent)
        return add_seen_images(encoder, timeline, *both, beat - 1, start_image, end_image)
    values = _image_values(model, vae, timeline, latent, beat - 1, start_image, end_image)
    if vision is not None:
        values["clip_vision_output"] = vision
    nothing = _image_values(model, vae, timeline, latent, beat - 1, None, None)
    return _with(both[0], beat - 1, values, nothing), _with(both[1], beat - 1, values, nothing)


def joined_vision(start: Any, end: Any) -> Any:
    """A vision encoder's output for the first image and for the last, joined as the host's Wan nodes do."""
    if start is None or end is None:
        return end if start is None else start
    states = [output.penultimate_hidden_states for output in (start, end)]
    return SimpleNamespace(penultimate_hidden_states=torch.cat(states, dim=-2))


def _of_beats(entries: list[Any], beats: range, marks: Mapping[str, Any]) -> list[Any]:
    """Conditioning of which every entry belongs to one beat."""
    result: list[Any] = []
    for beat in beats:
        for tensor, extra in entries:
            if extra.get(BEAT_TAG, beat) == beat:
                result.append([tensor, {**extra, **({} if BEAT_TAG in extra else marks), BEAT_TAG: beat}])
    return result


def _with(entries: list[Any], beat: int, values: Mapping[str, Any], nothing: Mapping[str, Any]) -> list[Any]:
    """Entries of which those of `beat` have its images; others that have none say so as the host's nodes do."""
    return [
        [tensor, {**extra, **values} if extra[BEAT_TAG] == beat else {**nothing, **extra}] for tensor, extra in entries
    ]


def _image_values(
    model: Any,
    vae: Any,
    timeline: Timeline,
    latent: torch.Tensor,
    beat: int,
    start_image: torch.Tensor | None,
    end_image: torch.Tensor | None,
) -> dict[str, torch.Tensor]:
    """What the host's nodes write into a conditioning, for one beat of a long video."""
    pictures = _segment_pictures(timeline)
    for name, image in (("start_image", start_image), ("end_image", end_image)):
        if image is not None and len(image) > pictures:
            raise ValueError(f"{name}: it has {len(image)} images, but a segment has {pictures} frames. Give fewer.")
    family, info = model_info(model)
    channels = family.image_channels
    if not isinstance(channels, ImageChannels) or not channels.accepts(
        model.get_model_object("diffusion_model"), info.latent_channels
    ):
        raise ValueError(
            "model: it does not take images as input channels. Load an image-to-video model, such as those of Wan "
            "and HunyuanVideo, or hold the encoded image with LongVideoContinue."
        )
    if end_image is not None and not channels.last_image:
        raise ValueError(f"end_image: a {info.family} model takes an image to begin with only. Disconnect end_image.")
    size = _picture_size(vae, latent)
    start, end = (None if image is None else _scaled(image, *size) for image in (start_image, end_image))
    clips = _clips(timeline, beat, start, end)
    if channels.empty_pixel is None:
        return _encoded_alone(vae, timeline, latent, clips, channels)
    return _encoded_in_clips(vae, timeline, latent, clips, channels, channels.empty_pixel)


def _segment_pictures(timeline: Timeline) -> int:
    """Video frames of a segment."""
    return timeline.temporal_compression * (timeline.window - 1) + 1


def _clips(timeline: Timeline, beat: int, start: torch.Tensor | None, end: torch.Tensor | None) -> list[Clip]:
    """The beat's segments that have its beginning or its end, with their images; the first segment comes last, because
    its image wins where both overlap."""
    own = [segment for segment in timeline.segments if segment.beat == beat and segment.next_beat is None]
    clips = [(own[0], start, end)] if len(own) == 1 else [(own[-1], None, end), (own[0], start, None)]
    return [(segment, head, tail) for segment, head, tail in clips if head is not None or tail is not None]


def _encoded_in_clips(
    vae: Any,
    timeline: Timeline,
    latent: torch.Tensor,
    clips: list[Clip],
    channels: ImageChannels,
    empty_pixel: float,
) -> dict[str, torch.Tensor]:
    """The images at the ends of clips of a segment's length whose other frames are empty."""
    width, height = _picture_size(vae, latent)
    empty = torch.full((_segment_pictures(timeline), height, width, 3), empty_pixel)
    # The latent of a frame in the middle of a long empty video.
    image = vae.encode(empty)[:, :, -1:].repeat(1, 1, timeline.latent_frames, 1, 1)
    mask = torch.ones(1, channels.mask_channels, timeline.latent_frames, *latent.shape[3:])
    for segment, head, tail in clips:
        clip, is_empty = empty.clone(), torch.ones(len(empty))
        if head is not None:
            clip[: len(head)], is_empty[: len(head)] = head, 0
        if tail is not None:
            clip[-len(tail) :], is_empty[-len(tail) :] = tail, 0
        frames = timeline.frames_of(segment)
        image[:, :, frames] = vae.encode(clip).to(image)
        # The first latent frame is one video frame, which has all the channels.
        of_pictures = torch.cat([is_empty[:1].repeat(channels.mask_channels - 1), is_empty])
        mask[:, :, frames] = of_pictures.unflatten(0, (-1, channels.mask_channels)).T[None, :, :, None, None]
    return {"concat_latent_image": image, "concat_mask": mask}


def _encoded_alone(
    vae: Any, timeline: Timeline, latent: torch.Tensor, clips: list[Clip], channels: ImageChannels
) -> dict[str, torch.Tensor]:
    """The encoded start images in their latent frames, 0 in all others."""
    image = torch.zeros(1, *latent.shape[1:])
    mask = torch.ones(1, channels.mask_channels, *latent.shape[FRAME_DIM:])
    for segment, head, _ in clips:
        if head is not None:
            encoded = vae.encode(head)
            frames = timeline.frames_of(segment)[: encoded.shape[FRAME_DIM]]
            image[:, :, frames] = encoded.to(image)
            mask[:, :, frames] = 0
    return {"concat_latent_image": image, "concat_mask": mask}


def _picture_size(vae: Any, latent: torch.Tensor) -> tuple[int, int]:
    """Width and height of the video in pixels."""
    scale = vae.spacial_compression_encode()
    return latent.shape[4] * scale, latent.shape[3] * scale


def _scaled(image: torch.Tensor, width: int, height: int) -> torch.Tensor:
    return common_upscale(image[..., :3].movedim(-1, 1), width, height, "bilinear", "center").movedim(1, -1)
