"""The bank's part in the computer's memory is pinned and counted by the host, and given back when a run ends."""

from collections.abc import Iterator
from typing import Any

import comfy.model_management
import pytest
import torch

from kvshare_core import devices
from kvshare_core.config import KVShareConfig, MemorySettings
from kvshare_core.host.sampling.memory import bytes_to_reserve
from kvshare_core.host.sampling.pinned_slabs import HostSlabs
from tests.support.family_cases import CASES
from tests.support.pretend_cuda import PretendCuda
from tests.support.pretend_host import pretending_host, waits_of_a_steady_step

AWAY = KVShareConfig(memory=MemorySettings(place="cpu"))


@pytest.fixture
def device() -> Iterator[PretendCuda]:
    with pretending_host() as found:
        yield found


def pinned_by_host() -> tuple[int, int]:
    """Bytes that the host counts as pinned, and how many pieces."""
    return comfy.model_management.TOTAL_PINNED_MEMORY, len(comfy.model_management.PINNED_MEMORY)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What the host counts after each slab that is taken."""
    found: list[tuple[int, int]] = []
    take = HostSlabs.take

    def counted(slabs: HostSlabs, size: int) -> torch.Tensor:
        slab = take(slabs, size)
        found.append(pinned_by_host())
        return slab

    monkeypatch.setattr(HostSlabs, "take", counted)
    return found


def test_the_host_counts_what_a_run_pins_until_it_ends(
    device: PretendCuda, taken: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "STAGED_BYTES", 0)
    before = pinned_by_host()
    waits = waits_of_a_steady_step(device, CASES["wan t2v"], AWAY)
    assert "copy of ordinary memory" not in {wait.kind for wait in waits}
    assert taken and taken[-1][0] > before[0] and taken[-1][1] == before[1] + len(taken)
    assert pinned_by_host() == before


def test_an_interrupted_run_gives_its_memory_back(
    device: PretendCuda, taken: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pinned_by_host()

    def stop(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kvshare_core.bank.pinned_memory.HostLane.fetch", stop)
    with pytest.raises(KeyboardInterrupt):
        waits_of_a_steady_step(device, CASES["wan t2v"], AWAY)
    assert taken
    assert pinned_by_host() == before


def test_where_the_host_pins_nothing_the_memory_is_ordinary(
    device: PretendCuda, taken: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comfy.model_management, "MAX_PINNED_MEMORY", -1)
    monkeypatch.setattr(devices, "STAGED_BYTES", 0)
    before = pinned_by_host()
    waits = waits_of_a_steady_step(device, CASES["wan t2v"], AWAY)
    assert taken and set(taken) == {before}
    ordinary = [wait.place for wait in waits if wait.kind == "copy of ordinary memory"]
    assert ordinary and all(place.startswith("kvshare_core/bank/pinned_memory.py") for place in ordinary)


@pytest.mark.parametrize(
    ("place", "budget", "blocks", "reserved"),
    [
        ("device", 10, 10, 100),
        ("cpu", None, 10, 20),
        ("cpu", None, 2, 100),
        ("auto", None, 10, 100),
        ("auto", 40, 10, 60),
        ("auto", 90, 10, 100),
        ("cpu", None, 0, 100),
    ],
)
def test_what_is_on_its_way_is_kept_free_too(place: Any, budget: int | None, blocks: int, reserved: int) -> None:
    assert bytes_to_reserve(MemorySettings(place=place), 100, budget, blocks) == reserved
