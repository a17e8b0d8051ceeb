"""A bank whose device is the CPU and whose entries still move away from it."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from kvshare_core.bank.bank import KeyValueBank
from kvshare_core.bank.pinned_memory import HostLane


class AwayBank(KeyValueBank):
    """Takes the CPU for a device whose memory is not the computer's, so that moving entries is seen without one."""

    def lane(self, device: torch.device) -> HostLane:
        """The way off `device`."""
        return self._lanes.setdefault(device, HostLane(device))

    def _lane(self, device: torch.device) -> HostLane | None:
        return self.lane(device)


class Streams:
    """Takes the place of CUDA's streams: what the lane's waits for, and nothing else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.waits = 0
        self.events = 0
        monkeypatch.setattr(torch.cuda, "Event", lambda: self)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self)
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())

    def wait_stream(self, stream: Any) -> None:
        self.waits += 1

    def wait_event(self, event: Any) -> None:
        self.events += 1

    def record(self, stream: Any) -> None:
        pass

    def synchronize(self) -> None:
        self.waits += 1
