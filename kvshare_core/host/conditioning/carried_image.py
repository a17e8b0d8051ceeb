"""Image conditioning of segments that have no image of their own: the frames that are known before they are evaluated.

An image-to-video model continues the frames that it is given. Of a film from one image only the first segment has one;
cut from the long conditioning, every later segment would get none and begin anew. What it shares with the segments
before it is finished, or estimated by the same model call, and takes the place of an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

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
        """Nothing is known of a video like `latent`."""
        return KnownFrames(torch.zeros_like(latent), torch.zeros(latent.shape[FRAME_DIM], dtype=torch.bool))

    def copy(self) -> "KnownFrames":
        """The same frames, to `add` others to."""
        return KnownFrames(self.latent.clone(), self.known.clone())

    def add(self, segment: Segment, prediction: torch.Tensor) -> None:
        """Adds, in place, the frames that count of a segment, as it was predicted, where nothing was known."""
        frames = len(self.known)
        for frame in range(segment.shown_start, segment.shown_stop):
            if not self.known[frame % frames]:
                self.latent[:, :, frame % frames] = prediction[:, :, frame - segment.start]
                self.known[frame % frames] = True

    def overlaid_by(self, others: "KnownFrames") -> "KnownFrames":
        """With `others`, which count where both are known."""
        upper = others.known.to(self.latent.device)[:, None, None]
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
    """The frames of which input channels [batch, channels, frames, height, width] give an image, bool [frames]."""
    image, mask = channels.split(concat, latent_channels)
    return (mask if mask.shape[1] else image).movedim(FRAME_DIM, 0).flatten(1).any(1).cpu()


def has_image(entries: Sequence[dict[str, Any]], channels: ImageChannels, latent_channels: int) -> bool:
    """Whether every entry of a segment's conditioning gives an image; entries without input channels do not count."""
    concats = [entry["model_conds"][CONCAT].cond for entry in entries if CONCAT in entry["model_conds"]]
    return all(bool(given_frames(concat, channels, latent_channels).any()) for concat in concats)


def gives_no_image(
    conds: Sequence[Sequence[dict[str, Any]] | None], channels: ImageChannels, latent_channels: int
) -> bool:
    """Whether no entry of the whole video's conditionings gives an image."""
    concats = [
        entry["model_conds"][CONCAT].cond for cond in conds for entry in cond or () if CONCAT in entry["model_conds"]
    ]
    return not any(bool(given_frames(concat, channels, latent_channels).any()) for concat in concats)


def carry_image(entry: dict[str, Any], frames: KnownFrames, channels: ImageChannels) -> dict[str, Any]:
    """An entry of a segment's conditioning, given the `frames` that are known of the segment as images.

    Where one of these frames has an image already, that one counts and nothing is carried.
    """
    conds = entry["model_conds"]
    if CONCAT not in conds or not bool(frames.known.any()):
        return entry
    concat = conds[CONCAT].cond
    if bool((given_frames(concat, channels, frames.latent.shape[1]) & frames.known).any()):
        return entry
    latent = frames.latent.to(concat)
    carried = concat.expand(max(len(concat), len(latent)), *concat.shape[1:]).clone()
    image, mask = channels.split(carried, latent.shape[1])
    known = frames.known.to(image.device)
    image[:, :, known] = latent[:, :, known]
    mask[:, :, known] = 1
    return {**entry, "model_conds": {**conds, CONCAT: conds[CONCAT]._copy_with(carried)}}
