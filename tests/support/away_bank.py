"""A bank whose device is the CPU and whose entries still move away from it."""

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
