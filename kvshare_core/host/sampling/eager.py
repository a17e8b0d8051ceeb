"""Keeps compiled models from capturing, or running, a graph that contains the attention of one forward.

Hosts drop the guards on transformer options, so such a graph would be reused for other forwards.
"""

import sys
import threading
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import torch


class EagerRegion:
    """A context in which nothing compiled runs; one for a sampling run, entered by the threads of several devices.

    PyTorch has one stance for all threads: the first thread to enter sets it and the last one to leave restores it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._stance: AbstractContextManager[Any] | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0 and "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
                self._stance = torch.compiler.set_stance("force_eager")
                self._stance.__enter__()
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._stance is not None:
                self._stance.__exit__(None, None, None)
                self._stance = None
