"""Keeps compiled models from capturing, or running, a graph that contains the attention of one forward.

Hosts drop the guards on transformer options, so such a graph would be reused for other forwards.
"""

import sys
from contextlib import AbstractContextManager
from typing import Any

import torch

from .counted_region import CountedRegion


class EagerRegion(CountedRegion):
    """A context in which nothing compiled runs: one forward of the model.

    PyTorch has one stance for the process, not one for each thread (torch/_dynamo/eval_frame.py keeps it in a module's
    variable). So there is one region too: the first forward to enter sets the stance and the last one to leave restores
    it, of whatever thread and run. Two regions would each restore what they found, and one that ends in the middle of
    another would leave the process without its compiler. Between forwards other prompts compile as they like.
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


EAGER = EagerRegion()
"""One for the process, as the stance is."""
