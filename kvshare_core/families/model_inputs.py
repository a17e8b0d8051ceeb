"""What models of a family take besides the noisy latent, and how it lies over the latent's frames.

The host calls each of these by a name (`out[...]` in the `extra_conds` of its model classes). A segment's forward must
get the segment's part of it, and whether a tensor belongs to frames is known by its name, never by a size that happens
to fit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


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


InputTiming = Literal["whole video", "first segment", "reference latents"]
"""Inputs without entries for single frames.

whole video: texts, reference images, numbers; every segment gets all of it. first segment: it fixes the video's first
frames or stands for what came before them; later segments get none. reference latents: a list of latents, of which
those as long as the video are cut with it and pictures stay whole.
"""

InputLayout = PerFrame | Mapping[int, PerFrame] | InputTiming
"""How one input lies over time. A mapping tells layouts apart by the tensor's number of dimensions, where two models of
a family use one name for different things."""


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


ImageInput = ImageChannels | Literal["latent"]
"""How a model takes the images of a video. latent: in the latent itself, where a noise mask holds them: 0 in their
frames, or more where they may change. The model knows by the mask how noisy each token is."""
