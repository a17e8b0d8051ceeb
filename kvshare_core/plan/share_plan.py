"""What a sampling run works from, and one forward of it. Frozen plan, short-lived forward."""

from dataclasses import dataclass
from functools import cached_property

import torch

from ..config import KVShareConfig
from ..prompt_words import SubjectTokens
from ..record.look_point import LookPoint
from ..record.record import SegmentMasks
from ..script.film import Source
from ..timeline.timeline import Segment, Timeline
from .schedule import Role, strength_at

ONLY_SUBJECT = "subject"
"""Name of a subject that the script does not name."""


@dataclass(frozen=True)
class CastMember:
    """A subject that the script names.

    tokens: for each beat where its words stand in the prompt, None in beats that do not show it; empty where
    `SharePlan.subjects` or `SharePlan.mask` says what it is. sources: for each beat whose keys it sees there, None for
    those of the beat.
    """

    name: str
    tokens: tuple[SubjectTokens | None, ...]
    sources: tuple[tuple[Source, ...] | None, ...]


@dataclass(frozen=True)
class PartSources:
    """Segments, ascending: those in which each subject (or all tokens, where nothing splits them) sees itself, and
    those whose background the background sees."""

    subjects: tuple[tuple[int, ...], ...]
    background: tuple[int, ...]


@dataclass(frozen=True)
class ExportedParts:
    """Which parts of a segment later ones see: subjects, by their number, and whether the background."""

    subjects: frozenset[int]
    background: bool


