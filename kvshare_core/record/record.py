"""What a sampling run found out about its subjects and about a chosen point, for the nodes that show or reuse it."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch

from ..devices import upload
from ..prompt_words import SubjectTokens
from ..timeline.timeline import Timeline
from .kept_maps import KeptMap
from .look_point import LookPoint

ONLY_SUBJECT = "subject"
"""Name of a film's only subject where nobody named it. Files of earlier versions have it for every subject that the
script does not name."""

KEPT_RUNS = 8
"""Runs of one MODEL whose findings are kept."""


@dataclass(frozen=True)
class Examples:
    """Tokens that others are compared with: boolean [subjects, rows, tokens]."""

    subject: torch.Tensor
    """The tokens that most surely belong to each subject."""
    rest: torch.Tensor
    """The tokens that surely do not belong to it."""

    def to(self, device: torch.device) -> "Examples":
        """The same on `device`."""
        return Examples(upload(self.subject, device), upload(self.rest, device))


@dataclass(frozen=True)
class SegmentMasks:
    """The masks that a run used last, from which another run of the same film can start. All tensors are on the CPU."""

    names: tuple[str, ...]
    """The subjects."""
    masks: tuple[torch.Tensor | None, ...]
    """For each segment bool [subjects, batch, tokens], or None where no mask was found."""
    examples: tuple[Examples | None, ...] = ()
    """For each segment the tokens that others are compared with, or None; empty where no segment has any."""
    effects: tuple[torch.Tensor | None, ...] = ()
    """For each segment how strongly the words of its subjects act at each token, float [subjects in the segment, batch,
    tokens], or None; empty where no segment has any."""


@dataclass(frozen=True)
class RecordedSubject:
    """One subject over the whole timeline, on the token grid."""

    name: str
    heat: torch.Tensor
    """The normalised map, float [batch, latent frames, h, w] in 0..1."""
    mask: torch.Tensor
    """The mask, float [batch, latent frames, h, w] in 0..1."""
    tokens: tuple[SubjectTokens | None, ...] = ()
    """For each beat the text tokens that name the subject, None where none do; empty where no words define it."""


@dataclass(frozen=True)
class RecordedStep:
    """The masks that sampler step `step`, counted from 0, found: bool [subjects, batch, latent frames, h, w]."""

    step: int
    masks: torch.Tensor


@dataclass(frozen=True)
class RecordedMasks:
    """The masks of one run over the whole timeline, on the token grid."""

    timeline: Timeline
    heat: torch.Tensor
    """The maximum over the subjects' heat, float [batch, latent frames, h, w] in 0..1."""
    mask: torch.Tensor
    """The union of the subjects' masks, float [batch, latent frames, h, w] in 0..1."""
    subjects: tuple[RecordedSubject, ...] = ()
    """Each subject by itself."""
    segments: SegmentMasks | None = None
    """The masks of each segment as attention used them."""
    course: tuple[RecordedStep, ...] = ()
    """The masks of some steps of the run, in order."""

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
    """How much a chosen point attends to the words of one text in one segment."""

    segment: int
    beat: int
    """The beat whose text it is."""
    weight: float
    """The weight of the text in the segment."""
    words: tuple[str, ...]
    looks: torch.Tensor
    """Attention of the point to each word, float [batch, words]: its share of the whole attention in joint attention,
    of that to words in cross-attention."""
    between: torch.Tensor | None = None
    """Attention of each word (a row) to each word, float [batch, words, words], as a share of its attention to words;
    None where words do not attend to each other."""


@dataclass(frozen=True)
class RecordedPoint:
    """What a chosen point of the video attends to."""

    timeline: Timeline
    look: LookPoint
    """The point."""
    heat: torch.Tensor
    """Attention to each video token, float [batch, latent frames, h, w] on the token grid, 1 at the maximum; 0 in
    latent frames outside the point's segments."""
    frames: torch.Tensor
    """The share of each latent frame in the point's attention to video, float [batch, latent frames], summing to 1."""
    texts: tuple[RecordedText, ...] = ()
    """Attention to words, where the words are known."""

    @property
    def own_heat(self) -> torch.Tensor:
        """`heat` within the latent frame of the point, scaled to a maximum of 1; 0 in all other frames."""
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


@dataclass(frozen=True)
class Findings:
    """What one run found out."""

    masks: RecordedMasks | None = None
    point: RecordedPoint | None = None
    named: bool = False
    """Whether the run had subjects to follow."""
    notices: tuple[str, ...] = ()
    """What the run had to say: where it did not do what was planned, and why."""
    maps: tuple[KeptMap, ...] = ()
    """The attention maps that the configuration asked for; of the newest run only, because they are large."""


@dataclass(frozen=True)
class RunOrigin:
    """What tells a run from others of the same MODEL, as far as it is known."""

    latent: str = ""
    """Of the latent that it made, `latent_digest`."""
    node: str = ""
    """The signature of the node that sampled, with everything before it."""


def latent_digest(latent: torch.Tensor) -> str:
    """The same for equal numbers, wherever they are; in half precision, in which hosts may pass latents on."""
    numbers = latent.detach().to("cpu", torch.float16).contiguous()
    return hashlib.blake2b(numbers.numpy().data, digest_size=16).hexdigest()


class KVShareRecord:
    """A container through which sampling runs hand their results to the nodes that come after them.

    The node that patches a model creates it as an output; each run of that model adds its findings when it ends, and
    the host may go on with the latent or the pictures of any of these runs, so who reads says which one it means.
    Unlike the frozen values that other sockets carry it is mutable, because maps exist only after sampling. It is safe
    to use from several threads, and a deep copy of it is the same object.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: OrderedDict[RunOrigin, Findings] = OrderedDict()

    def __deepcopy__(self, memo: dict[int, object]) -> "KVShareRecord":
        return self

    def put(
        self,
        masks: RecordedMasks | None,
        point: RecordedPoint | None,
        named: bool = False,
        origin: RunOrigin | None = None,
        notices: Sequence[str] = (),
        maps: Sequence[KeptMap] = (),
    ) -> None:
        """Adds what a run found, which may be nothing, and what it had to say; the last KEPT_RUNS runs are kept."""
        with self._lock:
            origin = origin or RunOrigin()
            self._runs.pop(origin, None)
            for earlier, found in self._runs.items():
                self._runs[earlier] = replace(found, maps=())
            self._runs[origin] = Findings(masks, point, named, tuple(notices), tuple(maps))
            while len(self._runs) > KEPT_RUNS:
                self._runs.popitem(last=False)

    def findings(self, latent: torch.Tensor | None = None, nodes: Iterable[str] = ()) -> Findings:
        """What the run found that made `latent`; otherwise the run of the first of `nodes`, signatures, that had one;
        otherwise the newest run. Empty before any run."""
        with self._lock:
            runs = list(reversed(self._runs.items()))
        if not runs:
            return Findings()
        digest = "" if latent is None or len(runs) == 1 else latent_digest(latent)
        made = (found for origin, found in runs if digest and origin.latent == digest)
        ran = (found for node in nodes for origin, found in runs if origin.node == node)
        return next(chain(made, ran), runs[0][1])

    def latest(self) -> RecordedMasks | None:
        """The masks of the newest finished run; None when it found none."""
        return self.findings().masks

    def latest_point(self) -> RecordedPoint | None:
        """What the chosen point attends to in the newest finished run; None when it had none."""
        return self.findings().point

    def notices(self) -> tuple[str, ...]:
        """What the newest finished run had to say: where it did not do what was planned, and why."""
        return self.findings().notices
