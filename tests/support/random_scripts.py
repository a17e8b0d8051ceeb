"""Random scripts with everything that one can have, and texts that look like the grammar around them."""

import math
from random import Random
from typing import Any, get_args

from kvshare_core.config import MAX_STRENGTH
from kvshare_core.script.film import (
    BLANK,
    LONGEST,
    MAX_LORA_STRENGTH,
    MAX_SEED_OFFSET,
    MAX_SEGMENTS,
    Duration,
    Lora,
    Script,
    ScriptBeat,
    Source,
    Subject,
    Transition,
    Unit,
    WordWeight,
)

TOKENS = (
    *"|#[]{}:\\\n=\"'%,-+.0123456789 \t",
    *("prompt", "negative", "subject", "common", "loop", "source", "strength", "lora", "seed", "weight"),
    *(
        " from ",
        "first",
        "previous",
        "beat 1",
        "none",
        " and ",
        " until 20%",
        "cut",
        "blend",
        "segments",
        "route",
        "gap",
    ),
    *("3s", "24 frames", "5 latent", "0:00-0:03", "yes", "fox", "狐", "\u2028", "\x0b", "\x00", "\\n", "\\|", "\ufeff"),
    *("negative prompt", "```", "`", '"prompt":', "steps: 20, sampler"),
    *("\uff1a", "\uff5c", "1. ", "2) ", "\\1", "scene 1", "Shot 2:", "\u955c\u5934 1"),
)


def like_grammar(random: Random, most: int = 8) -> str:
    """Tokens of the grammar in any order, and a few characters from all over Unicode."""
    return "".join(
        chr(random.choice([random.randrange(0x20, 0xD800), random.randrange(0xE000, 0x110000)]))
        if random.random() < 0.1
        else random.choice(TOKENS)
        for _ in range(random.randrange(most + 1))
    )


def random_script(random: Random, longest: dict[Unit, float] = LONGEST) -> Script:
    """A script whose durations are not beyond `longest`."""
    common = _text(random)
    return Script(
        tuple(_beat(random, number, longest) for number in range(random.randint(1, 4))),
        _text(random),
        _text(random),
        _subjects(random, 0),
        common,
        _number(random, 1) if common else Script.common_until,
        random.random() < 0.5,
    )


def _maybe(random: Random, value: Any) -> Any:
    return random.choice([None, value])


def _text(random: Random, least: int = 0, line_breaks: bool = True) -> str:
    text = like_grammar(random)
    text = (text if line_breaks else text.replace("\n", "")).strip(BLANK)
    return text if len(text) >= least else "fox"


def _number(random: Random, highest: float) -> float:
    """Short and long ones, the limits, and some that need many digits."""
    return random.choice(
        [0.0, -0.0, highest, math.ulp(0.0), random.uniform(0, highest), round(random.uniform(0, highest), 1), 1e-7]
    )


def _duration(random: Random, longest: dict[Unit, float]) -> Duration:
    unit = random.choice(get_args(Unit))
    if unit == "seconds":
        return Duration(_number(random, longest[unit]) or 1.0)
    return Duration(random.randint(1, int(longest[unit])), unit)


def _transition(random: Random, longest: dict[Unit, float]) -> Transition:
    length = _maybe(random, _duration(random, longest))
    return random.choice(
        [
            Transition("cut", gap=length),
            Transition("blend", length),
            Transition("route", length),
            Transition("segments", segments=random.randint(1, MAX_SEGMENTS)),
        ]
    )


def _sources(random: Random, earlier: int) -> tuple[Source, ...]:
    choices: list[Source] = ["first", "previous", *range(earlier)]
    return tuple(random.sample(choices, random.randint(0, min(3, len(choices)))))


def _subjects(random: Random, earlier: int) -> tuple[Subject, ...]:
    found: dict[str, Subject] = {}
    for _ in range(random.randrange(4)):
        name = _text(random, 1, line_breaks=False).replace("=", "-")
        if name.lower() != "none":
            words = random.choice([name, _text(random, 1, line_breaks=False), "fox from beat 1"])
            found[name] = Subject(name, words, _maybe(random, _sources(random, earlier)))
    return tuple(found.values())


def _lora(random: Random) -> Lora:
    file = _text(random, 1, line_breaks=False)
    return Lora(file, random.choice([1.0, -1.0]) * _number(random, MAX_LORA_STRENGTH))


def _weights(random: Random) -> tuple[WordWeight, ...]:
    words = {_text(random, 1, line_breaks=False) for _ in range(random.randrange(3))}
    return tuple(WordWeight(one, _number(random, MAX_STRENGTH)) for one in sorted(words))


def _beat(random: Random, number: int, longest: dict[Unit, float]) -> ScriptBeat:
    return ScriptBeat(
        _text(random, 1),
        _maybe(random, _duration(random, longest)),
        _maybe(random, _transition(random, longest)) if number else None,
        _maybe(random, _text(random)),
        _maybe(random, _subjects(random, number)),
        _maybe(random, _sources(random, number)),
        _maybe(random, _number(random, MAX_STRENGTH)),
        tuple(_lora(random) for _ in range(random.randrange(3))),
        random.choice([0, random.randint(-MAX_SEED_OFFSET, MAX_SEED_OFFSET)]),
        _weights(random),
    )
