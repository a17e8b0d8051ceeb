"""Where source keys appear: the position modes of the configuration (docs/architecture.md#positions-of-shared-keys)."""

from dataclasses import dataclass, field

import torch

from ..bank.bank import BankEntry, StoredTokens
from ..config import KVShareConfig
from ..devices import upload
from .groups import OwnTokens
from .rope import (
    FLOAT64_DEVICES,
    RopeScheme,
    Rotation,
    apply_rotation,
    centred_offsets,
    match_tokens,
    matched_offsets,
    position_offsets,
    rotation_of,
)
from .token_split import TokenSplit

FOLLOWING = ("matched", "centred")
"""Position modes in which keys go where the target's subject is."""

LEAST_LIKENESS = 0.5
"""Cosine below which a source token counts as not found in the target; it keeps its place."""


@dataclass(frozen=True)
class Offsets:
    """How far the keys of an entry move, in positions along (frame, height, width): [3] for all of a part, or
    [tokens, 3]; None for not at all."""

    subjects: tuple[torch.Tensor | None, ...]
    background: torch.Tensor | None
    text: torch.Tensor | None = None
    rotations: dict[tuple[int, torch.dtype], Rotation] = field(
        default_factory=dict[tuple[int, torch.dtype], Rotation], compare=False, repr=False
    )
    """By the number of the part and the dtype of its keys, what every block turns its keys by."""


class PositionMover:
    """Moves the keys of bank entries as `config` says, and across cuts with a gap, through the model's rotary scheme;
    frame_patch: latent frames per token frame."""

    def __init__(
        self, config: KVShareConfig, scheme: RopeScheme | None, frame_patch: int = 1, gapped_beat: int | None = None
    ):
        """gapped_beat: a beat whose cut moves keys, or None. In a model whose keys carry no positions `centred` leaves
        them where they are; raises ValueError when they are to be moved in another way."""
        self.config = config
        self.scheme = scheme
        self.frame_patch = frame_patch
        if scheme is None and self._moves:
            raise ValueError(
                f"config: position is '{config.position}', but this model's keys carry no positions that could be "
                "moved; choose centred, same or frame."
            )
        if scheme is None and gapped_beat is not None:
            raise ValueError(
                f"prompt {gapped_beat + 1}: its cut has a gap, but this model's keys carry no positions that could be "
                "moved; take the gap out."
            )

    @property
    def _moves(self) -> bool:
        position = self.config.position
        if position == "centred":
            return self.scheme is not None
        return position == "matched" or (position == "gap" and self.config.position_gap != 0)

    def move(self, entry: BankEntry, offsets: Offsets | None) -> BankEntry:
        """The entry with its keys moved."""
        if offsets is None:
            return entry
        places = (*offsets.subjects, offsets.background, offsets.text)
        parts = [
            self._moved(stored, offset, number, offsets)
            for number, (stored, offset) in enumerate(zip(entry.parts, places, strict=True))
        ]
        return BankEntry.of_parts(parts, entry.origin)

    def offsets(
        self,
        entry: BankEntry,
        own: OwnTokens,
        split: TokenSplit | None,
        grid: tuple[int, int, int],
        gap: int = 0,
        origin: float = 0.0,
    ) -> Offsets | None:
        """How far the keys of `entry` have to move to stand where `own` should find them; None for not at all.

        gap: latent frames that they move back in time beside what the configuration says. Of each subject's
        tokens on both sides `matched` compares value vectors, which carry no position, and `centred` the centres in
        every frame. origin: position in time of the own video's first frame, by which that of the entry is replaced.
        """
        later = origin - entry.origin
        if not self._moves and gap == 0 and later == 0:
            return None
        steps = self._steps(entry, own, split, grid, gap)
        if self.scheme is None or (self.scheme.counts_tokens and later == 0):
            return steps

        shift = torch.tensor([later, 0, 0], dtype=torch.float64) if later else None
        device = own.key.device

        def positions(stored: StoredTokens | None, offset: torch.Tensor | None) -> torch.Tensor | None:
            if stored is None or offset is None or self.scheme is None:
                return shift
            moved = position_offsets(self.scheme, offset, stored.tokens, grid)
            # Every block turns its keys by them.
            moved = upload(moved, device) if device.type in FLOAT64_DEVICES else moved
            return moved if shift is None else moved + upload(shift, moved.device)

        return Offsets(
            tuple(positions(stored, offset) for stored, offset in zip(entry.subjects, steps.subjects, strict=True)),
            positions(entry.background, steps.background),
            shift,
        )

    def _steps(
        self, entry: BankEntry, own: OwnTokens, split: TokenSplit | None, grid: tuple[int, int, int], gap: int
    ) -> Offsets:
        """The same in token steps, wherever the videos begin."""
        earlier = gap + (self.config.position_gap if self.config.position == "gap" else 0)
        back = torch.tensor([-earlier / self.frame_patch, 0, 0]) if earlier else None
        if self.config.position not in FOLLOWING or self.scheme is None:
            return Offsets((back,) * len(entry.subjects), back)
        everything = torch.arange(own.video.stop - own.video.start)
        targets = [everything] if split is None else [places.on_cpu for places in split.subjects]
        found: list[torch.Tensor | None] = []
        for stored, target in zip(entry.subjects, targets, strict=True):
            followed = None if stored is None else self._followed(stored, own, target, grid)
            if followed is None or back is None:
                found.append(back if followed is None else followed)
            else:
                found.append(followed + upload(back, followed.device))
        return Offsets(tuple(found), back)

    def _followed(
        self, stored: StoredTokens, own: OwnTokens, target: torch.Tensor, grid: tuple[int, int, int]
    ) -> torch.Tensor | None:
        """Offsets [tokens, 3] to where the own tokens `target` are; None where there is nothing to compare."""
        if len(target) == 0 or len(stored.tokens) == 0:
            return None
        device = own.key.device
        if self.config.position == "centred":
            offsets = centred_offsets(stored.tokens, target, grid)
            return upload(offsets, device) if device.type in FLOAT64_DEVICES else offsets
        target, source = (upload(places, device) for places in (target, stored.tokens))
        # Values of one row [1, heads, tokens, head_dim], those of the video alone.
        values = own.video_part(0.0).value[0]
        matches = match_tokens(stored.value[0], values, LEAST_LIKENESS, target)
        return matched_offsets(source, target, matches, grid)

    def _moved(
        self, stored: StoredTokens | None, offset: torch.Tensor | None, number: int, offsets: Offsets
    ) -> StoredTokens | None:
        """Part `number` of an entry, moved by `offset`."""
        if stored is None or offset is None:
            return stored
        assert self.scheme is not None
        name = number, stored.key.dtype
        rotation = offsets.rotations.get(name)
        if rotation is None or rotation.cosine.device != stored.key.device:
            rotation = offsets.rotations[name] = rotation_of(stored.key, self.scheme, offset)
        return StoredTokens(apply_rotation(stored.key, self.scheme, rotation), stored.value, stored.tokens)
