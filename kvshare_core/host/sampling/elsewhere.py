"""What a run asks of other processes that evaluate its segments in place of this one (host/workers)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ...plan.schedule import Evaluation
from ...session.sampling_run import SamplingRun
from .held_frames import HeldFrames
from .segment_call import Prediction, SegmentCall


@dataclass(frozen=True)
class StartedRun:
    """A run of this process, whose sampler, guidance and blending stay here."""

    run: SamplingRun
    held: HeldFrames | None
    """Frames that the run's noise mask holds, if any."""
    lead: int
    """Latent frames of a reference picture in front of the video."""
    patcher: Any
    """The host's model patcher."""
    model_options: dict[str, Any]
    """Those that the run samples with."""
    bank_bytes: int
    """Bytes on the device that the host should keep free for the bank."""
    call_bytes: int
    """The same for one shared attention call."""


class ElsewhereRun(Protocol):
    """The part of one sampling run that other processes do."""

    def predictions(self, call: SegmentCall, needed: Sequence[Evaluation]) -> Iterator[tuple[Evaluation, Prediction]]:
        """The evaluations `needed` of a model call with what is predicted, in order. Raises ValueError, naming the node
        and the fix, for what cannot be evaluated elsewhere; what the host raises on an interrupt."""
        ...

    def next_stage(self) -> None:
        """Ends a stage of the run."""
        ...

    def close(self) -> None:
        """Ends the run, however it went; frees what it holds elsewhere."""
        ...


class Elsewhere(Protocol):
    """Other processes, as a frozen value on a MODEL."""

    def begin(self, started: StartedRun) -> ElsewhereRun:
        """Begins a run there. Raises ValueError, naming the node and the fix, for one that cannot be done there."""
        ...
