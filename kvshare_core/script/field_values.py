"""Values in the text form of a script: durations, transitions, subjects, sources, numbers. Pure Python."""

import re
from decimal import Decimal

from .film import BLANK, Duration, Lora, Source, Subject, Transition, TransitionKind, WordWeight
from .piece import Piece
from .text_form import ESCAPE_IN_FILES, UNITS, find_from, is_quoted, sources_of

NUMBER = r"(?:[0-9]{1,400}(?:\.[0-9]{1,400})?|\.[0-9]{1,400})"
_DURATION = rf"(?P<number>{NUMBER}) ?(?P<unit>[a-z]+(?: [a-z]+)?)"
_CLOCK = r"(?:(?P<hours>[0-9]{1,2}):)?(?P<minutes>[0-9]{1,2}):(?P<seconds>[0-5][0-9](?:\.[0-9]{1,9})?)"
_SIGNED = rf"[+-]?{NUMBER}"
_WHOLE = r"[+-]?[0-9]{1,15}"


def duration(piece: Piece) -> tuple[Duration, Decimal | None] | None:
    """A duration and its exact seconds if it has any; None when `piece` is something else."""
    match = re.fullmatch(_DURATION, " ".join(piece.text.lower().split()))
    unit = UNITS.get(match["unit"]) if match else None
    if match is None or unit is None:
        return None
    with piece.holds():
        return Duration(float(match["number"]), unit), Decimal(match["number"]) if unit == "seconds" else None


def duration_only(piece: Piece, example: str) -> Duration:
    """The duration that `piece` must be. Raises ScriptError, suggesting `example`, for anything else."""
    read = duration(piece)
    if read is None:
        raise piece.error(f"{piece.quoted} is not a duration; write {example}, in s, f or latent.")
    return read[0]


def seconds(clock: str) -> Decimal | None:
    """Seconds of a time such as 0:05; None for anything else."""
    match = re.fullmatch(_CLOCK, clock)
    if match is None:
        return None
    return int(match["hours"] or 0) * 3600 + int(match["minutes"]) * 60 + Decimal(match["seconds"])


def transition(kind: TransitionKind, whole: Piece, more: Piece) -> Transition:
    """The transition `kind`; more: what follows its name in the brackets."""
    if kind == "segments":
        if not re.fullmatch(_WHOLE, more.text):
            raise (more if more.text else whole).error("write how many segments, such as [segments 2].")
        with more.holds():
            return Transition(kind, segments=int(more.text))
    if not more.text:
        return Transition(kind)
    if kind != "cut":
        return Transition(kind, duration_only(more, f"[{kind} 8f]"))
    word, gap = more.first_word()
    if word != "gap" or not gap.text:
        raise more.error(f"{more.quoted} after cut; write [cut] or [cut gap 5f].")
    return Transition(kind, gap=duration_only(gap, "[cut gap 5f]"))


def subject(piece: Piece) -> Subject:
    """A subject with its words and its sources. Raises ScriptError when one is missing."""
    start, sources = find_from(piece.text)
    named = piece.part(0, start)
    name, equals, words = named.text.partition("=")
    if not name.strip(BLANK) or (equals and not words.strip(BLANK)):
        raise piece.error(f"{piece.quoted} lacks a name or words; write subject: fox, or subject: fox = the red fox.")
    with piece.holds():
        if not equals:
            words = _unquoted(named.plain())
            return Subject(words, words, sources)
        after = named.part(len(name) + 1)
        return Subject(named.part(0, len(name)).plain(), _unquoted(after.plain()), sources)


def _unquoted(words: str) -> str:
    return words[1:-1].strip(BLANK) if is_quoted(words) else words


def sources(piece: Piece) -> tuple[Source, ...]:
    """The sources named by `piece`. Raises ScriptError for anything else."""
    sources = sources_of(piece.text)
    if sources is None:
        raise piece.error(
            f"{piece.quoted} is not a source; write first, previous, beat 1, several joined by and, or none."
        )
    return sources


def number(piece: Piece) -> float:
    """A number. Raises ScriptError for anything else."""
    if not re.fullmatch(_SIGNED, piece.text):
        raise piece.error(f"{piece.quoted} is not a number; write one such as 0.8.")
    return float(piece.text)


def lora(piece: Piece) -> Lora:
    """A LoRA file and its strength, 1 when none is given. Raises ScriptError when the file is missing."""
    last = piece.text.split()[-1]
    strength = 1.0
    file = piece
    if re.fullmatch(_SIGNED, last):
        file, strength = piece.part(0, -len(last)), float(last)
    if not file.text:
        raise piece.error(f"{piece.quoted} is a strength without a file; write lora: style.safetensors 0.8.")
    with piece.holds():
        return Lora(file.plain(ESCAPE_IN_FILES), strength)


def weight(piece: Piece) -> WordWeight:
    """Words and their weight. Raises ScriptError when one of them is missing."""
    last = piece.text.split()[-1]
    words = piece.part(0, -len(last))
    if not re.fullmatch(_SIGNED, last) or not words.text:
        raise piece.error(f"{piece.quoted} is not words and a weight; write weight: fox 1.5.")
    with piece.holds():
        return WordWeight(words.plain(), float(last))


def seed(piece: Piece) -> int:
    """What is added to the seed. Raises ScriptError unless it is a whole number."""
    if not re.fullmatch(_WHOLE, piece.text):
        raise piece.error(f"{piece.quoted} is not a whole number; write what to add to the seed, such as +5.")
    return int(piece.text)
