"""The frozen plan that a sampling run works from: its subjects, and which segment attends to which others."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter

import torch

from ..config import KVShareConfig
from ..prompt_words import SubjectTokens
from ..record.look_point import LookPoint
from ..record.record import ONLY_SUBJECT, SegmentMasks
from ..script.film import Source
from ..timeline.timeline import Segment, Timeline
from .schedule import Role, strength_at


@dataclass(frozen=True)
class CastMember:
    """A subject of the film. Members without tokens are located by the plan's mask and appear in every segment."""

    name: str
    """What identifies it over the whole film and from one run to the next."""
    tokens: tuple[SubjectTokens | None, ...] = ()
    """For each beat the text tokens that name it, None in beats that do not show it; empty where no words do."""
    sources: tuple[tuple[Source, ...] | None, ...] = ()
    """For each beat whose keys it attends to, None for those of the beat; empty where it has no sources of its own."""
    target_tokens: tuple[SubjectTokens | None, ...] = ()
    """`tokens` in segments that are the target of one of the paper's pairs; empty where they are the same."""

    def tokens_in(self, beat: int, role: Role) -> SubjectTokens | None:
        """The text tokens that name it in the prompt of `beat`, in a segment that is evaluated as `role`."""
        tokens = self.target_tokens if role == "target" and self.target_tokens else self.tokens
        return tokens[beat] if tokens else None

    def sources_in(self, beat: int) -> tuple[Source, ...] | None:
        """Whose keys it attends to in `beat`; None for those of the beat."""
        return self.sources[beat] if self.sources else None

    def is_shown_by(self, beats: tuple[int, ...]) -> bool:
        """Whether the prompt of one of `beats` shows it."""
        return not self.tokens or any(self.tokens[beat] is not None for beat in beats)


