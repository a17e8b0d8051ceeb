"""Reads a script in either of its forms."""

from .film import BLANK, Script
from .json_form import read_json
from .text_reader import read_text


def parse_script(text: str) -> Script:
    """Reads a film that is written as text (a line is a prompt, `[3s] a fox runs`) or as JSON; docs/timeline.md has
    both grammars.

    A text whose first character is `{` is JSON. Raises ScriptError with the line and the column of what is wrong, or
    its path in the JSON, and what to write instead.
    """
    return read_json(text) if is_json(text) else read_text(text)


def is_json(text: str) -> bool:
    """Whether a film is written in its JSON form."""
    return text.lstrip(BLANK).startswith("{")
