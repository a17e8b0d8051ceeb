"""Images for models whose text encoder sees them with the prompt: with which a beat begins or ends, and references.

A node of the host encodes the prompt of a clip with the images, and puts the images' latents beside it. Here every
segment of a beat has what that node makes for it: the segment that begins the beat with the first image, the one that
ends it with the last, and all others with the prompt alone, as LongVideoSegmenter has encoded it. References, for which
the host has another node, are shown to every prompt.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from typing import Any

import torch

from ...families.base import Family, FamilyInfo
from ...families.model_inputs import PictureNode
from ...timeline.timeline import Timeline
from .. import BEAT_TAG, PROMPT_TAG, SEGMENTS_TAG

MOST_REFERENCES = 9
"""What the host's node has inputs for."""

REFERENCES = "minimax_refs"
"""Under which the host's node leaves references in the conditioning."""


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
        return self._made(self.node.node, prompt, first_frame=first, last_frame=last)

    def encode_with_references(self, references: torch.Tensor, prompt: str) -> list[Any]:
        """The conditioning of a clip that shows what is in `references` [images, height, width, 3]."""
        images = {f"ref_image_{number}": references[number : number + 1] for number in range(len(references))}
        return self._made(self.node.reference_node, prompt, audio_vae=None, ref_images=images)

    def _made(self, node: str, prompt: str, **further: Any) -> list[Any]:
        module, name = node.rsplit(".", 1)
        execute = getattr(import_module(module), name).execute
        sizes = {"width": self.width, "height": self.height, "length": self.pictures}
        return execute(clip=self.clip, vae=self.vae, prompt=prompt, **sizes, **further).result[0]


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


def encode_with_references(
    clip: Any,
    vae: Any,
    model: tuple[Family, FamilyInfo],
    timeline: Timeline,
    latent: torch.Tensor,
    references: torch.Tensor | None,
) -> Callable[[str], list[Any]] | None:
    """What encodes every prompt together with `references` [images, height, width, 3]; None without any.

    Raises ValueError for models that take no references, for more than the host does, and without a VAE.
    """
    if references is None:
        return None
    family, info = model
    if not isinstance(family.image_channels, PictureNode):
        raise ValueError(f"references: a {info.family} model takes no reference images. Disconnect references.")
    if vae is None:
        raise ValueError("vae: connect the model's VAE to encode the references.")
    if len(references) > MOST_REFERENCES:
        raise ValueError(f"references: there are {len(references)} images; the model takes up to {MOST_REFERENCES}.")
    encoder = encoder_of(clip, vae, family.image_channels, info, timeline, latent)
    return partial(encoder.encode_with_references, references)


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
        if REFERENCES in extra:
            raise ValueError(
                f"{name}: it has references, and the model takes either these or a first and a last image. Disconnect "
                "references from LongVideoSegmenter."
            )
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
