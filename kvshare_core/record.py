"""What a sampling run found out about its subject, for looking at afterwards."""

import threading
from collections.abc import Mapping
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


def over_timeline(timeline: Timeline, found: Mapping[int, torch.Tensor]) -> torch.Tensor:
    """Values of segments, by their index [..., latent frames of a segment, h, w], as those of the whole video: the mean
    of the segments that show a frame, 0 where there is none."""
    first = next(iter(found.values()))
    total = first.new_zeros(*first.shape[:-3], timeline.latent_frames, *first.shape[-2:])
    count = torch.zeros(timeline.latent_frames)
    for index, values in found.items():
        segment = timeline.segments[index]
        frames = timeline.frames_of(segment)
        for place in range(segment.shown_start - segment.start, segment.shown_stop - segment.start):
            total[..., frames[place], :, :] += values[..., place, :, :]
            count[frames[place]] += 1
    return total / count.clamp(min=1)[:, None, None]


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
