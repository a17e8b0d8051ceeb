"""Keys and values of earlier segments, kept for the length of one model call on the long latent."""

from dataclasses import dataclass

import torch

Chunk = tuple[int, int]
"""A part of the host's batch: the list of conditioning it comes from and its place in that list."""


@dataclass(frozen=True)
class BankKey:
    """Where keys came from."""

    segment: int
    block: int
    chunk: Chunk
    row: int


@dataclass(frozen=True)
class BankEntry:
    """Keys and values [1 row] of one latent: of its subject, or of all tokens when no mask splits them, and of its
    background where that is shared too."""

    key: torch.Tensor
    value: torch.Tensor
    background_key: torch.Tensor | None = None
    background_value: torch.Tensor | None = None


class KeyValueBank:
    """Holds entries until their segment is released or everything is cleared."""

    def __init__(self) -> None:
        self._entries: dict[BankKey, BankEntry] = {}

    def put(self, key: BankKey, entry: BankEntry) -> None:
        """Stores `entry`; an entry of the same key is replaced."""
        self._entries[key] = entry

    def get(self, key: BankKey) -> BankEntry | None:
        """The entry, or None when that segment did not produce it (a step cache skipped its forward, for example)."""
        return self._entries.get(key)

    def keep_segments(self, segments: set[int]) -> None:
        """Releases the entries of all other segments."""
        for key in [key for key in self._entries if key.segment not in segments]:
            del self._entries[key]

    def clear(self) -> None:
        """Releases everything."""
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)
