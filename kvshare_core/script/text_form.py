"""The text form of a script, as a person types it: its names, and writing it. docs/timeline.md has its grammar,
text_reader.py reads it. Pure Python."""

import re
from collections.abc import Iterator
from decimal import Decimal

from .film import BLANK, Duration, Script, ScriptBeat, Source, Subject, Transition, Unit, WordWeight

SETTINGS = ("prompt", "negative", "subject", "common", "loop")
"""Names of lines above the first prompt."""
FIELDS = ("subject", "source", "strength", "negative", "lora", "seed", "weight")
"""Names of the fields that follow a prompt."""
UNITS: dict[str, Unit] = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), "seconds"),
    **dict.fromkeys(("f", "frame", "frames"), "frames"),
    **dict.fromkeys(("l", "latent", "latent frame", "latent frames"), "latent frames"),
}
ESCAPE = r"\\([|#\[{:`\\n\uff1a])"
"""A backslash and what it escapes; `n` is a line break, U+FF1A a full-width colon. Any other backslash is literal."""
LABEL = (
    r"(?ia:(?:scene|shot|clip|beat|segment)[ _]?#?[0-9]{1,4}"
    r"|(?:\u955c\u5934|\u5834\u9762|\u573a\u666f|\u5206\u955c|\u30b7\u30fc\u30f3|\u30ab\u30c3\u30c8) ?[0-9]{1,4})"
)
"""What other forms of a film put in front of its prompts, as a line of their own or with a colon; in Chinese and
Japanese too."""
ESCAPE_IN_PROMPTS = ESCAPE + "|" + rf"^\\(?=[0-9]|{LABEL}\Z)"
"""The same in prompts, which may begin with a number or be nothing but a label."""
ESCAPE_IN_FILES = r"\\([|#\[{:`\\\uff1a])"
"""The same in names of files, which have no line breaks but may have backslashes before a folder's `n`."""

FOREIGN_NAME = (
    r"(?ia)(?P<kind>(?<![a-z0-9_])(?:(?:negative|positive)[ _]prompt|steps: ?[0-9]{1,9}, ?sampler)"
    r'|"(?:version|beats|prompt)"'
    rf"|\uff5c[ \t]?(?:{'|'.join(FIELDS)})|^(?:{'|'.join((*SETTINGS, *FIELDS))})(?=[ \t]?\uff1a)"
    rf"|^(?:\[[^\]\n]{{0,60}}\][ \t]?)?{LABEL})[ \t]?[:\uff1a]"
)
"""Names that other forms of a film have, with the colon behind them, which a script's text escapes: also the script's
own names before a full-width colon (U+FF1A) or after a full-width bar (U+FF5C), and labels such as `Scene 1:`."""
NUMBERED = r"([0-9]{1,4})[ \t]?[.):\u3001\uff0e\uff09\uff1a](?![0-9])"
"""How a line of a numbered list begins."""
FENCE = "```"
NO_CHOICES = "A choice such as {red|blue} is not made here: write every prompt on a line of its own."

_LETTERS: dict[Unit, str] = {"seconds": "s", "frames": "f", "latent frames": "l"}
_BAR_OR_BACKSLASH = r"\||\\(?=[|#\[{:`\\n\uff1a]|\n)"
_BAR_OR_BACKSLASH_IN_FILES = r"\||\\(?=[|#\[{:`\\\uff1a])"
_FROM = r"(?i)(?<!\S)from(?!\S)"
_BEAT_NUMBER = r"[0-9]{1,15}"


def leading_name(text: str) -> tuple[str, int]:
    """The name of a setting or field that `text` begins with, in lower case, and the position of its colon; "" without
    one."""
    before, colon, _ = text.partition(":")
    name = before.strip(BLANK).lower()
    return (name, len(before)) if colon and name in (*SETTINGS, *FIELDS) else ("", 0)


def sources_of(text: str) -> tuple[Source, ...] | None:
    """What `first and beat 2` means; None when `text` is something else."""
    words = text.lower().replace(",", " , ").split()
    if words == ["none"]:
        return ()
    sources: list[Source] = []
    place = 0
    while place < len(words):
        if (word := words[place]) == "first" or word == "previous":
            sources.append(word)
        elif words[place] == "beat" and re.fullmatch(_BEAT_NUMBER, "".join(words[place + 1 : place + 2])):
            place += 1
            sources.append(int(words[place]) - 1)
        else:
            return None
        if place + 1 == len(words):
            return tuple(sources)
        if words[place + 1] not in ("and", ","):
            return None
        place += 2
    return None


