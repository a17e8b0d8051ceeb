"""Memory of the computer that the host pins and counts, like the weights that it streams."""

import torch
from comfy.model_management import pin_memory, unpin_memory


class HostSlabs:
    """Slabs for the bank of one run. The host makes room for them among its own pinned memory, within the limit that it
    has for all; where it refuses, or its user switched pinning off, they are ordinary memory."""

    def __init__(self) -> None:
        self._pinned: set[int] = set()

    def take(self, size: int) -> torch.Tensor:
        """So many bytes, uint8 [size]. Raises RuntimeError when none are left."""
        # Older hosts pin nothing but parameters.
        slab = torch.nn.Parameter(torch.empty(size, dtype=torch.uint8), requires_grad=False)
        if pin_memory(slab):
            self._pinned.add(slab.data_ptr())
        return slab

    def give_back(self, slab: torch.Tensor) -> None:
        """Unpins what `take` gave."""
        if slab.data_ptr() in self._pinned:
            unpin_memory(slab)
            self._pinned.discard(slab.data_ptr())
