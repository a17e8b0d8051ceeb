"""Images of beats, in the three ways in which models take them; their family states which
(`families/model_inputs.py`).

As further input channels: the host's own nodes (WanFirstLastFrameToVideo, HunyuanImageToVideo,
HunyuanVideo15ImageToVideo) set the first and the last image of a whole clip by a latent with the encoded images and a
mask that is 0 where they are. Here every beat has such a latent and mask of its own, as long as the video, from which
its segments are cut.

In the latent itself, held by its noise mask (LTXVImgToVideoInplace): there is one latent and one mask for all beats, in
which each image has a place of its own.

By a text encoder that sees them: `seen_pictures.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from comfy.utils import common_upscale

from ...families.base import FamilyInfo
from ...families.model_inputs import ImageChannels, PictureNode
from ...timeline.holding import hold_images, image_places, moment_of
from ...timeline.timeline import FRAME_DIM, Segment, Timeline
from .. import BEAT_TAG, NEGATIVE_TAG
from ..loading.model_info import model_info
from .seen_pictures import add_seen_images, encoder_of

Clip = tuple[Segment, list[tuple[int, torch.Tensor]]]
"""A segment and the images that it is given [images, height, width, 3], each with the number of its first frame."""


@dataclass(frozen=True)
class BeatImages:
    """Images of one beat [images, height, width, 3]: where it starts, where it ends and somewhere in it.

    middle_at: where in the beat's time, from 0 to 1; strength: how firmly images in the latent are held, 1 unchanged;
    vision: a vision encoder's output for the first and the last; clip: the model's text encoder, for models whose text
    encoder sees the images.
    """

    start: torch.Tensor | None = None
    end: torch.Tensor | None = None
    middle: torch.Tensor | None = None
    middle_at: float = 0.5
    strength: float = 1.0
    vision: Any = None
    clip: Any = None

    @property
    def given(self) -> dict[str, torch.Tensor]:
        """Those that are there, by the names of the node's inputs."""
        images = {"start_image": self.start, "middle_image": self.middle, "end_image": self.end}
        return {name: image for name, image in images.items() if image is not None}


def add_beat_images(
    model: Any,
    vae: Any,
    timeline: Timeline,
    latent: dict[str, Any],
    positive: list[Any],
    negative: list[Any],
    beat: int,
    images: BeatImages,
) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """Both conditionings and the latent, in the host's own form, with the images of the beat number `beat` (from 1).

    Models that take them as input channels get them by the conditioning, in the segments that have the beat's beginning
    and its end; conditioning for all beats is then repeated for each of them, and beats without images get the host's
    form of "no image". Others get them by the latent. Raises ValueError when there is no such beat, when no image is
    given, and for models that do not take such images.
    """
    if not 1 <= beat <= len(timeline.beats):
        raise ValueError(f"beat is {beat}; the timeline has prompts 1 to {len(timeline.beats)}.")
    if not images.given:
        raise ValueError("start_image: connect a start_image, a middle_image, an end_image or several of them.")
    family, info = model_info(model)
    channels = family.image_channels
    if channels == "latent":
        return positive, negative, _held(vae, timeline, latent, beat, images, info)
    beats = range(len(timeline.beats))
    both = _of_beats(positive, beats, {}), _of_beats(negative, beats, {NEGATIVE_TAG: True})
    video = latent["samples"].unbind()[0] if latent["samples"].is_nested else latent["samples"]
    if isinstance(channels, PictureNode):
        _check_vision(images, info)
        _check_strength(images, info)
        encoder = encoder_of(images.clip, vae, channels, info, timeline, video)
        return (*add_seen_images(encoder, timeline, *both, beat - 1, images.given, images.middle_at), latent)
    if channels is None or not channels.accepts(model.get_model_object("diffusion_model"), info.latent_channels):
        raise ValueError(
            "model: it does not take images as input channels. Load an image-to-video model, such as those of Wan and "
            "HunyuanVideo, or one of LTX, or hold the encoded image with Long Video Continue."
        )
    if images.end is not None and not channels.last_image:
        raise ValueError(f"end_image: a {info.family} model takes an image to begin with only. Disconnect end_image.")
    if channels.empty_pixel is None:
        _check_ends(images, info)
    _check_strength(images, info)
    values = _image_values(vae, timeline, video, beat - 1, images, channels)
    if images.vision is not None:
        values["clip_vision_output"] = images.vision
    nothing = _image_values(vae, timeline, video, beat - 1, BeatImages(), channels)
    return _with(both[0], beat - 1, values, nothing), _with(both[1], beat - 1, values, nothing), latent


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


def _check_ends(images: BeatImages, info: FamilyInfo) -> None:
    """Raises ValueError for images that are not at an end of the beat."""
    if images.middle is not None:
        raise ValueError(
            f"middle_image: a {info.family} model takes images at the ends of a clip only. Disconnect middle_image, or "
            "make it the start_image of a prompt of its own."
        )


def _check_strength(images: BeatImages, info: FamilyInfo) -> None:
    """Raises ValueError for images that are not held unchanged."""
    if images.strength != 1:
        raise ValueError(f"strength: a {info.family} model takes images without a strength. Set it to 1.")


