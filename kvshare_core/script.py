"""What a user writes about a film: beats with prompts, durations, transitions and subjects. Pure Python."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

Unit = Literal["seconds", "frames", "latent frames"]
TransitionKind = Literal["cut", "blend", "segments", "route"]
Source = Literal["first", "previous"] | int
"""A segment whose keys are seen: the film's first, the one before, or the first of a beat (counted from 0)."""

TRANSITION_KINDS: tuple[str, ...] = get_args(TransitionKind)


class ScriptError(ValueError):
    """A script that cannot be read; the message names the line, the column and the fix."""


@dataclass(frozen=True)
class Duration:
    """A length of time; `frames` are pictures of the decoded video, `latent frames` those of the compressed one."""

    value: float
    unit: Unit = "seconds"


@dataclass(frozen=True)
class Transition:
    """How a beat follows the one before it.

    kind: `cut` takes over at once; `blend` cross-fades over `duration`; `segments` puts `segments` segments between,
        whose text lies between both prompts (DiTCtrl's num_transition_blocks); `route` lets both windows share
        `duration`, over which each frame's text turns from one prompt into the other.
    gap: of a cut, how much further back in time the keys of segments before it seem to lie; None for not at all.
    """

    kind: TransitionKind
    duration: Duration | None = None
    segments: int = 0
    gap: Duration | None = None


@dataclass(frozen=True)
class Subject:
    """What should stay the same. `name` tells it from other subjects in all beats, `words` are those of a beat's prompt
    that name it; sources: whose keys it sees in this beat, None for what the beat or the configuration says."""

    name: str
    words: str
    sources: tuple[Source, ...] | None = None


@dataclass(frozen=True)
class Lora:
    """A LoRA file of the host, by name, and how strongly it acts on the video model."""

    file: str
    strength: float = 1.0


@dataclass(frozen=True)
class ScriptBeat:
    """One prompt and what belongs to it. None means that the script does not say: a duration of one segment, the usual
    transition, the script's negative prompt and subjects, the configuration's sources and strength."""

    prompt: str
    duration: Duration | None = None
    transition: Transition | None = None
    negative: str | None = None
    subjects: tuple[Subject, ...] | None = None
    sources: tuple[Source, ...] | None = None
    strength: float | None = None
    loras: tuple[Lora, ...] = ()
    seed_offset: int = 0


@dataclass(frozen=True)
class Script:
    """A film.

    prompt: text in front of every beat's; negative, subjects: of beats that have none of their own; common_prompt: one
    text for all beats during the first part `common_until` (0..1) of the noise schedule; loop: whether the last beat
    goes over into the first.
    """

    beats: tuple[ScriptBeat, ...]
    prompt: str = ""
    negative: str = ""
    subjects: tuple[Subject, ...] = ()
    common_prompt: str = ""
    common_until: float = 0.2
    loop: bool = False


_DURATION = re.compile(r"\[\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>s|sec|seconds?|f|frames?)\s*\]", re.IGNORECASE)


def parse_script(text: str) -> Script:
    """Reads one prompt a line, each with an optional duration in front: `[3s] a fox runs`, `[24f] a fox sleeps`.

    Empty lines are skipped. Raises ScriptError with the line number for a broken duration or a duration without a
    prompt, and when there is no prompt at all.
    """
    beats: list[ScriptBeat] = []
    for number, line in enumerate(text.splitlines(), start=1):
        rest = line.strip()
        if not rest:
            continue
        duration = None
        if rest.startswith("["):
            match = _DURATION.match(rest)
            if match is None:
                raise ScriptError(
                    f"prompts, line {number}: '{rest}' starts with '[' but not with a duration; write [3s] or [24f]."
                )
            rest = rest[match.end() :].strip()
            duration = _duration(match, number)
        if not rest:
            raise ScriptError(f"prompts, line {number}: a duration without a prompt.")
        beats.append(ScriptBeat(rest, duration))
    if not beats:
        raise ScriptError("prompts: there is no prompt; write one a line.")
    return Script(tuple(beats))


def _duration(match: re.Match[str], number: int) -> Duration:
    value = float(match["number"])
    if value <= 0:
        raise ScriptError(f"prompts, line {number}: the duration must be longer than zero.")
    if match["unit"].lower().startswith("s"):
        return Duration(value)
    if value != int(value):
        raise ScriptError(f"prompts, line {number}: {match['number']} frames; frames are whole numbers.")
    return Duration(value, "frames")
