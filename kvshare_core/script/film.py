"""What a user writes about a film: beats with prompts, durations, transitions and subjects. Pure Python.

The limits of a film are checked here, when the objects are made, whatever form it is written in."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ..config import MAX_STRENGTH

Unit = Literal["seconds", "frames", "latent frames"]
TransitionKind = Literal["cut", "blend", "segments", "route"]
Source = Literal["first", "previous"] | int
"""A segment whose keys are attended to: the film's first, the previous one, or the first of a beat (from 0)."""

TRANSITION_KINDS: tuple[str, ...] = get_args(TransitionKind)
LONGEST: dict[Unit, float] = {"seconds": 3600, "frames": 100_000, "latent frames": 100_000}
"""Longest duration in each unit."""
MAX_SEGMENTS = 64
"""Most segments of one transition."""
MAX_LORA_STRENGTH = 100.0
MAX_SEED_OFFSET = 2**32

BLANK = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\xad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
)
"""Spaces, line breaks, and the marks without a shape that pasted texts have at their ends (byte order marks, spaces and
joiners without a width, soft hyphens, marks of direction). No text of a film begins or ends with one."""

_LONE_SURROGATE = "[\ud800-\udfff]"


class ScriptError(ValueError):
    """A script that cannot be read or made; the message says what is wrong and what to write instead, and where, as
    soon as that is known.

    part: attribute names and places that lead from the object that could not be made to its wrong part, for example
        ("beats", 1, "sources").
    place: line and column of a written script, counted from 1, where they are known.
    """

    def __init__(self, message: str, part: tuple[str | int, ...] = (), place: tuple[int, int] | None = None) -> None:
        super().__init__(message)
        self.part = part
        self.place = place


@dataclass(frozen=True)
class Duration:
    """A length of time; `frames` are those of the decoded video, `latent frames` those of the compressed one, both
    whole numbers. Raises ScriptError unless it is longer than zero and not beyond LONGEST."""

    value: float
    unit: Unit = "seconds"

    def __post_init__(self) -> None:
        if not 0 < self.value <= LONGEST[self.unit]:
            raise ScriptError(
                f"{self.value:g} {self.unit}; a duration must be longer than zero and at most "
                f"{LONGEST[self.unit]:g} {self.unit}."
            )
        if self.unit != "seconds" and self.value != int(self.value):
            raise ScriptError(f"{self.value:g} {self.unit}; frames are whole numbers.")


@dataclass(frozen=True)
class Transition:
    """How a beat follows the one before it.

    kind: `cut` takes over at once; `blend` cross-fades over `duration`; `segments` inserts `segments` segments whose
        text is interpolated between both prompts (DiTCtrl's num_transition_blocks); `route` makes both windows share
        `duration`, over which each frame's text changes from one prompt to the other. Without a duration, the usual
        overlap of neighbouring segments.
    gap: of a cut, by how much the keys of earlier segments are moved further back in time; None for not at all.

    Raises ScriptError for an option of another kind of transition, and for more than MAX_SEGMENTS segments.
    """

    kind: TransitionKind
    duration: Duration | None = None
    segments: int = 0
    gap: Duration | None = None

    def __post_init__(self) -> None:
        if self.duration is not None and self.kind not in ("blend", "route"):
            raise ScriptError(f"a {self.kind} has no duration; only blend and route have one.", ("duration",))
        if self.gap is not None and self.kind != "cut":
            raise ScriptError(f"a {self.kind} has no gap; only a cut has one.", ("gap",))
        if self.kind != "segments" and self.segments != 0:
            raise ScriptError(f"a {self.kind} has no segments.", ("segments",))
        if self.kind == "segments" and not 1 <= self.segments <= MAX_SEGMENTS:
            raise ScriptError(f"{self.segments} segments; write 1 to {MAX_SEGMENTS}.", ("segments",))


@dataclass(frozen=True)
class Subject:
    """What should stay the same. `name` identifies it in all beats, `words` are those of a beat's prompt
    that name it; sources: whose keys it attends to in this beat, None for those of the beat or the configuration.

    Raises ScriptError when name or words are empty, the name is `none` or contains `=`, or a source is given twice.
    """

    name: str
    words: str
    sources: tuple[Source, ...] | None = None

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        _check_text("words", self.words)
        if "=" in self.name or self.name.lower() == "none":
            raise ScriptError(
                f"'{self.name}' is not a name for a subject; choose one without '=', and not 'none'.", ("name",)
            )
        _check_sources(self.sources)


@dataclass(frozen=True)
class Lora:
    """A LoRA file of the host, by name, and how strongly it acts on the video model. Raises ScriptError on an empty
    name or a strength beyond MAX_LORA_STRENGTH."""

    file: str
    strength: float = 1.0

    def __post_init__(self) -> None:
        _check_text("file", self.file)
        _check_range("strength", self.strength, -MAX_LORA_STRENGTH, MAX_LORA_STRENGTH)


@dataclass(frozen=True)
class WordWeight:
    """Words of a prompt and how often they count, 1 as usual, 0 not at all. Raises ScriptError on empty words or a
    weight out of range."""

    words: str
    weight: float

    def __post_init__(self) -> None:
        _check_text("words", self.words)
        _check_range("weight", self.weight, 0.0, MAX_STRENGTH)


