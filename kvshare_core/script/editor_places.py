"""What an editor needs to know about a script to change its text: the content of each beat and its position. Values for
JSON; positions are [start, stop) in UTF-16 units, as JavaScript counts them. Pure Python."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from .film import Duration, Script, ScriptBeat, Source
from .parsing import is_json, parse_script
from .piece import Piece
from .text_form import duration_text, script_text, sources_of, transition_text
from .text_reader import BeatPlaces, FieldPlace, line_starts, read_places, subject_places

Json = dict[str, Any]


def read_film(text: str) -> tuple[Script, Json]:
    """A script in either form, and what an editor needs of its text: `form`, `beats`, `subjects`, and for JSON `text`,
    the same film in the text form. Raises ScriptError."""
    if is_json(text):
        script = parse_script(text)
        beats = [_content(beat) for beat in script.beats]
        return script, {"form": "json", "text": script_text(script), "beats": beats, "subjects": _names(script)}
    script, places = read_places(text)
    spans = _Spans(text)
    beats = [_content(beat) | _positions(place, spans) for beat, place in zip(script.beats, places, strict=True)]
    return script, {"form": "text", "beats": beats, "subjects": _names(script)}


def unit_offset(text: str, line: int, column: int) -> int:
    """The position of a line and a column, which count from 1."""
    return _Spans(text).at(line, column)


class _Spans:
    def __init__(self, text: str) -> None:
        self._starts = line_starts(text)
        self._units = None if text.isascii() else [0, *accumulate(1 + (character > "\uffff") for character in text)]

    def at(self, line: int, column: int) -> int:
        place = self._starts[line - 1] + column - 1
        return place if self._units is None else self._units[min(place, len(self._units) - 1)]

    def of(self, piece: Piece) -> list[int]:
        return [self.at(piece.line, piece.column), self.at(piece.line, piece.column + len(piece.text))]


def _content(beat: ScriptBeat) -> Json:
    return {
        "prompt": beat.prompt,
        "duration": None if beat.duration is None else _duration(beat.duration),
        "transition": None if beat.transition is None else transition_text(beat.transition),
        "subjects": None if beat.subjects is None else [subject.name for subject in beat.subjects],
    }


def _duration(duration: Duration) -> Json:
    return {"text": duration_text(duration), "value": duration.value, "unit": duration.unit}


def _names(script: Script) -> list[str]:
    return [subject.name for subject in script.subjects]


def _positions(places: BeatPlaces, spans: _Spans) -> Json:
    first = places.prompt if places.transition is None else places.transition
    return {
        "lines": [first.line - 1, places.prompt.line - 1, places.last_line - 1],
        "places": {
            "prompt": spans.of(places.prompt),
            "duration": None if places.brackets is None else spans.of(places.brackets),
            "transition": None if places.transition is None else spans.of(places.transition),
        },
        "fields": [_field(field, spans) for field in places.fields],
    }


def _field(field: FieldPlace, spans: _Spans) -> Json:
    entries: Json = {"name": field.name, "place": spans.of(field.whole), "value": spans.of(field.value)}
    if field.name == "source":
        return entries | {"sources": _sources(sources_of(field.value.text)), "list": spans.of(field.value)}
    if field.name == "subject":
        named, origin = subject_places(field.value)
        if origin is not None:
            listed = origin.first_word()[1]
            entries |= {
                "named": spans.of(named),
                "sources": _sources(sources_of(listed.text)),
                "list": spans.of(listed),
            }
    return entries


def _sources(sources: Sequence[Source] | None) -> list[str | int]:
    return [source + 1 if isinstance(source, int) else source for source in sources or ()]
