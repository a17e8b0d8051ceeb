"""What one sampling run keeps in the host's transformer options, under one key."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ...devices import upload
from ...session.sampling_run import SamplingRun
from .. import KEY
from ..conditioning.carried_image import ImagesGiven, KnownFrames
from ..conditioning.controls import Controls
from .elsewhere import ElsewhereRun
from .held_frames import HeldFrames
from .progress import RunProgress


@dataclass
class KnownSigmas:
    """The sigmas of a run as numbers, read from the device once."""

    tensor: torch.Tensor | None = None
    numbers: tuple[float, ...] = ()

    def of(self, sigmas: torch.Tensor) -> tuple[float, ...]:
        """`sigmas`, which the host passes to every call of the model, as numbers."""
        if self.tensor is not sigmas:
            self.tensor, self.numbers = sigmas, tuple(sigmas.tolist())
        return self.numbers


@dataclass
class RunState:
    """Exists from the start of one `sample()` to its end."""

    run: SamplingRun
    progress: RunProgress
    held: HeldFrames | None
    """Frames that the run's noise mask holds, if any."""
    known: KnownFrames | None = None
    """Frames that are known before the stage begins; None where none are."""
    bank_bytes: int = 0
    """Bytes on the device that the host should keep free for the bank."""
    call_bytes: int = 0
    """The same for one shared attention call."""
    elsewhere: ElsewhereRun | None = None
    """What other processes do of the run; None where this one evaluates its segments."""
    sigmas: KnownSigmas = field(default_factory=KnownSigmas)
    given: ImagesGiven = field(default_factory=ImagesGiven)
    controls: Controls = field(default_factory=Controls)
    """The ControlNets of segments."""

    def known_like(self, latent: torch.Tensor) -> KnownFrames:
        """The frames that are known of a video like `latent`, on its device: brought there once in a stage."""
        if self.known is None:
            return KnownFrames.none_of(latent)
        if self.known.latent.device != latent.device:
            self.known = replace(self.known, latent=upload(self.known.latent, latent.device))
        return self.known


def run_state(transformer_options: Mapping[str, Any]) -> RunState | None:
    """The run that a call of the model belongs to; None outside of one."""
    return transformer_options.get(KEY)
