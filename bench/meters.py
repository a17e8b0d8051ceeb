"""Time and memory of calls, on any device."""

import statistics
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Call = Callable[[], torch.Tensor]


class StorageMeter(TorchDispatchMode):
    """Follows the memory of the tensors that operations make while it is active, also of those freed in between.

    Only what operations return is seen, each storage once however many views it has; nothing of what they are given.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = self.peak_bytes = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in _tensors((args, kwargs)):
            self._known.add(tensor.untyped_storage())
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        self.live_bytes += storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._release, storage.nbytes()).atexit = False

    def _release(self, freed: int) -> None:
        self.live_bytes -= freed


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))


def peak_extra_bytes(call: Call, device: torch.device) -> int:
    """The most that one call holds beyond what exists before it, its result included."""
    if device.type != "cuda":
        with StorageMeter() as meter:
            call()
        return meter.peak_bytes
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def median_seconds(calls: Mapping[str, Call], repeats: int, device: torch.device) -> dict[str, float]:
    """Median time of every call over `repeats` rounds in which they take turns, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            wait(device)
            start = time.perf_counter()
            call()
            wait(device)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken[1:]) for name, taken in seconds.items()}


def wait(device: torch.device) -> None:
    """Until `device` has done all that it was told to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
