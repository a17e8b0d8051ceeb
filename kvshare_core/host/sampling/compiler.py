"""The compiler of newer hosts (Comfy Compiler, ComfyUI 0.35 and later on CUDA), and what the pack does within a model's
blocks.

That compiler records which memory a block takes and gives back, and runs later blocks by the record. Memory that is
taken within a block and kept (keys in the bank, maps, masks) breaks the record, at worst with an abort of the process.
So the recording is paused while the pack computes a call of attention; calls that it passes on are recorded as without
it. A host that cannot pause has its compiler switched off while a forward of ours runs.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch

from ...attention.parts import Backend
from ...families.base import AttentionCall
from .counted_region import CountedRegion

Attend = Callable[[AttentionCall, Backend], torch.Tensor | None]
"""The output [rows, heads, tokens, head_dim] of a call, or None where the ordinary call will do; the backend attends as
the host would have done."""

Pause = Callable[[], AbstractContextManager[Any]]
"""Makes a context in which nothing is recorded."""

SWITCH = "disable_comfy_compiler"
"""The host's command line option, which it reads in every forward."""


def host_pause() -> Pause | None:
    """How the host pauses its compiler; None where it has no compiler, or none that can be paused."""
    return getattr(sys.modules.get("comfy.model_prefetch"), "pause_malloc_graph", None)


def outside_records(attend: Attend) -> Attend:
    """`attend` with the host's compiler paused; the same function where there is none to pause."""
    pause = host_pause()
    if pause is None:
        return attend

    def attended(call: AttentionCall, backend: Backend) -> torch.Tensor | None:
        with ExitStack() as paused:
            paused.enter_context(pause())

            def handed_on(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
                output = backend(query, key, value)
                # The host does not count its pauses: a backend that paused too has ended ours.
                paused.close()
                paused.enter_context(pause())
                return output

            return attend(call, handed_on)

    return attended


class CompilerOff(CountedRegion):
    """A context in which the host's compiler is off, if it has one that cannot be paused.

    The switch is one for the process: the first forward in sets it, and the last one out puts back what was before.
    """

    def __init__(self, switches: Any):
        """switches: the host's command line options."""
        super().__init__()
        self._switches = switches
        self._before: bool | None = None

    def begin(self) -> None:
        if host_pause() is None and hasattr(self._switches, SWITCH):
            self._before = getattr(self._switches, SWITCH)
            setattr(self._switches, SWITCH, True)

    def end(self) -> None:
        if self._before is not None:
            setattr(self._switches, SWITCH, self._before)
            self._before = None
