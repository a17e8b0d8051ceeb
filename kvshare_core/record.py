"""What a sampling run found out about its subject, for looking at afterwards."""

import threading
from dataclasses import dataclass

import torch

from .timeline import Timeline


@dataclass(frozen=True)
class RecordedMasks:
    """`heat` (normalised subject map) and `mask`, both float [batch, latent frames, h, w] in 0..1 on the token grid."""

    timeline: Timeline
    heat: torch.Tensor
    mask: torch.Tensor


class KVShareRecord:
    """A letter box between a sampling run and the nodes behind it.

    The node that patches a model makes one and hands it out; each run of that model puts its result in when it ends.
    It is the only value of the pack that changes after it was made, because maps exist only after sampling.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._masks: RecordedMasks | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> "KVShareRecord":
        return self

    def put(self, masks: RecordedMasks) -> None:
        """Replaces what an earlier run put in."""
        with self._lock:
            self._masks = masks

    def latest(self) -> RecordedMasks | None:
        """The result of the newest finished run that found masks, or None."""
        with self._lock:
            return self._masks