@dataclass(frozen=True)
class SharePlan:
    """Everything frozen that a session works from.

    subjects: for each beat the tokens of the only subject, empty when it is not given that way; target_subjects: the
    same where a segment is the target of the paper's pairs, empty when it makes no difference.
    beat_tokens: for each beat all real text tokens; empty when they are unknown.
    mask: a user's mask [pictures, h, w] in 0..1 of the only subject, or None. look: a point whose attention is
    recorded, or None. cast: the subjects that the script names; known: masks to start with, or None.

    Raises ValueError, naming the prompt where there is one, for several subjects or sources of a beat in the paper's
    method, and for known masks of other subjects or segments.
    """

    timeline: Timeline
    config: KVShareConfig
    subjects: tuple[SubjectTokens, ...] = ()
    beat_tokens: tuple[tuple[int, ...], ...] = ()
    mask: torch.Tensor | None = None
    target_subjects: tuple[SubjectTokens, ...] = ()
    look: LookPoint | None = None
    cast: tuple[CastMember, ...] = ()
    known: SegmentMasks | None = None

    def __post_init__(self) -> None:
        if len(self.names) > 1 and (self.config.order == "ditctrl" or self.config.masks.kind == "threshold"):
            raise ValueError(
                f"config: the paper's method follows one subject, but the script names {', '.join(self.names)}; "
                "choose order 'lockstep' and another mask_kind, or name one subject."
            )
        for number, beat in enumerate(self.timeline.beats):
            own = (beat.script.sources, *(member.sources[number] for member in self.cast))
            if self.config.order == "ditctrl" and any(rule is not None for rule in own):
                raise ValueError(
                    f"prompt {number + 1}: it has sources of its own, but in order 'ditctrl' every segment sees the "
                    "one before; take them out, or choose order 'lockstep'."
                )
        if self.known is None:
            return
        if self.known.names != self.names or len(self.known.masks) != len(self.timeline.segments):
            raise ValueError(
                f"known masks: they are of {len(self.known.masks)} segments with {', '.join(self.known.names)}, but "
                f"this film has {len(self.timeline.segments)} with {', '.join(self.names) or 'no subject'}."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The subjects, in their order."""
        if self.cast:
            return tuple(member.name for member in self.cast)
        return (ONLY_SUBJECT,) if self.guided else ()

    @property
    def guided(self) -> bool:
        """Whether subject masks split the tokens."""
        return self.mask is not None or bool(self.subjects or self.cast)

    @property
    def finds_subjects(self) -> bool:
        """Whether subjects have to be found in the model's attention."""
        return bool(self.subjects or self.cast) and self.mask is None

    @property
    def shares(self) -> bool:
        """Whether anything differs from plain windows."""
        return self.config.mode != "off" and any(self.sources(segment.index) for segment in self.timeline.segments)

    def tokens(self, beat: int, role: Role) -> tuple[SubjectTokens | None, ...]:
        """Where the words of each subject stand in the prompt of `beat`; None for a subject that it does not show."""
        if self.cast and self.cast[0].tokens:
            return tuple(member.tokens[beat] for member in self.cast)
        return ((self.target_subjects if role == "target" and self.target_subjects else self.subjects)[beat],)

    def naming(self, subject: int) -> tuple[SubjectTokens | None, ...]:
        """The tokens of a subject in every beat, None in beats that do not name it; empty where no words say what it
        is."""
        if not self.finds_subjects or not (self.subjects or self.cast[0].tokens):
            return ()
        return tuple(self.tokens(beat, "both")[subject] for beat in range(len(self.timeline.beats)))

    def shown(self, segment: Segment) -> tuple[int, ...]:
        """The subjects, by their number, that the texts of a segment name; all, where no words say so."""
        beats = tuple(beat for beat, _ in text_weights(segment))
        return tuple(
            number
            for number, member in enumerate(self.cast)
            if not member.tokens or any(member.tokens[beat] is not None for beat in beats)
        ) or ((0,) if not self.cast else ())

    def strength(self, index: int, step: int, steps: int) -> float:
        """Strength of the source keys in segment `index` in sampler step `step` of `steps`: the configuration's, whose
        course a strength of the beat's own follows in proportion."""
        usual = strength_at(self.config, step, steps)
        said = self.timeline.beats[self.timeline.segments[index].beat].script.strength
        if said is None:
            return usual
        full = self.config.strength or self.config.end_strength
        return said * (usual / full) if full else said

    def part_sources(self, index: int) -> PartSources:
        """What segment `index` attends to."""
        return self._part_sources[index]

    def sources(self, index: int) -> tuple[int, ...]:
        """Segments whose keys segment `index` attends to, in order."""
        part_sources = self._part_sources[index]
        return tuple(
            sorted({*part_sources.background, *(source for subject in part_sources.subjects for source in subject)})
        )

    def consumers(self, index: int) -> int:
        """How many later segments attend to segment `index`."""
        return sum(index in self.sources(later) for later in range(index + 1, len(self.timeline.segments)))

    def exported_parts(self, index: int) -> ExportedParts:
        """What later segments see of segment `index`."""
        return self._exported_parts[index]

    def gap(self, source: int, target: int) -> int:
        """Latent frames by which the keys of segment `source` seem further away from segment `target`: the largest gap
        of a cut between their beats."""
        first, last = (self.timeline.segments[index].beat for index in (source, target))
        return max((beat.gap for beat in self.timeline.beats[first + 1 : last + 1]), default=0)

    @property
    def gapped_beat(self) -> int | None:
        """A beat whose cut moves keys that are shared across it, or None."""
        if self.config.mode == "off":
            return None
        for segment in self.timeline.segments:
            for source in self.sources(segment.index):
                first = self.timeline.segments[source].beat
                for beat in range(first + 1, segment.beat + 1):
                    if self.timeline.beats[beat].gap > 0:
                        return beat
        return None

    @cached_property
    def _part_sources(self) -> tuple[PartSources, ...]:
        return tuple(self._find_part_sources(segment) for segment in self.timeline.segments)

    @cached_property
    def _exported_parts(self) -> tuple[ExportedParts, ...]:
        return tuple(
            ExportedParts(
                frozenset(
                    number
                    for part_sources in self._part_sources
                    for number, sources in enumerate(part_sources.subjects)
                    if segment.index in sources
                ),
                any(segment.index in part_sources.background for part_sources in self._part_sources),
            )
            for segment in self.timeline.segments
        )

    def _find_part_sources(self, segment: Segment) -> PartSources:
        count = max(1, len(self.names))
        said = self.timeline.beats[segment.beat].script
        strengths = self.config.strength, self.config.end_strength or 0.0
        if (max(strengths) if said.strength is None else said.strength) == 0:
            return PartSources(((),) * count, ())
        usual: tuple[Source, ...] = (
            ("first", "previous") if self.config.sources == "first and previous" else (self.config.sources,)
        )
        usual = usual if said.sources is None else said.sources
        subjects: list[tuple[int, ...]] = []
        for number in range(count):
            own = self.cast[number].sources[segment.beat] if self.cast else None
            found = self._earlier(usual if own is None else own, segment.index)
            showing = [source for source in found if number in self.shown(self.timeline.segments[source])]
            subjects.append(tuple(showing) if number in self.shown(segment) else ())
        background = self.guided and self.config.share_background
        return PartSources(tuple(subjects), self._earlier(usual, segment.index) if background else ())

    def _earlier(self, rule: tuple[Source, ...], index: int) -> tuple[int, ...]:
        """The segments before `index` that a rule names."""
        found = set[int]()
        for source in rule:
            if source == "first":
                found.add(0)
            elif source == "previous":
                found.add(index - 1)
            else:
                found.add(next(segment.index for segment in self.timeline.segments if segment.beat == source))
        return tuple(sorted(place for place in found if 0 <= place < index))


def text_weights(segment: Segment) -> tuple[tuple[int, float], ...]:
    """The beats whose words a segment shows, each with the weight of its text."""
    if segment.next_beat is None or segment.mix == 0:
        return ((segment.beat, 1.0),)
    return ((segment.beat, 1 - segment.mix), (segment.next_beat, segment.mix))
