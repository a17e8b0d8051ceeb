"""What a run does when sharing finds no memory left."""

from collections.abc import Callable
from typing import TypeVar

import torch

from ..bank.bank import KeyValueBank
from ..bank.pinned_memory import PinnedMemoryError
from ..config import MemorySettings

T = TypeVar("T")

FEWEST_QUERIES = 256
"""Fewest queries that attention is computed for at once."""

STOP = (
    "out of memory while keys and values were shared. {hint}fewer blocks (layer_preset or end_layer of KV Sharing "
    "Config), one source, or a smaller or shorter segment need less."
)
ASK = "Set out_of_memory of KV Sharing Memory Settings to 'save_memory', which goes on with less; "
NOTHING_LEFT = "It already goes on with the least it can; "


class MemoryShortage:
    """Runs the parts of sharing that take memory. When one finds none and `memory.out_of_memory` is `save_memory`, it
    saves some and runs the part again, with one measure more each time."""

    def __init__(self, memory: MemorySettings, warn: Callable[[str], None]):
        self.queries_at_once: int | None = None
        """Most queries for which attention may be computed at once; None for all of them."""
        self._saves = memory.out_of_memory == "save_memory"
        self._warn = warn

    def within(self, bank: KeyValueBank, queries: int, part: Callable[[], T]) -> T:
        """What `part` returns, which may run several times; queries: how many it computes attention for.

        Raises torch.OutOfMemoryError when nothing more can be saved, or nothing should be.
        """
        while True:
            try:
                return part()
            except torch.OutOfMemoryError as error:
                # Without its traceback, which keeps alive what the failed part had made.
                reason = error.with_traceback(None)
            if not self._saves:
                raise torch.OutOfMemoryError(STOP.format(hint=ASK)) from reason
            if not self._save(bank, queries, reason):
                raise torch.OutOfMemoryError(STOP.format(hint=NOTHING_LEFT)) from reason

    def _save(self, bank: KeyValueBank, queries: int, reason: torch.OutOfMemoryError) -> bool:
        """Takes the next measure; whether there was one left."""
        in_pinned_memory = isinstance(reason, PinnedMemoryError)
        if not in_pinned_memory and bank.leave_device():
            self._warn("out of memory; keys and values stay in system RAM from here on.")
            return True
        # What is in pinned memory takes none where attention is computed.
        if (in_pinned_memory or bank.device_bytes > 0) and bank.turn_to_fp8():
            self._warn("out of memory; keys and values are kept in fp8 from here on, which changes the video slightly.")
            return True
        at_once = min(queries, self.queries_at_once or queries)
        if in_pinned_memory or at_once <= FEWEST_QUERIES:
            return False
        self._warn("out of memory; shared attention is computed in smaller pieces from here on.")
        self.queries_at_once = max(FEWEST_QUERIES, -(-at_once // 2))
        return True
