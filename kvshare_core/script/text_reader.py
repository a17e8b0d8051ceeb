"""Reads the text form of a script; docs/timeline.md has its grammar. Pure Python.

Reading takes time proportional to the length of the text, whatever the text."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import cast

from . import field_values
from .field_values import NUMBER
from .film import (
    BLANK,
    TRANSITION_KINDS,
    Duration,
    Script,
    ScriptBeat,
    ScriptError,
    Subject,
    Transition,
    TransitionKind,
)
from .foreign_marks import check_characters, check_line, check_prompts
from .piece import Piece
from .text_form import ESCAPE_IN_PROMPTS, FIELDS, NO_CHOICES, SETTINGS, find_from, leading_name

_REPEATED = ("subject", "lora", "weight")
_NAME_OF_ATTRIBUTE = {
    "subjects": "subject",
    "sources": "source",
    "loras": "lora",
    "seed_offset": "seed",
    "weights": "weight",
    "common_prompt": "common",
    "common_until": "until",
}
_LINE_BREAK = r"\r\n|\r|\n"
_WORD_UNTIL = r"(?i)(?<!\S)until(?!\S)"
_UNTIL = rf"(?i)until (?P<number>{NUMBER}) ?(?P<percent>%?)"

_BRACKETS = (
    "[3s] or [24f] or [5 latent] for a duration, [0:00-0:05] for a time, [cut], [cut gap 5f], [blend 8f], [segments 2] "
    "or [route 0.5s] for a transition"
)


@dataclass(frozen=True)
class FieldPlace:
    """The position of a beat's field: all of it, without its `|`, and the value after its colon."""

    name: str
    whole: Piece
    value: Piece


@dataclass(frozen=True)
class BeatPlaces:
    """The positions of a beat's parts in the text. brackets, transition: with the brackets themselves; last_line: the
    last line that belongs to it, counted from 1."""

    prompt: Piece
    brackets: Piece | None
    transition: Piece | None
    fields: tuple[FieldPlace, ...]
    last_line: int


@dataclass
class _Draft:
    """What was read of a beat or of the settings so far: its parts by name. head: a beat's prompt; brackets: those of
    its duration."""

    head: Piece
    duration: Duration | None = None
    transition: tuple[Piece, Transition] | None = None
    brackets: Piece | None = None
    parts: dict[str, list[Piece]] = field(default_factory=dict[str, list[Piece]])
    fields: list[FieldPlace] = field(default_factory=list[FieldPlace])
    last_line: int = 0

    def add(self, name: str, named: Piece, value: Piece) -> None:
        if name in self.parts and name not in _REPEATED:
            raise named.error(f"'{name}' is given twice.")
        if not value.text and not (name == "negative" and self.head.text):
            raise value.error(f"'{name}' has no value.")
        self.parts.setdefault(name, []).append(value)
        self.fields.append(FieldPlace(name, named, value))

    def one(self, name: str) -> Piece | None:
        return self.parts[name][0] if name in self.parts else None

    def text(self, name: str) -> str:
        piece = self.one(name)
        return "" if piece is None else piece.plain()

    def place(self, part: Sequence[str | int]) -> Piece:
        """The part that a ScriptError names."""
        attribute, *rest = part
        if attribute == "transition" and self.transition is not None:
            return self.transition[0]
        pieces = self.parts.get(_NAME_OF_ATTRIBUTE.get(str(attribute), str(attribute)))
        if pieces is None:
            return self.head
        return pieces[rest[0] if rest and isinstance(rest[0], int) else 0]


def read_text(text: str) -> Script:
    """Reads a script in its text form. Raises ScriptError with the line and the column of what is wrong."""
    return read_places(text)[0]


def read_places(text: str) -> tuple[Script, tuple[BeatPlaces, ...]]:
    """Reads a script in its text form, and the positions of its beats. Raises as read_text."""
    check_characters(text)
    reader = _Reader()
    for number, line in enumerate(re.split(_LINE_BREAK, text), start=1):
        piece = Piece(line, number, 1).part(0)
        if piece.text and not piece.text.startswith("#"):
            check_line(piece)
            reader.read_line(piece)
    return reader.script(), tuple(reader.places())


def line_starts(text: str) -> list[int]:
    """Where the lines of `text` begin, in characters from 0."""
    return [0, *(match.end() for match in re.finditer(_LINE_BREAK, text))]


