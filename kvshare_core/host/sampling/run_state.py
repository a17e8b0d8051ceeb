"""What one sampling run keeps in the host's transformer options, under one key."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...session.sampling_run import SamplingRun
from .. import KEY
from ..conditioning.carried_image import KnownFrames
from .eager import EagerRegion
from .held_frames import HeldFrames
from .progress import RunProgress


@dataclass
class RunState:
    """Exists from the start of one `sample()` to its end."""

    run: SamplingRun
    progress: RunProgress
    eager: EagerRegion
    held: HeldFrames | None
    """Frames that the run's noise mask holds, if any."""
    known: KnownFrames | None = None
    """Frames that are known before the stage begins; None where none are."""
    bank_bytes: int = 0
    """Bytes on the device that the host should keep free for the bank."""
    call_bytes: int = 0
    """The same for one shared attention call."""


def run_state(transformer_options: Mapping[str, Any]) -> RunState | None:
    """The run that a call of the model belongs to; None outside of one."""
    return transformer_options.get(KEY)
