"""What the blocks of one model call told, averaged, until the next call tells something newer."""

import torch


class NewestMeans:
    """Means over the blocks of a model call, by the index of their segment. newest: those of the last ended call that
    told something."""

    def __init__(self) -> None:
        self.newest: dict[int, torch.Tensor] = {}
        self._running: dict[int, tuple[torch.Tensor, int]] = {}

    def add(self, index: int, values: torch.Tensor) -> None:
        """Takes the values of one block of the running call."""
        known = self._running.get(index)
        self._running[index] = (values, 1) if known is None else (known[0] + values, known[1] + 1)

    def end_pass(self) -> None:
        """Ends a model call: its means replace those of the call before."""
        for index, (total, count) in self._running.items():
            self.newest[index] = total / count
        self._running.clear()

    def clear(self) -> None:
        """Frees everything."""
        self.newest.clear()
        self._running.clear()
