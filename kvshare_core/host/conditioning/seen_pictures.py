"""Images for models whose text encoder sees them with the prompt: with which a beat begins or ends, and references.

A node of the host encodes the prompt of a clip with the images, and puts the images' latents beside it. Here every
segment of a beat has what that node makes for it: the segment that begins the beat with the first image, the one that
ends it with the last, and all others with the prompt alone, as LongVideoSegmenter has encoded it. An image in between
is put into the segment that shows its moment, by a node of the host that the text encoder knows nothing of. References,
for which the host has another node, are shown to every prompt.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import import_module
from typing import Any

import torch

from ...families.base import Family, FamilyInfo
from ...families.model_inputs import PictureNode
from ...timeline.holding import moment_of
from ...timeline.timeline import Timeline
from .. import BEAT_TAG, PROMPT_TAG, SEGMENTS_TAG

MOST_REFERENCES = 9
"""What the host's node has inputs for."""

REFERENCES = "minimax_refs"
"""Under which the host's node leaves references in the conditioning."""


@dataclass(frozen=True)
class SegmentImages:
    """Images [1, height, width, 3] of one segment: its first, its last, and one at picture number `at` of it."""

    first: torch.Tensor | None = None
    last: torch.Tensor | None = None
    middle: torch.Tensor | None = None
    at: int = 0


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

    def encode(self, prompt: str, images: SegmentImages) -> list[Any]:
        """The conditioning of a clip with `images`."""
        made, latent = self._made(self.node.node, prompt, first_frame=images.first, last_frame=images.last)
        if images.middle is None:
            return made
        guide = _host_node(self.node.guide_node)
        return guide.execute(
            positive=made, latent=latent, vae=self.vae, image=images.middle, frame_idx=images.at
        ).result[0]

    def encode_with_references(self, references: torch.Tensor, prompt: str) -> list[Any]:
        """The conditioning of a clip that shows what is in `references` [images, height, width, 3]."""
        images = {f"ref_image_{number}": references[number : number + 1] for number in range(len(references))}
        return self._made(self.node.reference_node, prompt, audio_vae=None, ref_images=images)[0]

    def _made(self, node: str, prompt: str, **further: Any) -> tuple[list[Any], dict[str, Any]]:
        """The conditioning of a clip, and its latent."""
        sizes = {"width": self.width, "height": self.height, "length": self.pictures}
        return _host_node(node).execute(clip=self.clip, vae=self.vae, prompt=prompt, **sizes, **further).result


def _host_node(path: str) -> Any:
    """A node of the host, by `module.class`; None where it lacks that."""
    module, name = path.rsplit(".", 1)
    return getattr(import_module(module), name, None)


def encoder_of(
    clip: Any, vae: Any, node: PictureNode, info: FamilyInfo, timeline: Timeline, latent: torch.Tensor
) -> Encoder:
    """What encodes images for the segments of a timeline, whose latent is [batch, channels, frames, height, width].

    Raises ValueError without a text encoder.
    """
    if clip is None:
        raise ValueError(
            f"clip: the text encoder of {info.family} sees the images together with the prompt. Connect the one of "
            "Long Video Segmenter."
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
    given: Mapping[str, torch.Tensor],
    middle_at: float,
) -> tuple[list[Any], list[Any]]:
    """Both conditionings, of which every entry belongs to one beat, with the images in beat number `beat` (from 0).

    given: images by the names of the node's inputs; middle_at: where in the beat's time the one in between is, from 0
    to 1. Raises ValueError for several pictures, for conditioning whose prompt is not known, and for an image in
    between on a host that takes none or where it falls on another.
    """
    for name, image in given.items():
        if len(image) != 1:
            raise ValueError(f"{name}: it has {len(image)} pictures, but this model takes one. Take one.")
    images = _of_segments(timeline, beat, given, middle_at)
    if "middle_image" in given and _host_node(encoder.node.guide_node) is None:
        raise ValueError(
            "middle_image: this version of ComfyUI gives the model images at the ends of a clip only. Update ComfyUI, "
            "or make it the start_image of a prompt of its own."
        )
    others = tuple(one.index for one in timeline.segments if one.index not in images)

    @cache
    def encoded(prompt: str, segment: int) -> list[Any]:
        return encoder.encode(prompt, images[segment])

    added = partial(_with_images, beat, sorted(images), others, encoded)
    return list(added("positive", positive)), list(added("negative", negative))


def _of_segments(
    timeline: Timeline, beat: int, given: Mapping[str, torch.Tensor], middle_at: float
) -> dict[int, SegmentImages]:
    """The images of those segments of a beat that have any. Raises ValueError for two at the same picture."""
    own = [one for one in timeline.segments if one.beat == beat and one.next_beat is None]
    found: dict[int, SegmentImages] = {}
    for name, segment in (("start_image", own[0]), ("end_image", own[-1])):
        if name in given:
            place = {"start_image": "first", "end_image": "last"}[name]
            found[segment.index] = replace(found.get(segment.index, SegmentImages()), **{place: given[name]})
    if "middle_image" in given:
        segment, frame = moment_of(timeline, beat, own, middle_at)
        begin, stop = timeline.picture_range(segment.start, segment.stop)
        at = max(0, timeline.picture_range(frame, frame + 1)[0] - begin)
        there = found.get(segment.index, SegmentImages())
        if (at == 0 and there.first is not None) or (at == stop - begin - 1 and there.last is not None):
            raise ValueError(
                "middle_image: it falls on another image of the prompt. Give the prompt a longer duration, or move "
                "middle_at."
            )
        found[segment.index] = replace(there, middle=given["middle_image"], at=at)
    return found


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
                "references from Long Video Segmenter."
            )
        if PROMPT_TAG not in extra:
            raise ValueError(
                f"{name}: its prompt is not known. Connect the {name} of Long Video Segmenter, without nodes in "
                "between."
            )
        before = extra.get(SEGMENTS_TAG)
        left = others if before is None else tuple(segment for segment in before if segment in others)
        if left:
            yield [tensor, {**extra, SEGMENTS_TAG: left}]
        for segment in segments:
            if before is None or segment in before:
                for seen, values in encoded(extra[PROMPT_TAG], segment):
                    yield [seen, {**extra, **values, SEGMENTS_TAG: (segment,)}]
