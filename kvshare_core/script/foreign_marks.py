"""What other programs leave in a text that is pasted as a script: halves of characters, other forms of a film.

Read as prompts, they would become part of a film without a word."""

import re
from collections.abc import Sequence

from .film import ScriptError
from .piece import Piece
from .text_form import FENCE, FIELDS, FOREIGN_NAME, LABEL, NUMBERED, SETTINGS

FULL_WIDTH_BAR = "\uff5c"

_HALF_CHARACTER = r"[\ud800-\udfff]"
_JSON_OBJECT = r'\{\s*"'
_JSON_LIST = r'\[\s*[{"]'


def check_characters(text: str) -> None:
    """Raises ScriptError for half a character, as a cut emoji leaves it: nothing can print it."""
    half = re.search(_HALF_CHARACTER, text)
    if half is None:
        return
    before = text[: half.start()]
    line, column = before.count("\n") + 1, half.start() - (before.rfind("\n") + 1) + 1
    raise ScriptError(
        f"prompts, line {line}, column {column}: half of a character, as a cut emoji leaves it; delete it.",
        place=(line, column),
    )


def check_line(line: Piece) -> None:
    """Raises ScriptError for a line that belongs to another form than that of a script's text."""
    if line.text.startswith(FENCE):
        raise line.error(f"{line.quoted} is a fence of Markdown; delete it, and its counterpart at the end.")
    if line.text == "{" or re.match(_JSON_OBJECT, line.text):
        raise line.error("JSON begins here, but the text above it is not JSON; delete what is above.")
    if line.text == "[" or re.match(_JSON_LIST, line.text):
        raise line.error(
            'a list of JSON begins here, which is no film; write {"version": 1, "beats": [{"prompt": "a fox"}]}.'
        )
    foreign = re.search(FOREIGN_NAME, line.text)
    if foreign is None:
        return
    place, typed = line.part(foreign.start()), foreign["kind"]
    if typed.startswith("["):
        after = typed.index("]") + 1
        place, typed = line.part(after), typed[after:].strip()
    kind = typed.lower()
    colon = foreign[0][-1]
    escaped = f"for these words in a prompt write {typed[:20].strip()}\\{colon}"
    if kind.startswith("negative"):
        raise place.error(
            f"a script has no 'negative prompt:'; write negative: for all prompts, or | negative: for one; {escaped}."
        )
    if kind.startswith("positive"):
        raise place.error(f"a script has no 'positive prompt:'; write the prompt alone; {escaped}.")
    if kind.startswith(FULL_WIDTH_BAR) or kind in (*SETTINGS, *FIELDS):
        raise place.error(f"this is a full-width character; write | and : for what a script knows; {escaped}.")
    if kind[-1].isdigit():
        raise place.error(f"'{typed}{colon}' would become part of the prompt; write the prompt alone; {escaped}.")
    if kind.startswith("steps"):
        raise place.error(f"{place.quoted} are another program's settings; delete them.")
    raise place.error(
        f"this is part of a JSON text whose beginning is not here; begin with {{ and nothing above it; {escaped}."
    )


def check_prompts(prompts: Sequence[Piece]) -> None:
    """Raises ScriptError for a prompt that is nothing but a label, and for a list whose every prompt begins with the
    number after the one before it."""
    for prompt in prompts:
        if re.fullmatch(LABEL, prompt.text):
            raise prompt.error(
                f"{prompt.quoted} would become a prompt of its own; delete it, or begin the line with # to keep it as "
                f"a note; for a prompt of these words write \\{prompt.text}."
            )
    counted = [int(number[1]) for prompt in prompts if (number := re.match(NUMBERED, prompt.text)) is not None]
    if len(prompts) > 1 and len(counted) == len(prompts) and counted == [*range(counted[0], counted[-1] + 1)]:
        first = prompts[0]
        raise first.error(
            f"{first.quoted} is numbered, and the number would become part of the prompt; delete the numbers, or write "
            f"\\{counted[0]} for a prompt that begins with one."
        )
