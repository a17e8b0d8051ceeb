"""Crops of rendered scenes, as training and evaluation material of the VAE."""

from dataclasses import dataclass

import torch

from ..scenes import FRAME_SIDE, FRAMES, render, sample_scenes


@dataclass(frozen=True)
class CropShape:
    """One batch: `count` crops of `frames` (4 * t - 3) frames and `side` (a multiple of 8) pixels squared."""

    count: int
    frames: int
    side: int


class ClipSampler:
    """Draws endless crops of training scenes.

    Besides plain scenes there are what a long video with several prompts contains: cuts from one scene to the next,
    cross-fades between two scenes, and colours that lie off the palette.
    """

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, shape: CropShape) -> torch.Tensor:
        """Video [count, frames, 3, side, side] in 0..1."""
        video = self._scenes(shape.count, shape.frames)
        fading = self._uniform(shape.count) < 0.15
        if bool(fading.any()):
            fade = self._uniform(int(fading.sum())).reshape(-1, 1, 1, 1, 1)
            video[fading] = torch.lerp(video[fading], self._scenes(int(fading.sum()), shape.frames), fade)
        room = FRAME_SIDE - shape.side
        crops = []
        for clip in video:
            top, left = (self._integer(room + 1) for _ in range(2))
            crops.append(clip[..., top : top + shape.side, left : left + shape.side])
        return torch.stack(crops)

    def _scenes(self, count: int, frames: int) -> torch.Tensor:
        """Whole frames; clips longer than a scene continue with another scene after a cut between two latent frames."""
        parts = []
        left = frames
        while left:
            if frames <= FRAMES:
                start, length = self._integer(FRAMES - frames + 1), frames
            else:
                start, length = 0, min(left, FRAMES if left == frames else FRAMES - 1)
            parts.append(self._recoloured(count)[:, start : start + length])
            left -= length
        return torch.cat(parts, dim=1)

    def _recoloured(self, count: int) -> torch.Tensor:
        """Rendered scenes, half of them with subject and background moved a little off their palette colour."""
        video, mask = render(sample_scenes(count, self.generator, patterned=True))
        amount = 0.08 * (self._uniform(count, 1, 1, 1, 1) < 0.5)
        subject, background = (amount * torch.randn(count, 1, 3, 1, 1, generator=self.generator) for _ in range(2))
        return (video + torch.lerp(background, subject, mask[:, :, None])).clamp(0, 1)

    def _uniform(self, *shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=self.generator)

    def _integer(self, choices: int) -> int:
        return int(torch.randint(choices, (), generator=self.generator))