def subject_places(value: Piece) -> tuple[Piece, Piece | None]:
    """Of what follows `subject:`, the part that names the subject and the one that names its sources."""
    start, sources = find_from(value.text)
    return value.part(0, start), None if sources is None else value.part(start)


class _Reader:
    def __init__(self) -> None:
        self._settings = _Draft(Piece("", 1, 1))
        self._beats: list[_Draft] = []
        self._transition: tuple[Piece, Transition] | None = None
        self._elapsed: Decimal | None = Decimal(0)

    def read_line(self, piece: Piece) -> None:
        name, colon = leading_name(piece.text)
        if piece.text.startswith("["):
            self._bracket(piece)
        elif piece.text.startswith("|"):
            if not self._beats or self._transition is not None:
                raise piece.error("no prompt is above this line; write it below the prompt that it belongs to.")
            self._fields(self._beats[-1], piece.split_at_bars()[1:])
        elif name:
            self._setting(name, piece, piece.part(colon + 1))
        else:
            self._beat(piece)

    def script(self) -> Script:
        if self._transition is not None:
            raise self._transition[0].error("no prompt follows this transition; write one below it or leave it out.")
        if not self._beats:
            common = "prompt" in self._settings.parts
            raise ScriptError(
                "prompts: there is no prompt; write one per line."
                + (" 'prompt:' is the beginning of every prompt, which then needs a line below." if common else "")
            )
        check_prompts([draft.head for draft in self._beats])
        settings = self._settings
        beats = tuple(_beat(draft) for draft in self._beats)
        subjects = _subjects(settings) or ()
        common, until = _common(settings)
        loop = settings.one("loop")
        if loop is not None and loop.text.lower() not in ("yes", "no"):
            raise loop.error(f"{loop.quoted}; write loop: yes or loop: no.")
        try:
            return Script(
                beats,
                settings.text("prompt"),
                settings.text("negative"),
                subjects,
                common,
                until,
                loop is not None and loop.text.lower() == "yes",
            )
        except ScriptError as reason:
            raise self._located(reason) from None

    def places(self) -> Iterator[BeatPlaces]:
        """The positions of the beats."""
        for draft in self._beats:
            transition = draft.transition and draft.transition[0]
            yield BeatPlaces(draft.head, draft.brackets, transition, tuple(draft.fields), draft.last_line)

    def _located(self, reason: ScriptError) -> ScriptError:
        name, *way = reason.part
        if name != "beats":
            return self._settings.place(reason.part).error(str(reason))
        return self._beats[cast(int, way[0])].place(way[1:]).error(str(reason))

    def _setting(self, name: str, named: Piece, value: Piece) -> None:
        if self._beats or self._transition is not None or name not in SETTINGS:
            place = f"write it after a prompt: a fox | {name}: ..." if name in FIELDS else "write it above the prompts"
            raise named.error(
                f"'{name}:' {'cannot begin a line' if name not in SETTINGS else 'after the first prompt'}; {place}, "
                f"or write {name}\\: for a prompt that begins like that."
            )
        first, *more = value.split_at_bars()
        if more:
            raise more[0].error("only prompts have fields; write \\| for the character itself.")
        self._settings.add(name, named, first)

    def _bracket(self, piece: Piece) -> None:
        close = piece.text.find("]")
        if close < 0:
            raise piece.error(f"'[' without ']'; write {_BRACKETS}, or \\[ for the character itself.")
        inside, rest = piece.part(1, close), piece.part(close + 1)
        kind, more = inside.first_word()
        if kind not in TRANSITION_KINDS:
            duration, seconds = self._time(piece, inside)
            self._beat(rest, duration, seconds, piece.part(0, close + 1))
            return
        if rest.text:
            raise rest.error("a transition needs a line of its own; write the prompt on the next one.")
        if not self._beats:
            raise piece.error("there is no prompt above this transition.")
        if self._transition is not None:
            raise piece.error("this is the second transition between two prompts; leave one out.")
        self._transition = piece, field_values.transition(cast(TransitionKind, kind), inside, more)

    def _time(self, piece: Piece, inside: Piece) -> tuple[Duration, Decimal | None]:
        """A duration, and its exact seconds if it has any."""
        read = field_values.duration(inside)
        if read is not None:
            return read
        start, dash, stop = inside.text.replace("\u2013", "-").partition("-")
        begin, end = field_values.seconds(start.strip(BLANK)), field_values.seconds(stop.strip(BLANK))
        if begin is not None and not dash:
            raise inside.error(
                f"{inside.quoted} could be a time or a duration; write [3s] for a duration, or [0:00-0:03] for a start "
                "and an end."
            )
        if begin is None or end is None:
            raise piece.error(
                f"{inside.quoted} is neither a duration nor a transition; write {_BRACKETS}, or \\[ for the "
                "character itself."
            )
        if self._elapsed is None or (self._transition is not None and self._transition[1].kind == "segments"):
            raise inside.error(
                f"{inside.quoted} needs prompts before it that all have durations in seconds, and no [segments], which "
                "add time; write a duration such as [3s]."
            )
        if begin != self._elapsed:
            raise inside.error(
                f"begins at {begin} seconds, but the prompts before it last {self._elapsed} seconds; prompts "
                "follow each other without a gap."
            )
        with inside.holds():
            return Duration(float(end - begin)), end - begin

    def _beat(
        self,
        piece: Piece,
        duration: Duration | None = None,
        seconds: Decimal | None = None,
        brackets: Piece | None = None,
    ) -> None:
        head, *fields = piece.split_at_bars()
        if not head.text:
            raise head.error("a duration without a prompt; write the prompt after it.")
        segments = self._transition is not None and self._transition[1].kind == "segments"
        if self._elapsed is not None:
            self._elapsed = None if seconds is None or segments else self._elapsed + seconds
        draft = _Draft(head, duration, self._transition, brackets)
        self._fields(draft, fields)
        self._beats.append(draft)
        self._transition = None

    def _fields(self, draft: _Draft, pieces: Sequence[Piece]) -> None:
        known = ", ".join(FIELDS)
        draft.last_line = pieces[-1].line if pieces else draft.head.line
        for piece in pieces:
            before, colon, _ = piece.text.partition(":")
            name = before.strip(BLANK).lower()
            if not piece.text:
                raise piece.error(f"nothing after '|'; write one of {known}, or leave it out.")
            if name in SETTINGS and name not in FIELDS:
                raise piece.error(f"'{name}' belongs to all prompts; write it on a line of its own above the first.")
            if not colon or name not in FIELDS:
                choice = f" {NO_CHOICES}" if "}" in piece.text else ""
                raise piece.error(
                    f"{piece.quoted} is not a field; fields are {known}, as in | strength: 0.8. Write \\| for the "
                    f"character itself.{choice}"
                )
            draft.add(name, piece, piece.part(len(before) + 1))


