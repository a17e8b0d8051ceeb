"""What other programs leave in a text that is pasted as a script: invisible marks, halves of characters, other forms.

Read as prompts, they would become part of a film without a word."""

import re

from .film import ScriptError
from .piece import Piece

_MARKS = re.compile(r"\A[\s\ufeff\u200b\u2060]+")
_HALF_CHARACTER = re.compile(r"[\ud800-\udfff]")
_OTHER_PROMPTS = re.compile(r"(?P<kind>negative|positive) prompt\s*:", re.IGNORECASE)


def without_marks(text: str) -> str:
    """`text` whose invisible marks at the beginning (a byte order mark, zero-width spaces) are spaces, so that all
    positions stay. Raises ScriptError for half a character, as a cut emoji leaves it: nothing can print it."""
    half = _HALF_CHARACTER.search(text)
    if half is not None:
        before = text[: half.start()]
        line, column = before.count("\n") + 1, half.start() - (before.rfind("\n") + 1) + 1
        raise ScriptError(
            f"prompts, line {line}, column {column}: half of a character, as a cut emoji leaves it; delete it.",
            place=(line, column),
        )
    return _MARKS.sub(lambda found: re.sub(r"[\ufeff\u200b\u2060]", " ", found[0]), text)


def check_line(line: Piece) -> None:
    """Raises ScriptError for a line that belongs to another form than that of a script's text."""
    if line.text.startswith("```"):
        raise line.error(f"{line.quoted} is a fence of Markdown; delete it, and its counterpart at the end.")
    if line.text == "{" or re.match(r'\{\s*"', line.text):
        raise line.error("JSON begins here, but the text above it is not JSON; delete what is above.")
    other = _OTHER_PROMPTS.match(line.text)
    if other is None:
        return
    if other["kind"].lower() == "negative":
        raise line.error("a script has no 'negative prompt:'; write negative: for all prompts, or | negative: for one.")
    raise line.error("a script has no 'positive prompt:'; write the prompt alone.")