def _check_vision(images: BeatImages, info: FamilyInfo) -> None:
    """Raises ValueError for a vision encoder's output."""
    if images.vision is not None:
        raise ValueError(
            f"clip_vision_start_image: a {info.family} model takes no output of CLIP Vision Encode. Disconnect it."
        )


def _held(
    vae: Any, timeline: Timeline, latent: dict[str, Any], beat: int, images: BeatImages, info: FamilyInfo
) -> dict[str, Any]:
    """The latent with the images in the beat's own time, each encoded alone as the host's node does."""
    _check_vision(images, info)
    if latent["samples"].is_nested:
        raise ValueError("latent: it has audio already. Put this node before Concat AV Latent.")
    samples, scale = latent["samples"], timeline.temporal_compression
    size = _picture_size(vae, samples)
    for name, image in images.given.items():
        if (len(image) - 1) % scale:
            raise ValueError(
                f"{name}: it has {len(image)} images; 1, {scale + 1}, {2 * scale + 1} and so on would be whole "
                "latent frames. Take some away (ImageFromBatch) or add some."
            )
    counts = {name: (len(image) - 1) // scale + 1 for name, image in images.given.items()}
    places = image_places(timeline, beat, counts, images.middle_at)
    encoded = {places[name]: vae.encode(_scaled(image, *size)) for name, image in images.given.items()}
    held, mask = hold_images(timeline, samples, latent.get("noise_mask"), encoded, images.strength)
    return {**latent, "samples": held, "noise_mask": mask}


def _image_values(
    vae: Any, timeline: Timeline, latent: torch.Tensor, beat: int, images: BeatImages, channels: ImageChannels
) -> dict[str, torch.Tensor]:
    """What the host's nodes write into a conditioning, for one beat of a long video."""
    pictures = _segment_pictures(timeline)
    for name, image in images.given.items():
        if len(image) > pictures:
            raise ValueError(f"{name}: it has {len(image)} images, but a segment has {pictures} frames. Give fewer.")
    size = _picture_size(vae, latent)
    start, end, middle = (
        None if image is None else _scaled(image, *size) for image in (images.start, images.end, images.middle)
    )
    clips = _clips(timeline, beat, BeatImages(start, end, middle, images.middle_at))
    if channels.empty_pixel is None:
        return _encoded_alone(vae, timeline, latent, clips, channels)
    return _encoded_in_clips(vae, timeline, latent, clips, channels, channels.empty_pixel)


def _segment_pictures(timeline: Timeline) -> int:
    """Video frames of a segment."""
    return timeline.temporal_compression * (timeline.window - 1) + 1


def _clips(timeline: Timeline, beat: int, images: BeatImages) -> list[Clip]:
    """The beat's segments that have its beginning, its end or the moment in between, with their images; an earlier
    segment comes later, because its images win where both overlap.

    Raises ValueError for images at the same frames of a segment.
    """
    own = [segment for segment in timeline.segments if segment.beat == beat and segment.next_beat is None]
    pictures, found = _segment_pictures(timeline), dict[int, tuple[Segment, dict[str, tuple[int, torch.Tensor]]]]()
    for name, image in images.given.items():
        if name == "middle_image":
            segment, frame = moment_of(timeline, beat, own, images.middle_at)
            # The first latent frame of a clip is one video frame.
            later = frame - segment.start - 1
            first = min(0 if later < 0 else timeline.temporal_compression * later + 1, pictures - len(image))
        else:
            segment, first = (own[0], 0) if name == "start_image" else (own[-1], pictures - len(image))
        others = found.setdefault(segment.index, (segment, {}))[1]
        for other, (start, given) in others.items():
            if first < start + len(given) and start < first + len(image):
                raise ValueError(
                    f"{name}: it falls on the frames of {other}. Give the prompt a longer duration, or move middle_at."
                )
        others[name] = first, image
    return [(segment, list(placed.values())) for _, (segment, placed) in sorted(found.items(), reverse=True)]


def _encoded_in_clips(
    vae: Any,
    timeline: Timeline,
    latent: torch.Tensor,
    clips: list[Clip],
    channels: ImageChannels,
    empty_pixel: float,
) -> dict[str, torch.Tensor]:
    """The images in clips of a segment's length whose other frames are empty."""
    width, height = _picture_size(vae, latent)
    empty = torch.full((_segment_pictures(timeline), height, width, 3), empty_pixel)
    # The latent of a frame in the middle of a long empty video.
    image = vae.encode(empty)[:, :, -1:].repeat(1, 1, timeline.latent_frames, 1, 1)
    mask = torch.ones(1, channels.mask_channels, timeline.latent_frames, *latent.shape[3:])
    for segment, given in clips:
        clip, is_empty = empty.clone(), torch.ones(len(empty))
        for first, pictures in given:
            clip[first : first + len(pictures)], is_empty[first : first + len(pictures)] = pictures, 0
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
    for segment, ((_, head),) in clips:
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
    if image.shape[1:3] == (height, width):
        return image[..., :3]
    return common_upscale(image[..., :3].movedim(-1, 1), width, height, "bilinear", "center").movedim(1, -1)
