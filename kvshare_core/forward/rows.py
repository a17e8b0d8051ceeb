"""Rows of the host's batch: which of them go through one attention call together, and what they see joined."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from ..attention.key_masks import KeyMask
from ..attention.parts import TOKEN_DIM
from ..bank.bank import BankEntry, StoredTokens


@dataclass(frozen=True)
class SharedRow:
    """One batch row that sees source keys: its place in the batch and in its chunk, what it sees of which segments,
    what its mask hides."""

    index: int
    row: int
    sources: tuple[int, ...]
    entries: tuple[BankEntry, ...]
    mask: KeyMask

    @property
    def likeness(self) -> tuple[object, ...]:
        """Rows with equal likeness can go through one attention call."""
        return (self.row, self.mask, self.sources, *(_sizes(entry) for entry in self.entries))


def grouped(work: list[SharedRow]) -> Iterator[list[SharedRow]]:
    """Rows that can go through one attention call, call by call."""
    if len(work) == 1:
        yield work
        return
    groups: dict[tuple[object, ...], list[SharedRow]] = {}
    for item in work:
        groups.setdefault(item.likeness, []).append(item)
    yield from groups.values()


def alike(indices: Sequence[int], mask_of: Callable[[int], KeyMask]) -> Iterator[tuple[list[int], KeyMask]]:
    """Batch rows in order, those with equal masks together if that keeps the order, else one by one."""
    masks = {mask_of(index) for index in indices}
    if len(masks) == 1:
        yield list(indices), mask_of(indices[0])
        return
    for index in indices:
        yield [index], mask_of(index)


def _sizes(entry: BankEntry) -> tuple[int, ...]:
    return tuple(-1 if part is None else part.key.shape[TOKEN_DIM] for part in entry.parts)


def join_entries(entries: Sequence[BankEntry]) -> BankEntry:
    """Entries of several batch rows as one of that many rows."""
    if len(entries) == 1:
        return entries[0]

    def joined(parts: Sequence[StoredTokens | None]) -> StoredTokens | None:
        present = [part for part in parts if part is not None]
        if not present:
            return None
        return StoredTokens(
            torch.cat([part.key for part in present]), torch.cat([part.value for part in present]), present[0].tokens
        )

    joined_parts = [joined(parts) for parts in zip(*(entry.parts for entry in entries), strict=True)]
    return BankEntry.of_parts(joined_parts, entries[0].origin)


def stretches(indices: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where in `indices`, ascending, numbers begin that follow one another, and how many they are."""
    first = 0
    for place in range(1, len(indices) + 1):
        if place == len(indices) or indices[place] != indices[place - 1] + 1:
            yield first, place - first
            first = place


def take_rows(tensor: torch.Tensor, indices: Sequence[int]) -> torch.Tensor:
    """The batch rows `indices`, ascending; no copy where they stand together."""
    if len(indices) == tensor.shape[0]:
        return tensor
    if indices[-1] - indices[0] == len(indices) - 1:
        return tensor[indices[0] : indices[-1] + 1]
    return torch.cat([tensor[index : index + 1] for index in indices])
