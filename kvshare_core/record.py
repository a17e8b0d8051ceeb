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


@dataclass(frozen=True)
class RecordedPoint:
    """What a chosen point looks at: float `heat` [batch, latent frames, h, w] on the token grid, 1 where it looks
    most; 0 in latent frames that its segments do not reach."""

    timeline: Timeline
    heat: torch.Tensor


class KVShareRecord:
    """A letter box between a sampling run and the nodes behind it.

    The node that patches a model makes one and hands it out; each run of that model puts its result in when it ends.
    It is the only value of the pack that changes after it was made, because maps exist only after sampling.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._masks: RecordedMasks | None = None
        self._point: RecordedPoint | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> "KVShareRecord":
        return self

    def put(self, masks: RecordedMasks | None, point: RecordedPoint | None) -> None:
        """Replaces what an earlier run put in; None leaves it as it is."""
        with self._lock:
            self._masks = masks or self._masks
            self._point = point or self._point

    def latest(self) -> RecordedMasks | None:
        """The masks of the newest finished run that found any, or None."""
        with self._lock:
            return self._masks

    def latest_point(self) -> RecordedPoint | None:
        """What the chosen point looked at in the newest finished run that had one, or None."""
        with self._lock:
            return self._point
