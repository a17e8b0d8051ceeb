"""The JSON form of a script, for programs: the attributes of Script by their names, with beats counted from 1. Pure
Python."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from .film import (
    BLANK,
    TRANSITION_KINDS,
    Duration,
    Lora,
    Script,
    ScriptBeat,
    ScriptError,
    Source,
    Subject,
    Transition,
    TransitionKind,
    Unit,
    WordWeight,
)
from .foreign_marks import check_characters
from .text_form import NO_CHOICES

VERSION = 1
UNIT_KEYS: dict[str, Unit] = {"seconds": "seconds", "frames": "frames", "latent_frames": "latent frames"}

_LOOKS_LIKE_JSON = r'\s*\{\s*(?:["}]|\Z)'
_MAX_WHOLE = 10**15 - 1
_Made = TypeVar("_Made")
_Part = tuple[str | int, ...]


def read_json(text: str) -> Script:
    """Reads a script in its JSON form. Raises ScriptError with the line and the column of broken JSON, and with the
    path of an entry that is unknown, missing or impossible."""
    check_characters(text)
    begin, end = len(text) - len(text.lstrip(BLANK)), len(text.rstrip(BLANK))
    spaced = re.sub(r"[^\r\n]", " ", text[:begin]) + text[begin:end]
    try:
        value = json.loads(spaced, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except json.JSONDecodeError as reason:
        choice = "" if re.match(_LOOKS_LIKE_JSON, spaced) else f" {NO_CHOICES}"
        raise ScriptError(
            f"prompts, line {reason.lineno}, column {reason.colno}: {reason.msg}; a text that begins with '{{' is read "
            f"as JSON, a prompt that does begins with \\{{.{choice}",
            place=(reason.lineno, reason.colno),
        ) from None
    except RecursionError:
        raise ScriptError("prompts: the JSON has too many nested brackets.") from None
    except ScriptError:
        raise
    except ValueError:
        raise ScriptError("prompts: the JSON has a number that is too long to read.") from None
    return _script(_Node(value))


def script_json(script: Script) -> str:
    """The JSON form of a script, without default values; `read_json` gives back an equal script."""
    entries: dict[str, Any] = {"version": VERSION}
    entries |= _said(script, "prompt", "negative", "common_prompt", "common_until", "loop")
    if script.subjects:
        entries["subjects"] = [_subject_entries(subject) for subject in script.subjects]
    entries["beats"] = [_beat_entries(beat) for beat in script.beats]
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for key, value in pairs:
        if key in entries:
            raise ScriptError(f"prompts: an object has {_quoted(key)} twice; leave one out.")
        entries[key] = value
    return entries


def _refuse_constant(constant: str) -> None:
    raise ScriptError(f"prompts: {constant} is not a number that a script can use.")


def _quoted(text: str) -> str:
    return f"'{text[:60]}{'...' if len(text) > 60 else ''}'"


@dataclass(frozen=True)
class _Node:
    """A value in the JSON and the path to it."""

    value: object
    path: _Part = ()

    def error(self, message: str, part: Sequence[str | int] = ()) -> ScriptError:
        path = (*self.path, *part)
        place = "".join(
            f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{json.dumps(key)}]" for key in path
        ).removeprefix(".")
        if path[:1] == ("beats",) and len(path) > 1:
            place += f" (beat {cast(int, path[1]) + 1})"
        return ScriptError(f"prompts, {place}: {message}" if path else f"prompts: {message}")

    def entries(self, *known: str) -> "dict[str, _Node]":
        if not isinstance(self.value, dict):
            raise self.error(f"must be an object with {', '.join(known)}.")
        entries = cast(dict[str, object], self.value)
        for key, value in entries.items():
            if key not in known:
                raise _Node(value, (*self.path, key[:60])).error(f"is unknown; write one of {', '.join(known)}.")
        return {key: _Node(value, (*self.path, key)) for key, value in entries.items()}

    def items(self) -> "list[_Node]":
        if not isinstance(self.value, list):
            raise self.error("must be a list.")
        return [_Node(value, (*self.path, place)) for place, value in enumerate(cast(list[object], self.value))]

    def text(self) -> str:
        """Without spaces around it, and with line breaks of one kind."""
        if not isinstance(self.value, str):
            raise self.error("must be text.")
        return self.value.replace("\r\n", "\n").replace("\r", "\n").strip(BLANK)

    def number(self) -> float:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.error("must be a number.")
        try:
            return float(self.value)
        except OverflowError:
            raise self.error("is too large.") from None

    def whole(self) -> int:
        if isinstance(self.value, bool) or not isinstance(self.value, int) or abs(self.value) > _MAX_WHOLE:
            raise self.error("must be a whole number of at most 15 digits.")
        return self.value

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.error("must be true or false.")
        return self.value

    def make(self, build: Callable[[], _Made]) -> _Made:
        """What `build` returns; its ScriptError gets the path of this value."""
        try:
            return build()
        except ScriptError as reason:
            raise self.error(str(reason), reason.part) from None


def _script(node: _Node) -> Script:
    said = node.entries("version", "prompt", "negative", "subjects", "common_prompt", "common_until", "loop", "beats")
    for name in ("version", "beats"):
        if name not in said:
            raise node.error(f'\'{name}\' is missing; the least is {{"version": 1, "beats": [{{"prompt": "a fox"}}]}}.')
    if said["version"].whole() != VERSION:
        raise said["version"].error(f"is {said['version'].value}; this is read as version {VERSION} only.")
    beats = tuple(_beat(beat) for beat in said["beats"].items())
    values: dict[str, Any] = {
        name: said[name].text() for name in ("prompt", "negative", "common_prompt") if name in said
    }
    if "subjects" in said:
        values["subjects"] = _subjects(said["subjects"])
    if "common_until" in said:
        values["common_until"] = said["common_until"].number()
    if "loop" in said:
        values["loop"] = said["loop"].flag()
    return node.make(lambda: Script(beats, **values))


def _beat(node: _Node) -> ScriptBeat:
    readers: dict[str, Callable[[_Node], Any]] = {
        "prompt": _Node.text,
        "duration": _duration,
        "transition": _transition,
        "negative": _Node.text,
        "subjects": _subjects,
        "sources": _sources,
        "strength": _Node.number,
        "loras": lambda loras: tuple(_lora(lora) for lora in loras.items()),
        "seed_offset": _Node.whole,
        "weights": lambda weights: tuple(_weight(weight) for weight in weights.items()),
    }
    said = node.entries(*readers)
    if "prompt" not in said:
        raise node.error("has no prompt.")
    values = {name: readers[name](entry) for name, entry in said.items()}
    return node.make(lambda: ScriptBeat(**values))


def _duration(node: _Node) -> Duration:
    said = list(node.entries(*UNIT_KEYS).items())
    if len(said) != 1:
        raise node.error('must have one unit, such as {"seconds": 3}.')
    unit, value = said[0]
    number = value.number()
    return value.make(lambda: Duration(number, UNIT_KEYS[unit]))


def _transition(node: _Node) -> Transition:
    said = node.entries("kind", "duration", "segments", "gap")
    kind = said["kind"].text() if "kind" in said else ""
    if kind not in TRANSITION_KINDS:
        raise node.error(f"kind must be one of {', '.join(TRANSITION_KINDS)}.")
    duration = _duration(said["duration"]) if "duration" in said else None
    segments = said["segments"].whole() if "segments" in said else 0
    gap = _duration(said["gap"]) if "gap" in said else None
    return node.make(lambda: Transition(cast(TransitionKind, kind), duration, segments, gap))


def _subjects(node: _Node) -> tuple[Subject, ...]:
    return tuple(_subject(subject) for subject in node.items())


def _subject(node: _Node) -> Subject:
    said = node.entries("name", "words", "sources")
    if "name" not in said:
        raise node.error("has no name.")
    name = said["name"].text()
    words = said["words"].text() if "words" in said else name
    sources = _sources(said["sources"]) if "sources" in said else None
    return node.make(lambda: Subject(name, words, sources))


def _sources(node: _Node) -> tuple[Source, ...]:
    return tuple(_source(source) for source in node.items())


def _source(node: _Node) -> Source:
    if isinstance(node.value, str):
        if node.value == "first" or node.value == "previous":
            return node.value
        raise node.error('must be "first", "previous" or the number of a beat, counted from 1.')
    return node.whole() - 1


def _lora(node: _Node) -> Lora:
    said = node.entries("file", "strength")
    if "file" not in said:
        raise node.error("has no file.")
    file = said["file"].text()
    strength = said["strength"].number() if "strength" in said else Lora.strength
    return node.make(lambda: Lora(file, strength))


def _weight(node: _Node) -> WordWeight:
    said = node.entries("words", "weight")
    for name in ("words", "weight"):
        if name not in said:
            raise node.error(f'has no {name}; write {{"words": "fox", "weight": 1.5}}.')
    words, weight = said["words"].text(), said["weight"].number()
    return node.make(lambda: WordWeight(words, weight))


def _said(made: object, *names: str) -> dict[str, Any]:
    """Attributes that differ from their defaults."""
    values = {name: getattr(made, name) for name in names}
    return {name: _value(value) for name, value in values.items() if value != getattr(type(made), name)}


def _value(value: Any) -> Any:
    """Whole numbers without a decimal point, as JavaScript writes them."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _beat_entries(beat: ScriptBeat) -> dict[str, Any]:
    entries: dict[str, Any] = {"prompt": beat.prompt}
    if beat.duration is not None:
        entries["duration"] = _duration_entries(beat.duration)
    if beat.transition is not None:
        entries["transition"] = _transition_entries(beat.transition)
    if beat.subjects is not None:
        entries["subjects"] = [_subject_entries(subject) for subject in beat.subjects]
    if beat.sources is not None:
        entries["sources"] = _source_entries(beat.sources)
    if beat.loras:
        entries["loras"] = [{"file": lora.file, "strength": _value(lora.strength)} for lora in beat.loras]
    entries |= _said(beat, "negative", "strength", "seed_offset")
    if beat.weights:
        entries["weights"] = [{"words": one.words, "weight": _value(one.weight)} for one in beat.weights]
    return entries


def _duration_entries(duration: Duration) -> dict[str, Any]:
    return {duration.unit.replace(" ", "_"): _value(duration.value)}


def _transition_entries(transition: Transition) -> dict[str, Any]:
    entries: dict[str, Any] = {"kind": transition.kind}
    if transition.duration is not None:
        entries["duration"] = _duration_entries(transition.duration)
    if transition.gap is not None:
        entries["gap"] = _duration_entries(transition.gap)
    return entries | _said(transition, "segments")


def _subject_entries(subject: Subject) -> dict[str, Any]:
    entries: dict[str, Any] = {"name": subject.name}
    if subject.words != subject.name:
        entries["words"] = subject.words
    if subject.sources is not None:
        entries["sources"] = _source_entries(subject.sources)
    return entries


def _source_entries(sources: Sequence[Source]) -> list[str | int]:
    return [source + 1 if isinstance(source, int) else source for source in sources]
