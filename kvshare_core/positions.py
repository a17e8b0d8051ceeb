"""Where source keys seem to stand: the position modes of the configuration. (architecture.md 5, research.md 2.3.)"""

from dataclasses import replace

import torch

from .config import KVShareConfig
from .devices import upload
from .kv_bank import BankEntry, StoredTokens
from .rope import RopeScheme, match_tokens, matched_offsets, rotate
from .sharing import OwnTokens, TokenSplit

LEAST_LIKENESS = 0.5
"""Cosine below which a source token counts as not found in the target; it keeps its place."""


class PositionMover:
    """Moves the keys of bank entries as `config` says, through the model's rotary scheme; frame_patch: latent frames
    per token frame."""

    def __init__(self, config: KVShareConfig, scheme: RopeScheme | None, frame_patch: int = 1):
        """Raises ValueError when the configuration moves keys of a model whose keys carry no positions."""
        self.config = config
        self.scheme = scheme
        self.frame_patch = frame_patch
        if scheme is None and self._moves:
            raise ValueError(
                f"config: position is '{config.position}', but this model's keys carry no positions that could be "
                "moved; choose same or frame."
            )

    @property
    def _moves(self) -> bool:
        return self.config.position == "matched" or (self.config.position == "gap" and self.config.position_gap != 0)

    def move(self, entry: BankEntry, offset: torch.Tensor | None) -> BankEntry:
        """The entry with its video keys moved by `offset`: [3] for all of them, or [tokens, 3] for the subject's."""
        if offset is None:
            return entry
        background = entry.background
        if background is not None and offset.ndim == 1:
            background = self._moved(background, offset)
        return replace(entry, subject=self._moved(entry.subject, offset), background=background)

    def offset(
        self, entry: BankEntry, own: OwnTokens, split: TokenSplit | None, grid: tuple[int, int, int]
    ) -> torch.Tensor | None:
        """How far the keys of `entry` have to move to stand where `own` should find them; None for not at all.

        `matched` compares value vectors, which carry no position, of the subject's tokens on both sides.
        """
        if not self._moves:
            return None
        if self.config.position == "gap":
            return torch.tensor([-self.config.position_gap / self.frame_patch, 0, 0])
        target = torch.arange(own.video.stop - own.video.start) if split is None else split.subject
        if len(target) == 0 or len(entry.subject.tokens) == 0:
            return None
        device = own.key.device
        target, source = (upload(places, device) for places in (target, entry.subject.tokens))
        _, values = own.take_video(target)
        matches = match_tokens(_features(entry.subject.value), _features(values), LEAST_LIKENESS)
        return matched_offsets(source, target, matches, grid)

    def _moved(self, stored: StoredTokens, offset: torch.Tensor) -> StoredTokens:
        assert self.scheme is not None
        return replace(stored, key=rotate(stored.key, self.scheme, offset))


def _features(value: torch.Tensor) -> torch.Tensor:
    """Value vectors of one row [1, heads, tokens, head_dim] as [tokens, width]."""
    return value[0].transpose(0, 1).flatten(1)
