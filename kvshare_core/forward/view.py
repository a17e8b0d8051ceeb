"""Between the masks' grid and the grid of a block: of another resolution, with the video's frames as tokens or as rows.

Masks, maps and points are of one grid, [latents, frames x height x width], the same for all blocks of a model. The call
of a block may have

* another resolution, as on the levels of a UNet, and
* the frames as tokens, [latents, heads, frames x height x width, head_dim], as video transformers have them, or as
  rows, [latents x frames, heads, height x width, head_dim], as models have them whose attention over space is apart
  from that over time.

A family says which with `grid` and `frames_as_rows` of the `CallSite` that its `classify` returns; a call whose rows
and tokens are those of the masks' grid needs neither. Frames as rows attend frame by frame: a row attends to the same
frame of its sources. The text's keys of such a call are repeated for every frame.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F

from ..attention.token_split import TokenSplit, split_tokens

Grid = tuple[int, int, int]
"""Tokens of a video: frames, height, width."""


@dataclass(frozen=True)
class View:
    """How one call has the video of a forward."""

    masks: Grid
    """The grid of masks and maps."""
    block: Grid
    """The grid of the block; of as many frames."""
    frames_as_rows: bool = False

    @cached_property
    def is_plain(self) -> bool:
        """Whether the call has rows and tokens of the masks' grid."""
        return self.block == self.masks and not self.frames_as_rows

    @cached_property
    def rows(self) -> int:
        """Batch rows of each latent."""
        return self.block[0] if self.frames_as_rows else 1

    @cached_property
    def grid(self) -> Grid:
        """The tokens of the video in one row."""
        return (1, *self.block[1:]) if self.frames_as_rows else self.block

    @cached_property
    def tokens(self) -> int:
        """How many tokens of the video a row has."""
        return math.prod(self.grid)

    @cached_property
    def frame_tokens(self) -> int:
        """How many of them are of one frame."""
        return self.block[1] * self.block[2]

    def rows_of(self, latents: slice | None) -> slice | None:
        """The batch rows of some latents."""
        return None if latents is None else slice(latents.start * self.rows, latents.stop * self.rows)

    def clip(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens [latents x rows, heads, tokens, head_dim] of the call with all frames of a latent in one row."""
        if self.rows == 1:
            return tokens
        return tokens.unflatten(0, (-1, self.rows)).transpose(1, 2).flatten(2, 3)

    def to_masks(self, values: torch.Tensor) -> torch.Tensor:
        """Values [..., latents x rows, tokens] of the call as values [..., latents, tokens of the masks' grid]: from a
        finer grid the means of the tokens that each covers, from a coarser one bilinear."""
        if self.is_plain:
            return values
        clips = values.unflatten(-2, (-1, self.rows)).flatten(-2)
        if self.block == self.masks:
            return clips
        frames = clips.reshape(-1, 1, *self.block[1:])
        size = self.masks[1:]
        if self.block[1] >= size[0] and self.block[2] >= size[1]:
            resized = F.adaptive_avg_pool2d(frames, size)
        else:
            resized = F.interpolate(frames, size, mode="bilinear", align_corners=False)
        return resized.reshape(*clips.shape[:-1], math.prod(self.masks))

    def clip_to_masks(self, values: torch.Tensor) -> torch.Tensor:
        """The same of values [..., latents, tokens of the block's grid], which have all frames of a latent together."""
        return values if self.block == self.masks else replace(self, frames_as_rows=False).to_masks(values)

    def of_one_row(self, attention: torch.Tensor, row: int) -> torch.Tensor:
        """Attention [latents, tokens] of a query in row `row` of its latent, which sums to one, over all tokens of the
        masks' grid: [latents, tokens of the masks' grid], summing to one."""
        if self.is_plain:
            return attention
        whole = attention.new_zeros(len(attention), self.rows, attention.shape[-1])
        whole[:, row] = attention
        spread = self.to_masks(whole.flatten(0, 1))
        return spread / spread.sum(-1, keepdim=True)

    def to_block(self, values: torch.Tensor) -> torch.Tensor:
        """Values [..., tokens of the masks' grid] as values [..., tokens of the block's], all frames together: means of
        the tokens that each covers."""
        if self.block == self.masks:
            return values
        frames = values.reshape(-1, 1, *self.masks[1:]).float()
        resized = F.adaptive_avg_pool2d(frames, self.block[1:])
        return resized.reshape(*values.shape[:-1], math.prod(self.block))

    def splits(self, splits: Sequence[TokenSplit], device: torch.device) -> list[TokenSplit]:
        """The splits of latents by the masks' grid as those of the call's rows. A token that covers several belongs to
        whatever has most of them, and of what has as many to the first subject."""
        if self.is_plain:
            return list(splits)
        return [split_tokens(masks, device) for split in splits for masks in self._masks_of_rows(split)]

    def _masks_of_rows(self, split: TokenSplit) -> Sequence[torch.Tensor]:
        """For each row of a latent the masks of its subjects, bool [subjects, tokens] on the CPU."""
        parts = [places.on_cpu for places in (*split.subjects, split.background)]
        own = torch.zeros(len(parts), math.prod(self.masks))
        for number, places in enumerate(parts):
            own[number, places] = 1.0
        if self.block != self.masks:
            most = self.to_block(own).argmax(0)
            own = torch.stack([most == number for number in range(len(parts))]).float()
        return (own[:-1] > 0).unflatten(-1, (self.rows, -1)).unbind(1)

    def place(self, frame: int, y: float, x: float) -> tuple[int, int]:
        """The row of its latent and the token in that row of the point at `y`, `x`, 0 to 1, in a frame of the block."""
        _, height, width = self.block
        token = min(int(y * height), height - 1) * width + min(int(x * width), width - 1)
        return (frame, token) if self.frames_as_rows else (0, frame * self.frame_tokens + token)
