"""A film as a batch of pictures, which image models take as their latent, and as a video."""

from collections.abc import Sequence

import torch


def as_video(pictures: torch.Tensor) -> torch.Tensor:
    """A batch of pictures [frames, channels, height, width] as a video [1, channels, frames, height, width]."""
    return pictures.movedim(0, 1)[None]


def as_pictures(video: torch.Tensor) -> torch.Tensor:
    """A video [1, channels, frames, height, width] as a batch of pictures [frames, channels, height, width]."""
    return video[0].movedim(1, 0)


def video_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of a latent as a video: that of a batch of pictures as `as_video` has it, others as they are."""
    return (1, shape[1], shape[0], *shape[2:]) if len(shape) == 4 else tuple(shape)
