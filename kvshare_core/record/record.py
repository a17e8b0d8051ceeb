"""What a sampling run found out about its subject, for looking at afterwards."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from ..devices import upload
from ..prompt_words import SubjectTokens
from ..timeline.timeline import Timeline
from .look_point import LookPoint

ONLY_SUBJECT = "subject"
"""Name of a film's only subject where nobody named it. Files of earlier versions have it for every subject that the
script does not name."""


@dataclass(frozen=True)
class Examples:
    """Which tokens show each subject and which surely do not: boolean [subjects, rows, tokens]."""

    subject: torch.Tensor
    rest: torch.Tensor

    def to(self, device: torch.device) -> "Examples":
        """The same on `device`."""
        return Examples(upload(self.subject, device), upload(self.rest, device))


@dataclass(frozen=True)
class SegmentMasks:
    """The subjects' tokens as a run used them last: what another run of the same film goes on with.

    names: the subjects; masks: for each segment bool [subjects, batch, tokens] on the CPU, None where none was found;
    examples: for each segment what its tokens are compared with, effects: where the words act, float [shown subjects,
    batch, tokens]; both on the CPU, and None or empty where they are not.
    """

    names: tuple[str, ...]
    masks: tuple[torch.Tensor | None, ...]
    examples: tuple[Examples | None, ...] = ()
    effects: tuple[torch.Tensor | None, ...] = ()


@dataclass(frozen=True)
class RecordedSubject:
    """One subject's `heat` (normalised map) and `mask`, both float [batch, latent frames, h, w] in 0..1 on the token
    grid. tokens: for each beat those that name it, None in beats that do not; empty where no words said what it is."""

    name: str
    heat: torch.Tensor
    mask: torch.Tensor
    tokens: tuple[SubjectTokens | None, ...] = ()


@dataclass(frozen=True)
class RecordedStep:
    """The masks that sampler step `step`, counted from 0, found: bool [subjects, batch, latent frames, h, w]."""

    step: int
    masks: torch.Tensor


@dataclass(frozen=True)
class RecordedMasks:
    """`heat` and `mask` of all subjects together, as those of a RecordedSubject; subjects: each by itself; segments:
    the masks as they were used; course: those of some steps on the way, in their order."""

    timeline: Timeline
    heat: torch.Tensor
    mask: torch.Tensor
    subjects: tuple[RecordedSubject, ...] = ()
    segments: SegmentMasks | None = None
    course: tuple[RecordedStep, ...] = ()

    def of(self, name: str) -> "RecordedMasks":
        """The same with `heat` and `mask` of one subject; ONLY_SUBJECT also names an only subject of another name.
        Raises ValueError naming the subjects there are."""
        for number, subject in enumerate(self.subjects):
            if subject.name == name or (name == ONLY_SUBJECT and len(self.subjects) == 1):
                course = tuple(replace(one, masks=one.masks[number : number + 1]) for one in self.course)
                return replace(self, heat=subject.heat, mask=subject.mask, course=course)
        known = ", ".join(subject.name for subject in self.subjects)
        raise ValueError(f"subject: the run followed no '{name}', but {known or 'nothing that has a name'}.")


@dataclass(frozen=True)
class RecordedText:
    """What a chosen point saw of one text in segment `segment`: that of `beat`, whose weight there is `weight`.

    looks: float [batch, words], how much the point looks at each word: of all it looks at in joint attention, of the
    words alone in cross-attention. between: float [batch, words, words], how much each word (a row) looks at each, of
    what it looks at words; None where words do not look at each other.
    """

    segment: int
    beat: int
    weight: float
    words: tuple[str, ...]
    looks: torch.Tensor
    between: torch.Tensor | None = None


@dataclass(frozen=True)
class RecordedPoint:
    """What the point `look` looks at: float `heat` [batch, latent frames, h, w] on the token grid, 1 where it looks
    most; 0 in latent frames that its segments do not reach. frames: float [batch, latent frames], the part of its look
    at video that each has, summing to one; texts: the words it saw, where they are known."""

    timeline: Timeline
    look: LookPoint
    heat: torch.Tensor
    frames: torch.Tensor
    texts: tuple[RecordedText, ...] = ()

    @property
    def own_heat(self) -> torch.Tensor:
        """`heat` within the latent frame of the point alone, 1 where it looks most there; 0 in all others."""
        frame = self.timeline.frame_of(self.look.picture)
        own = torch.zeros_like(self.heat)
        own[:, frame] = self.heat[:, frame] / self.heat[:, frame].amax(dim=(1, 2), keepdim=True)
        return own


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
