"""A part of a typed script that knows its position. Pure Python."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from .film import BLANK, ScriptError
from .text_form import ESCAPE

_BAR_OR_ESCAPE = r"\\[|#\[{:\\]|\|"


@dataclass(frozen=True)
class Piece:
    """A part of the text as typed, without BLANK around it, and the line and column of its start, from 1."""

    text: str
    line: int
    column: int

    def part(self, start: int, stop: int | None = None) -> "Piece":
        text = self.text[start:stop]
        return Piece(text.strip(BLANK), self.line, self.column + start + len(text) - len(text.lstrip(BLANK)))

    def first_word(self) -> tuple[str, "Piece"]:
        """The first word in lower case, and the rest."""
        word = self.text.split(maxsplit=1)[0] if self.text else ""
        return word.lower(), self.part(len(word))

    def plain(self, escape: str = ESCAPE) -> str:
        """The text without escapes."""
        return re.sub(escape, lambda match: "\n" if match[1] == "n" else match[1] or "", self.text).strip(BLANK)

    @property
    def quoted(self) -> str:
        return f"'{self.text[:60]}{'...' if len(self.text) > 60 else ''}'"

    def error(self, message: str) -> ScriptError:
        message = f"prompts, line {self.line}, column {self.column}: {message}"
        return ScriptError(message, place=(self.line, self.column))

    def split_at_bars(self) -> "list[Piece]":
        """The parts between `|` that are not escaped."""
        parts: list[Piece] = []
        start = 0
        for match in re.finditer(_BAR_OR_ESCAPE, self.text):
            if match[0] == "|":
                parts.append(self.part(start, match.start()))
                start = match.end()
        return [*parts, self.part(start)]

    @contextmanager
    def holds(self) -> Generator[None]:
        """A ScriptError raised inside gets this position."""
        try:
            yield
        except ScriptError as reason:
            raise self.error(str(reason)) from None
