"""What models of a family take besides the noisy latent, and how it lies over the latent's frames.

The host calls each of these by a name (`out[...]` in the `extra_conds` of its model classes). A segment's forward must
get the segment's part of it, and whether a tensor belongs to frames is known by its name, never by a size that happens
to fit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

import torch

LATENT_SHAPES = "latent_shapes"
"""Input with the shapes of what the host has packed into one latent: the video [batch, channels, frames, height, width]
and, where there is any, the audio."""


@dataclass(frozen=True)
class PerFrame:
    """An input with entries for every latent frame; a segment gets those of its own frames."""

    dim: int
    """Dimension of the tensor that runs over the entries."""

    per_frame: int = 1
    """Entries for each latent frame."""

    first: int = 0
    """Latent frame of the first entry. The frames before it have none: the model keeps a reference image there, and
    leaves as many frames of every segment alone."""

    length: Literal["exact", "longer", "any"] = "exact"
    """Which lengths are right: `exact` is one set of entries for every frame; with `longer`, further entries do no
    harm; with `any`, the model fills up what is missing."""


@dataclass(frozen=True)
class Indivisible:
    """An input that makes sense for a whole video only, so that a model with segments refuses it."""

    reason: str
    """What it is, why it cannot be cut, and what to do instead."""


InputTiming = Literal["whole video", "text length", "first segment", "reference latents", "sequence", "audio"]
"""Inputs without entries for single frames.

whole video: texts, reference images, numbers; every segment gets all of it. text length: the number of text tokens that
the model attends to, as it drops those after them. first segment: it fixes the video's first frames or represents what
came before them; later segments get none. reference latents: a list of latents, of which those as long as the video are
cut with it and single images stay whole. sequence: a dictionary with the layout of the model's whole sequence of
tokens, which is made anew for every segment, and with images at frames of the video, which go to the segments that have
them. audio: it has entries for every step of the audio, along its time.
"""

InputLayout = PerFrame | Mapping[int, PerFrame] | Indivisible | InputTiming
"""How one input lies over time. A mapping tells layouts apart by the tensor's number of dimensions, where two models of
a family use one name for different things."""


@dataclass(frozen=True)
class PackedAudio:
    """Audio that a model samples together with the video, packed behind it into one latent."""

    time_dim: int
    """Dimension of the audio's latent that is time."""

    steps_per_second: Callable[[Any], float]
    """Latent steps of a second of audio, of a diffusion model of the host."""

    pictures_per_second: float | str
    """Of the video: a number, or the model's input that tells it, by the host's name."""

    fix: str
    """What makes the audio as long as the video; {pictures} and {rate} are the video's."""

    shape: Callable[[Any, int], tuple[int, ...]] | None = None
    """Shape of one audio latent of a diffusion model and that many steps, where the model cannot do without; None where
    the host has a node for it."""


@dataclass(frozen=True)
class ImageChannels:
    """How a model takes the images that a video begins or ends with: as input channels besides the noisy latent's.

    The host's nodes for such models write two values into the conditioning: `concat_latent_image`, the encoded images
    in a latent as long as the video, and `concat_mask`, which is 0 where an image is given and 1 elsewhere.
    """

    weight: str
    """Name of the weight [width, input channels, ...] that embeds latent patches, in the host's model."""

    extra_channels: int | None
    """How many more input channels than the latent has make it a model that takes images; None for any number."""

    mask_channels: int
    """Channels of the mask: 1, or the number of pictures in a latent frame, each of which has a channel of its own."""

    empty_pixel: float | None
    """Pixel value, 0 to 1, of pictures that are not given: the VAE encodes a whole clip with the images at its ends.
    None when the VAE encodes the image alone, and the latent is 0 elsewhere."""

    last_image: bool
    """Whether it takes an image to end with; needs `empty_pixel`."""

    mask_first: bool
    """Whether the mask's channels come before the image's in the model's input."""

    optional: Callable[[Any], bool] = lambda diffusion_model: False
    """Whether a diffusion model with these channels may be a text-to-video one, which has them too and gets zeros."""

    def accepts(self, diffusion_model: Any, latent_channels: int) -> bool:
        """Whether a model of the family is an image-to-video model, by the input channels of its first layer."""
        extra = attrgetter(self.weight)(diffusion_model).shape[1] - latent_channels
        return extra > 0 if self.extra_channels is None else extra == self.extra_channels

    def carries(self, diffusion_model: Any, latent_channels: int) -> bool:
        """Whether such a model's further input channels are one image, with or without its mask, so that latent frames
        can be given as images."""
        extra = attrgetter(self.weight)(diffusion_model).shape[1] - latent_channels
        return self.accepts(diffusion_model, latent_channels) and extra - latent_channels in (0, self.mask_channels)

    def split(self, channels: torch.Tensor, latent_channels: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Image [batch, latent channels, ...] and mask [batch, 0 or mask_channels, ...], 1 where an image is given, as
        views of the input channels [batch, extra channels, ...] that the host makes of both."""
        masks = channels.shape[1] - latent_channels
        if self.mask_first:
            return channels[:, masks:], channels[:, :masks]
        return channels[:, :latent_channels], channels[:, latent_channels:]


@dataclass(frozen=True)
class ReferenceFrames:
    """How the conditioning says that the host's nodes have put latent frames of a reference picture in front of the
    video: a mask among the channels of one of the model's inputs."""

    input: str
    """The input, by the host's name."""
    channel_dim: int
    """Its dimension that is channels."""
    frame_dim: int
    """Its dimension that is time."""
    channels: tuple[int, int]
    """First of the mask's channels, and stop."""
    value: float
    """What the mask is in reference frames."""

    def count(self, tensor: torch.Tensor) -> int:
        """How many frames at the beginning are reference frames, by the mask in that input."""
        first, stop = self.channels
        mask = tensor.narrow(self.channel_dim, first, stop - first)
        given = ((mask - self.value).abs() < 1e-3).movedim(self.frame_dim, 0).flatten(1).all(1)
        return int(given.long().cumprod(0).sum())


@dataclass(frozen=True)
class PictureNode:
    """How a model takes the images that a video begins or ends with, where its text encoder sees them together with the
    prompt: a node of the host makes both of prompt and images."""

    node: str
    """`module.class` in the host. Its `execute` takes clip, vae, prompt, width, height, length, first_frame and
    last_frame, and returns the conditioning first."""

    reference_node: str
    """The same for reference images, which show what is in the video and not when. Its `execute` takes audio_vae and
    ref_images by their names in place of the first and the last frame."""

    guide_node: str
    """The same for an image at any frame, which older hosts lack. Its `execute` takes positive, latent, vae, image and
    frame_idx, and returns the conditioning first."""


ImageInput = ImageChannels | PictureNode | Literal["latent"]
"""How a model takes the images of a video. latent: in the latent itself, where a noise mask holds them: 0 in their
frames, or more where they may change. The model knows by the mask how noisy each token is."""
