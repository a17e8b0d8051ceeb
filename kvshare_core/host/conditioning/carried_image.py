"""Image conditioning of segments that have no image of their own: the frames that are known before they are evaluated.

An image-to-video model continues the frames that it is given. Of a film from one image only the first segment has one;
cut from the long conditioning, every later segment would get none and begin anew. What it shares with the segments
before it is finished, or estimated by the same model call, and takes the place of an image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ...devices import upload
from ...families.model_inputs import ImageChannels
from ...timeline.fades import take_frames
from ...timeline.timeline import FRAME_DIM, Segment

CONCAT = "c_concat"
"""The host's name for input channels beside the noisy latent."""


@dataclass(frozen=True)
class KnownFrames:
    """Latent frames of the video whose content is known."""

    latent: torch.Tensor
    """[batch, channels, frames, height, width], as the model gets latents."""

    known: torch.Tensor
    """Which frames are known, bool [frames]."""

    @staticmethod
    def none_of(latent: torch.Tensor) -> "KnownFrames":
        """Nothing is known of a video like `latent`; takes no memory until it is copied."""
        nothing = latent.new_zeros(()).expand(latent.shape)
        return KnownFrames(nothing, torch.zeros(latent.shape[FRAME_DIM], dtype=torch.bool))

    def copy(self) -> "KnownFrames":
        """The same frames in memory of their own, to `add` others to."""
        return KnownFrames(self.latent.clone(memory_format=torch.contiguous_format), self.known.clone())

    def add(self, segment: Segment, prediction: torch.Tensor) -> None:
        """Adds, in place, the frames that count of a segment, as it was predicted, where nothing was known."""
        frames = len(self.known)
        for frame in range(segment.shown_start, segment.shown_stop):
            if not self.known[frame % frames]:
                self.latent[:, :, frame % frames] = prediction[:, :, frame - segment.start]
                self.known[frame % frames] = True

    def overlaid_by(self, others: "KnownFrames") -> "KnownFrames":
        """With `others`, which count where both are known."""
        upper = upload(others.known, self.latent.device)[:, None, None]
        latent = torch.where(upper, others.latent.to(self.latent), self.latent)
        return KnownFrames(latent, self.known | others.known)

    def of_segment(self, segment: Segment) -> "KnownFrames":
        """The frames of a segment, of which only those can be known that count."""
        first, length = segment.start, segment.length
        known = take_frames(self.known, 0, first, length).clone()
        known[: segment.shown_start - first] = False
        known[segment.shown_stop - first :] = False
        return KnownFrames(take_frames(self.latent, FRAME_DIM, first, length), known)


def given_frames(concat: torch.Tensor, channels: ImageChannels, latent_channels: int) -> torch.Tensor:
    """The frames of which input channels [batch, channels, frames, height, width] give an image, bool [frames] on the
    CPU, which waits for the device."""
    image, mask = channels.split(concat, latent_channels)
    return (mask if mask.shape[1] else image).movedim(FRAME_DIM, 0).flatten(1).any(1).cpu()


@dataclass
class ImagesGiven:
    """Which frames the conditioning of a run gives images of. The same in every step, so that each entry is read from
    the device once for every segment."""

    known: dict[tuple[Any, int | None], torch.Tensor] = field(
        default_factory=dict[tuple[Any, int | None], torch.Tensor]
    )

    def by(
        self, entry: Mapping[str, Any], segment: int | None, channels: ImageChannels, latent_channels: int
    ) -> torch.Tensor | None:
        """The frames of which an entry gives an image, as `given_frames`; None for one without input channels. segment:
        the index of the one that the entry is cut to, None for the whole video."""
        if CONCAT not in entry["model_conds"]:
            return None
        name = entry.get("uuid"), segment
        if name not in self.known or name[0] is None:
            self.known[name] = given_frames(entry["model_conds"][CONCAT].cond, channels, latent_channels)
        return self.known[name]


def carry_image(
    entry: dict[str, Any], frames: KnownFrames, channels: ImageChannels, given: torch.Tensor | None
) -> dict[str, Any]:
    """An entry of a segment's conditioning, given the `frames` that are known of the segment as images.

    given: the frames of which it has an image already, None for an entry without input channels. Where one of the
    frames is among these, that one counts and nothing is carried.
    """
    if given is None or not bool(frames.known.any()) or bool((given & frames.known).any()):
        return entry
    conds = entry["model_conds"]
    concat = conds[CONCAT].cond
    latent = frames.latent.to(concat)
    carried = concat.expand(max(len(concat), len(latent)), *concat.shape[1:]).clone()
    image, mask = channels.split(carried, latent.shape[1])
    places = upload(frames.known.nonzero().squeeze(1), concat.device)
    image.index_copy_(FRAME_DIM, places, latent.index_select(FRAME_DIM, places).expand_as(image[:, :, : len(places)]))
    mask.index_fill_(FRAME_DIM, places, 1)
    return {**entry, "model_conds": {**conds, CONCAT: conds[CONCAT]._copy_with(carried)}}


def with_images(
    entries: Sequence[dict[str, Any]],
    segment: Segment,
    frames: KnownFrames,
    channels: ImageChannels,
    given: ImagesGiven,
) -> tuple[list[dict[str, Any]], bool]:
    """The entries of a segment's conditioning, each given the `frames` that are known of the segment, and whether all
    with input channels have an image then."""
    found = [given.by(entry, segment.index, channels, frames.latent.shape[1]) for entry in entries]
    carried = [carry_image(entry, frames, channels, own) for entry, own in zip(entries, found, strict=True)]
    known = bool(frames.known.any())
    return carried, all(own is None or known or bool(own.any()) for own in found)
