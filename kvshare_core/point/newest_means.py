"""Means over the blocks of a model call, kept until the next call replaces them."""

import torch


class NewestMeans:
    """Means over the blocks of a model call, by the index of their segment."""

    def __init__(self) -> None:
        self.newest: dict[int, torch.Tensor] = {}
        """The means of the last finished call that added values to a segment."""
        self._running: dict[int, tuple[torch.Tensor, int]] = {}

    def add(self, index: int, values: torch.Tensor) -> None:
        """Adds the values of one block of the running call."""
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
