"""A bank in the computer's memory: how many blocks of keys and values are on the device, and what waits for them."""

import weakref
from typing import Any

import pytest
import torch

from kvshare_core.bank.bank import BankEntry, BankKey
from kvshare_core.config import KVShareConfig, MemorySettings
from kvshare_core.families.base import CallSite
from kvshare_core.plan.share_plan import SharePlan
from tests.support.away_bank import AwayBank, Streams
from tests.support.fake_family import FakeModel, timeline_of

GRID = (3, 2, 2)
CPU = torch.device("cpu")
BLOCKS = 6
BLOCK_BYTES = 2 * 2 * 12 * 2 * 4 * 8
"""Two chunks; keys and values of 12 tokens with 2 heads of 4 channels, in float64."""


class CountedBank(AwayBank):
    """Counts the bytes that its entries take on the device: while they are copied away, and from when they are fetched
    until nobody has them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        super().__init__(MemorySettings(place="cpu"))
        self.there = weakref.WeakSet[Any]()
        self.peak = self.reads = self.late = 0
        lane = self.lane(CPU)
        monkeypatch.setattr(lane, "_stream", Streams(monkeypatch))
        empty = lane._empty

        def made(copy: Any) -> list[torch.Tensor]:
            tensors = empty(copy)
            self._count_in(tensors)
            return tensors

        monkeypatch.setattr(lane, "_empty", made)

    def put(self, key: BankKey, entry: BankEntry, consumers: int | None) -> None:
        self._count_in([part for stored in entry.parts if stored is not None for part in (stored.key, stored.value)])
        super().put(key, entry, consumers)

    def get(self, key: BankKey) -> BankEntry | None:
        stored = self._entries.get(key)
        self.reads += stored is not None
        self.late += stored is not None and stored.fetched is None
        return super().get(key)

    def _count_in(self, tensors: list[torch.Tensor]) -> None:
        self.there.update(tensor.untyped_storage() for tensor in tensors)
        self.peak = max(self.peak, sum(storage.nbytes() for storage in self.there))


@pytest.mark.parametrize(("sources", "most"), [("first", 1), ("previous", 2)])
def test_at_most_two_blocks_are_on_the_device_and_none_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, sources: Any, most: int
) -> None:
    """Where every segment attends to the first, no other saves anything."""
    plan = SharePlan(timeline_of(4, GRID[0]), KVShareConfig(sources=sources, position="same"))
    model = FakeModel(plan, [CallSite(block, "self") for block in range(BLOCKS)], GRID)
    session, bank = model.session(), CountedBank(monkeypatch)
    session.use_bank(bank)
    for step in range(2):
        model.run_pass(session, step=step)
    assert bank.reads == 2 * 3 * BLOCKS * 2
    assert bank.late == 0
    assert bank.peak == most * BLOCK_BYTES
    assert len(bank.there) == 0
