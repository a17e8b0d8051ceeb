"""Keeps compiled models from capturing, or running, a graph that contains the attention of one forward.

Hosts drop the guards on transformer options, so such a graph would be reused for other forwards.
"""

import sys
from contextlib import AbstractContextManager
from typing import Any

import torch

from .counted_region import CountedRegion


class EagerRegion(CountedRegion):
    """A context in which nothing compiled runs; one for a sampling run, entered by the threads of several devices.

    PyTorch has one stance for all threads: the first thread to enter sets it and the last one to leave restores it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._stance: AbstractContextManager[Any] | None = None

    def begin(self) -> None:
        if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
            self._stance = torch.compiler.set_stance("force_eager")
            self._stance.__enter__()

    def end(self) -> None:
        if self._stance is not None:
            self._stance.__exit__(None, None, None)
            self._stance = None