@dataclass(frozen=True)
class ScriptBeat:
    """One prompt and what belongs to it. None means the default: a duration of one segment, the usual transition, the
    script's negative prompt and subjects, the configuration's sources and strength.

    Raises ScriptError on an empty prompt, numbers out of range, or a subject, source or weight that is given twice.
    """

    prompt: str
    duration: Duration | None = None
    transition: Transition | None = None
    negative: str | None = None
    subjects: tuple[Subject, ...] | None = None
    sources: tuple[Source, ...] | None = None
    strength: float | None = None
    loras: tuple[Lora, ...] = ()
    seed_offset: int = 0
    weights: tuple[WordWeight, ...] = ()

    def __post_init__(self) -> None:
        _check_text("prompt", self.prompt, line_breaks=True)
        _check_text("negative", self.negative or "", line_breaks=True, empty=True)
        _check_subjects(self.subjects or ())
        _check_sources(self.sources)
        if self.strength is not None:
            _check_range("strength", self.strength, 0.0, MAX_STRENGTH)
        _check_range("seed_offset", self.seed_offset, -MAX_SEED_OFFSET, MAX_SEED_OFFSET)
        _check_weights(self.weights)


@dataclass(frozen=True)
class Script:
    """A film.

    prompt: text in front of every beat's; negative, subjects: of beats that have none of their own; common_prompt: one
    text for all beats during the first part `common_until` (0..1) of the noise schedule; loop: whether the last beat
    leads back into the first.

    Raises ScriptError without a beat, on a transition before the first, on a source that is not an earlier beat, and on
    a `common_until` out of range or without a common prompt.
    """

    beats: tuple[ScriptBeat, ...]
    prompt: str = ""
    negative: str = ""
    subjects: tuple[Subject, ...] = ()
    common_prompt: str = ""
    common_until: float = 0.2
    loop: bool = False

    def __post_init__(self) -> None:
        for name in ("prompt", "negative", "common_prompt"):
            _check_text(name, getattr(self, name), line_breaks=True, empty=True)
        _check_range("common_until", self.common_until, 0.0, 1.0)
        if self.common_until != Script.common_until and not self.common_prompt:
            raise ScriptError("it needs a common prompt, whose end it sets.", ("common_until",))
        _check_subjects(self.subjects)
        for place, subject in enumerate(self.subjects):
            if any(isinstance(source, int) for source in subject.sources or ()):
                raise ScriptError(
                    f"'{subject.name}' belongs to all beats, so its source can only be first or previous; "
                    "name another source after a later prompt.",
                    ("subjects", place, "sources"),
                )
        if not self.beats:
            raise ScriptError("there is no prompt; write at least one.", ("beats",))
        if self.beats[0].transition is not None:
            raise ScriptError("no beat comes before the first, so it has no transition.", ("beats", 0, "transition"))
        for number, beat in enumerate(self.beats):
            _check_earlier(beat.sources, number, ())
            for place, subject in enumerate(beat.subjects or ()):
                _check_earlier(subject.sources, number, ("subjects", place))


def _check_text(name: str, text: str, line_breaks: bool = False, empty: bool = False) -> None:
    if not text and not empty:
        raise ScriptError(f"{name} must not be empty.", (name,))
    if text != text.strip(BLANK):
        raise ScriptError(f"{name} must not begin or end with a space or an invisible mark.", (name,))
    if not line_breaks and "\n" in text:
        raise ScriptError(f"{name} must not have a line break.", (name,))
    if "\r" in text:
        raise ScriptError(f"{name} must not have a carriage return; write line breaks as line feeds.", (name,))
    if re.search(_LONE_SURROGATE, text):
        raise ScriptError(f"{name} must not have half a surrogate pair, which is not a character.", (name,))


def _check_range(name: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:
        raise ScriptError(f"{name} is {value:g}; it must be between {lowest:g} and {highest:g}.", (name,))


def _check_subjects(subjects: Sequence[Subject]) -> None:
    names: set[str] = set()
    for place, subject in enumerate(subjects):
        if subject.name in names:
            raise ScriptError(
                f"there are two subjects '{subject.name}'; give one another name, such as other = {subject.words}.",
                ("subjects", place),
            )
        names.add(subject.name)


def _check_weights(weights: Sequence[WordWeight]) -> None:
    seen: set[str] = set()
    for place, weight in enumerate(weights):
        if weight.words in seen:
            raise ScriptError(f"'{weight.words}' is weighed twice; leave one out.", ("weights", place))
        seen.add(weight.words)


def _check_sources(sources: Sequence[Source] | None) -> None:
    if sources and len(set(sources)) < len(sources):
        raise ScriptError("a source is given twice.", ("sources",))


def _check_earlier(sources: Sequence[Source] | None, number: int, part: tuple[str | int, ...]) -> None:
    for source in sources or ():
        if isinstance(source, int) and not 0 <= source < number:
            raise ScriptError(
                f"beat {number + 1} has beat {source + 1} as a source; sources are earlier beats, counted from 1.",
                ("beats", number, *part, "sources"),
            )
