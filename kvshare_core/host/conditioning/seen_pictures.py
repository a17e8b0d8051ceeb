"""Images with which a beat begins or ends, for models whose text encoder sees them with the prompt.

A node of the host encodes the prompt of a clip with the images, and puts the images' latents beside it. Here every
segment of a beat has what that node makes for it: the segment that begins the beat with the first image, the one that
ends it with the last, and all others with the prompt alone, as LongVideoSegmenter has encoded it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from typing import Any

import torch

from ...families.base import FamilyInfo
from ...families.model_inputs import PictureNode
from ...timeline.timeline import Timeline
from .. import BEAT_TAG, PROMPT_TAG, SEGMENTS_TAG


@dataclass(frozen=True)
class Encoder:
    """What encodes prompts with images."""

    clip: Any
    vae: Any
    node: PictureNode
    width: int
    height: int
    pictures: int
    """Of a segment."""

    def encode(self, prompt: str, first: torch.Tensor | None, last: torch.Tensor | None) -> list[Any]:
        """The conditioning of a clip that begins with `first` and ends with `last` [1, height, width, 3]."""
        module, name = self.node.node.rsplit(".", 1)
        made = getattr(import_module(module), name).execute(
            clip=self.clip,
            vae=self.vae,
            prompt=prompt,
            width=self.width,
            height=self.height,
            length=self.pictures,
            first_frame=first,
            last_frame=last,
        )
        return made.result[0]


def encoder_of(
    clip: Any, vae: Any, node: PictureNode, info: FamilyInfo, timeline: Timeline, latent: torch.Tensor
) -> Encoder:
    """What encodes images for the segments of a timeline, whose latent is [batch, channels, frames, height, width].

    Raises ValueError without a text encoder.
    """
    if clip is None:
        raise ValueError(
            f"clip: the text encoder of {info.family} sees the images together with the prompt. Connect the one of "
            "LongVideoSegmenter."
        )
    height, width = (size * factor for size, factor in zip(latent.shape[3:], info.compression[1:], strict=True))
    _, pictures = timeline.picture_range(0, timeline.window)
    return Encoder(clip, vae, node, width, height, pictures)


def add_seen_images(
    encoder: Encoder,
    timeline: Timeline,
    positive: list[Any],
    negative: list[Any],
    beat: int,
    start_image: torch.Tensor | None,
    end_image: torch.Tensor | None,
) -> tuple[list[Any], list[Any]]:
    """Both conditionings, of which every entry belongs to one beat, with the images in beat number `beat` (from 0).

    Raises ValueError for several pictures, and for conditioning whose prompt is not known.
    """
    for name, image in (("start_image", start_image), ("end_image", end_image)):
        if image is not None and len(image) != 1:
            raise ValueError(f"{name}: it has {len(image)} pictures, but this model takes one. Take one.")
    own = [one.index for one in timeline.segments if one.beat == beat and one.next_beat is None]
    images: dict[int, tuple[torch.Tensor | None, torch.Tensor | None]] = {}
    for segment in {own[0], own[-1]}:
        first, last = start_image if segment == own[0] else None, end_image if segment == own[-1] else None
        if first is not None or last is not None:
            images[segment] = first, last
    others = tuple(one.index for one in timeline.segments if one.index not in images)

    @cache
    def encoded(prompt: str, segment: int) -> list[Any]:
        return encoder.encode(prompt, *images[segment])

    added = partial(_with_images, beat, sorted(images), others, encoded)
    return list(added("positive", positive)), list(added("negative", negative))


def _with_images(
    beat: int, segments: list[int], others: tuple[int, ...], encoded: Any, name: str, entries: list[Any]
) -> Iterable[Any]:
    for tensor, extra in entries:
        if extra[BEAT_TAG] != beat:
            yield [tensor, extra]
            continue
        if PROMPT_TAG not in extra:
            raise ValueError(
                f"{name}: its prompt is not known. Connect the {name} of LongVideoSegmenter, without nodes in between."
            )
        before = extra.get(SEGMENTS_TAG)
        left = others if before is None else tuple(segment for segment in before if segment in others)
        if left:
            yield [tensor, {**extra, SEGMENTS_TAG: left}]
        for segment in segments:
            if before is None or segment in before:
                for seen, values in encoded(extra[PROMPT_TAG], segment):
                    yield [seen, {**extra, **values, SEGMENTS_TAG: (segment,)}]