def _beat(draft: _Draft) -> ScriptBeat:
    negative, source = draft.one("negative"), draft.one("source")
    strength, seed = draft.one("strength"), draft.one("seed")
    values = (
        draft.duration,
        draft.transition and draft.transition[1],
        None if negative is None else negative.plain(),
        _subjects(draft),
        None if source is None else field_values.sources(source),
        None if strength is None else field_values.number(strength),
        tuple(field_values.lora(piece) for piece in draft.parts.get("lora", [])),
        0 if seed is None else field_values.seed(seed),
        tuple(field_values.weight(piece) for piece in draft.parts.get("weight", [])),
    )
    try:
        return ScriptBeat(draft.head.plain(ESCAPE_IN_PROMPTS), *values)
    except ScriptError as reason:
        raise draft.place(reason.part).error(str(reason)) from None


def _subjects(draft: _Draft) -> tuple[Subject, ...] | None:
    pieces = draft.parts.get("subject")
    if pieces is None:
        return None
    for piece in pieces:
        if piece.text.lower() == "none" and len(pieces) > 1:
            raise piece.error("'none' says that there is no subject; leave it or the other subjects out.")
    return () if pieces[0].text.lower() == "none" else tuple(field_values.subject(piece) for piece in pieces)


def _common(settings: _Draft) -> tuple[str, float]:
    """The common prompt, and the part of the noise schedule that it holds for."""
    piece = settings.one("common")
    if piece is None:
        return "", Script.common_until
    start = max((match.start() for match in re.finditer(_WORD_UNTIL, piece.text)), default=len(piece.text))
    until = piece.part(start)
    match = re.fullmatch(_UNTIL, " ".join(until.text.split()))
    if match is None:
        return piece.plain(), Script.common_until
    if not match["percent"]:
        raise until.error(f"{until.quoted} without '%'; write until 20%.")
    if start == 0:
        raise piece.error("there is no text before 'until'.")
    settings.parts["until"] = [until]
    return piece.part(0, start).plain(), float(Decimal(match["number"]) / 100)