def find_from(subject: str) -> tuple[int, tuple[Source, ...] | None]:
    """Where `from beat 1` begins at the end of a subject, and what it means; the end and None without one."""
    start = max((match.start() for match in re.finditer(_FROM, subject)), default=len(subject))
    sources = sources_of(subject[start + len("from") :])
    return (len(subject), None) if sources is None else (start, sources)


def is_quoted(words: str) -> bool:
    return len(words) > 1 and words[0] == words[-1] == '"'


def script_text(script: Script) -> str:
    """The text form of a script; `read_text` gives back an equal script."""
    settings = list(_settings(script))
    beats = [line for beat in script.beats for line in _beat(beat)]
    return "\n".join([*settings, *([""] if settings else []), *beats]) + "\n"


def _settings(script: Script) -> Iterator[str]:
    if script.prompt:
        yield f"prompt: {_escaped(script.prompt)}"
    if script.negative:
        yield f"negative: {_escaped(script.negative)}"
    yield from (f"subject: {subject_text(subject)}" for subject in script.subjects)
    if script.common_prompt:
        percent = _decimal(Decimal(repr(script.common_until)) * 100)
        yield f"common: {_escaped(script.common_prompt)} until {percent}%"
    if script.loop:
        yield "loop: yes"


def _beat(beat: ScriptBeat) -> Iterator[str]:
    if beat.transition is not None:
        yield f"[{transition_text(beat.transition)}]"
    prompt = _escaped(beat.prompt)
    if re.match(rf"{NUMBERED}|\\[0-9]|\\?{LABEL}\Z", prompt):
        prompt = "\\" + prompt
    if beat.duration is not None:
        prompt = f"[{duration_text(beat.duration)}] {prompt}"
    elif prompt[0] in "#[{" or prompt.startswith(FENCE):
        prompt = "\\" + prompt
    elif leading_name(prompt)[0]:
        prompt = prompt.replace(":", "\\:", 1)
    yield " | ".join([prompt, *_fields(beat)])


def _fields(beat: ScriptBeat) -> Iterator[str]:
    if beat.subjects is not None:
        yield from (f"subject: {subject_text(subject)}" for subject in beat.subjects)
    if beat.subjects == ():
        yield "subject: none"
    if beat.sources is not None:
        yield f"source: {_sources(beat.sources)}"
    if beat.strength is not None:
        yield f"strength: {_number(beat.strength)}"
    if beat.negative is not None:
        yield f"negative: {_escaped(beat.negative)}".rstrip()
    yield from (
        f"lora: {_escaped(lora.file, _BAR_OR_BACKSLASH_IN_FILES)} {_number(lora.strength)}" for lora in beat.loras
    )
    if beat.seed_offset:
        yield f"seed: {beat.seed_offset:+d}"
    yield from (f"weight: {weight_text(weight)}" for weight in beat.weights)


def transition_text(transition: Transition) -> str:
    """The content of a transition's brackets."""
    if transition.kind == "segments":
        return f"segments {transition.segments}"
    if transition.gap is not None:
        return f"cut gap {duration_text(transition.gap)}"
    return transition.kind if transition.duration is None else f"{transition.kind} {duration_text(transition.duration)}"


def subject_text(subject: Subject) -> str:
    """The value of a subject field."""
    words = subject.words
    if find_from(words)[1] is not None or is_quoted(words):
        words = f'"{words}"'
    text = _escaped(words if subject.name == subject.words else f"{subject.name} = {words}")
    return text if subject.sources is None else f"{text} from {_sources(subject.sources)}"


def weight_text(weight: WordWeight) -> str:
    """The value of a weight field."""
    return f"{_escaped(weight.words)} {_number(weight.weight)}"


def _sources(sources: tuple[Source, ...]) -> str:
    return " and ".join(f"beat {source + 1}" if isinstance(source, int) else source for source in sources) or "none"


def duration_text(duration: Duration) -> str:
    """The content of a duration's brackets."""
    return f"{_number(duration.value)}{_LETTERS[duration.unit]}"


def _number(value: float) -> str:
    return _decimal(Decimal(repr(value)))


def _decimal(value: Decimal) -> str:
    """All digits, without an exponent."""
    return str(int(value)) if value == int(value) else f"{value.normalize():f}"


def _escaped(text: str, special: str = _BAR_OR_BACKSLASH) -> str:
    escaped = re.sub(special, lambda match: "\\" + match[0], text).replace("\n", "\\n")
    return re.sub(FOREIGN_NAME, lambda match: match[0][:-1] + "\\" + match[0][-1], escaped)