@dataclass(frozen=True)
class PartSources:
    """The segments that each part of one segment attends to, ascending."""

    subjects: tuple[tuple[int, ...], ...]
    """For each subject where it attends to itself; where no mask splits the tokens, one entry for all of them."""
    background: tuple[int, ...]
    """Where the background attends to the background."""

    @property
    def sharing(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """The subjects, by their number, that attend to any segment, each with these."""
        return filter(itemgetter(1), enumerate(self.subjects))


@dataclass(frozen=True)
class ExportedParts:
    """The parts of one segment that later ones attend to."""

    subjects: frozenset[int]
    """Subjects, by their number in the cast."""
    background: bool


@dataclass(frozen=True)
class SharePlan:
    """Everything about a film and its sharing that is known before a model is.

    Raises ValueError, naming the prompt where there is one, for several subjects or for sources of a beat's own in the
    paper's method, for a mask of anything but one subject, and for known masks of other subjects or segments.
    """

    timeline: Timeline
    config: KVShareConfig
    cast: tuple[CastMember, ...] = ()
    """The subjects, in their order. Without any, everything is shared."""
    beat_tokens: tuple[tuple[int, ...], ...] = ()
    """For each beat all real text tokens; empty when they are unknown."""
    mask: torch.Tensor | None = None
    """A user's mask [pictures, h, w] in 0..1 of the only subject, or None."""
    look: LookPoint | None = None
    """A point whose attention is recorded, or None."""
    known: SegmentMasks | None = None
    """Masks that the run starts with, or None."""
    weights: tuple[Mapping[int, float], ...] = ()
    """For each beat the weights of words of its prompt, by their text tokens; empty when no beat has any."""

    def __post_init__(self) -> None:
        if len(self.cast) > 1 and (self.config.order == "ditctrl" or self.config.masks.kind == "threshold"):
            raise ValueError(
                f"config: the paper's method follows one subject, but the script names {', '.join(self.names)}; "
                "choose order 'lockstep' and another mask_kind, or name one subject."
            )
        if self.mask is not None and len(self.cast) != 1:
            raise ValueError(f"mask: it is of one subject, but the plan has {len(self.cast)}.")
        paper = self.config.order == "ditctrl"
        for number, beat in enumerate(self.timeline.beats if paper else ()):
            own = (beat.script.sources, *(member.sources_in(number) for member in self.cast))
            if any(rule is not None for rule in own):
                raise ValueError(
                    f"prompt {number + 1}: it has sources of its own, but in order 'ditctrl' every segment attends to "
                    "the one before; take them out, or choose order 'lockstep'."
                )
        if self.known is not None and not self.fits(self.known):
            raise ValueError(
                f"known masks: they are of {len(self.known.masks)} segments with {', '.join(self.known.names)}, but "
                f"this film has {len(self.timeline.segments)} with {', '.join(self.names) or 'no subject'}."
            )

    def fits(self, known: SegmentMasks) -> bool:
        """Whether `known` masks are of these subjects and segments. The only subject of both may lack a name in one."""
        unnamed = len(known.names) == len(self.names) == 1 and ONLY_SUBJECT in (*known.names, *self.names)
        return (known.names == self.names or unnamed) and len(known.masks) == len(self.timeline.segments)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the subjects, in their order."""
        return tuple(member.name for member in self.cast)

    @property
    def guided(self) -> bool:
        """Whether subject masks split the tokens."""
        return bool(self.cast)

    @property
    def finds_subjects(self) -> bool:
        """Whether the run has to find the subjects, since no mask shows them."""
        return self.guided and self.mask is None

    @cached_property
    def may_share(self) -> bool:
        """Whether the settings let segments share, if there are any sources."""
        own = (beat.script.strength for beat in self.timeline.beats)
        strengths = (self.config.strength, self.config.end_strength, *own)
        return self.config.mode != "off" and any(strength for strength in strengths)

    @cached_property
    def shares(self) -> bool:
        """Whether anything differs from plain windows."""
        return self.config.mode != "off" and any(self.sources(segment.index) for segment in self.timeline.segments)

    def weighs(self, segment: Segment) -> bool:
        """Whether words of a text that a segment attends to are weighed."""
        if not self.weights:
            return False
        beats = {segment.beat, segment.next_beat, *(text.beat for text in segment.texts)}
        return any(self.weights[beat] for beat in beats if beat is not None)

    def tokens(self, beat: int, role: Role) -> tuple[SubjectTokens | None, ...]:
        """Where the words of each subject stand in the prompt of `beat`; None for a subject that it does not show."""
        return tuple(member.tokens_in(beat, role) for member in self.cast)

    def naming(self, subject: int) -> tuple[SubjectTokens | None, ...]:
        """The tokens of a subject in every beat, None in beats that do not name it; empty where a mask shows it."""
        return self.cast[subject].tokens

    def shown(self, segment: Segment) -> tuple[int, ...]:
        """The subjects, by their number, that the texts of a segment name; (0,) where a plan has none."""
        if not self.cast:
            return (0,)
        first, *others = (beat for beat, _ in text_weights(segment))
        if not others:
            return self._members_shown[first]
        return tuple(sorted({*self._members_shown[first], *self._members_shown[others[0]]}))

    def strength(self, index: int, step: int, steps: int) -> float:
        """Strength of the source keys in segment `index` in sampler step `step` of `steps`."""
        return self.scaled_strength(index, strength_at(self.config, step, steps))

    def scaled_strength(self, index: int, usual: float) -> float:
        """Strength of the source keys in segment `index` when that of the configuration is `usual`: a strength of the
        beat's own follows the configuration's course over the steps in proportion."""
        own = self.timeline.beats[self.timeline.segments[index].beat].script.strength
        if own is None:
            return usual
        full = self.config.strength or self.config.end_strength
        return own * (usual / full) if full else own

    def part_sources(self, index: int) -> PartSources:
        """The segments that each part of segment `index` attends to."""
        return self._part_sources[index]

    def sources(self, index: int) -> tuple[int, ...]:
        """Segments whose keys segment `index` attends to, in order."""
        return self._sources[index]

    def is_attended_from(self, index: int, source: int) -> bool:
        """Whether segment `index` or a later one attends to the keys of segment `source`."""
        return self._last_consumers.get(source, -1) >= index

    def consumers(self, index: int) -> int:
        """How many later segments attend to segment `index`."""
        return self._consumers[index]

    def exported_parts(self, index: int) -> ExportedParts:
        """The parts of segment `index` that later ones attend to."""
        return self._exported_parts[index]

    def gap(self, source: int, target: int) -> int:
        """Latent frames by which the keys of segment `source` are moved further away from segment `target`: the largest
        gap of a cut between their beats."""
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
    def _sources(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(sorted(set(parts.background).union(*parts.subjects))) for parts in self._part_sources)

    @cached_property
    def _consumers(self) -> Counter[int]:
        return Counter(source for sources in self._sources for source in sources)

    @cached_property
    def _last_consumers(self) -> dict[int, int]:
        """For each segment that others attend to the last of these."""
        return {source: index for index, sources in enumerate(self._sources) for source in sources}

    @cached_property
    def _members_shown(self) -> tuple[tuple[int, ...], ...]:
        """For each beat the subjects, by their number, that its prompt shows."""
        shown: list[list[int]] = [[] for _ in self.timeline.beats]
        for number, member in enumerate(self.cast):
            for beat, tokens in enumerate(member.tokens or (True,) * len(shown)):
                if tokens is not None:
                    shown[beat].append(number)
        return tuple(tuple(numbers) for numbers in shown)

    @cached_property
    def _first_segments(self) -> dict[int, int]:
        """The first segment of each beat."""
        return {segment.beat: segment.index for segment in reversed(self.timeline.segments)}

    @cached_property
    def _part_sources(self) -> tuple[PartSources, ...]:
        return tuple(self._find_part_sources(segment) for segment in self.timeline.segments)

    @cached_property
    def _exported_parts(self) -> tuple[ExportedParts, ...]:
        subjects: dict[int, set[int]] = {}
        background: set[int] = set()
        for parts in self._part_sources:
            background.update(parts.background)
            for number, sources in parts.sharing:
                for source in sources:
                    subjects.setdefault(source, set()).add(number)
        indices = (segment.index for segment in self.timeline.segments)
        return tuple(ExportedParts(frozenset(subjects.get(index, ())), index in background) for index in indices)

    def _find_part_sources(self, segment: Segment) -> PartSources:
        beat, config = self.timeline.beats[segment.beat].script, self.config
        strengths = self.config.strength, self.config.end_strength or 0.0
        if (max(strengths) if beat.strength is None else beat.strength) == 0:
            return PartSources(((),) * max(1, len(self.cast)), ())
        if beat.sources is not None:
            usual = self._earlier(beat.sources, segment.index)
        elif config.is_edit:
            usual = self._edited_by(segment)
        else:
            named: tuple[Source, ...] = (
                ("first", "previous") if config.sources == "first and previous" else (config.sources,)
            )
            usual = self._earlier(named, segment.index)
        subjects: list[tuple[int, ...]] = [()] * max(1, len(self.cast))
        for number in self.shown(segment) if config.share_subject else ():
            rule = self.cast[number].sources_in(segment.beat) if self.cast else None
            found = usual if rule is None else self._earlier(rule, segment.index)
            subjects[number] = tuple(source for source in found if self._shows(source, number))
        background = self.guided and config.share_background
        return PartSources(tuple(subjects), usual if background else ())

    def _edited_by(self, segment: Segment) -> tuple[int, ...]:
        """The segment of the first beat that an edit's is of: the one that begins nearest to the same time of its
        beat; none for the first beat's own."""
        first, beat = self.timeline.beats[0], self.timeline.beats[segment.beat]
        if segment.beat == 0:
            return ()
        originals = [one for one in self.timeline.segments if one.beat == 0 and one.next_beat is None]
        time = segment.start - beat.start
        return (min(originals, key=lambda one: abs(one.start - first.start - time)).index,)

    def _shows(self, index: int, subject: int) -> bool:
        """Whether segment `index` shows a subject; a plan without any has one part, which all show."""
        beats = (beat for beat, _ in text_weights(self.timeline.segments[index]))
        return not self.cast or self.cast[subject].is_shown_by(tuple(beats))

    def _earlier(self, rule: tuple[Source, ...], index: int) -> tuple[int, ...]:
        """The segments before `index` that a rule names."""
        found = set[int]()
        for source in rule:
            if source == "first":
                found.add(0)
            elif source == "previous":
                found.add(index - 1)
            else:
                found.add(self._first_segments[source])
        return tuple(sorted(place for place in found if 0 <= place < index))


def text_weights(segment: Segment) -> tuple[tuple[int, float], ...]:
    """The beats whose words a segment shows, each with the weight of its text."""
    if segment.next_beat is None or segment.mix == 0:
        return ((segment.beat, 1.0),)
    return ((segment.beat, 1 - segment.mix), (segment.next_beat, segment.mix))
