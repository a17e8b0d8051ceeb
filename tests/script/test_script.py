"""Impossible scripts and beats are refused when they are made, with an error that names the part."""

from collections.abc import Callable

import pytest

from kvshare_core.config import MAX_STRENGTH
from kvshare_core.script.film import (
    LONGEST,
    MAX_LORA_STRENGTH,
    MAX_SEED_OFFSET,
    MAX_SEGMENTS,
    TRANSITION_KINDS,
    Duration,
    Lora,
    Script,
    ScriptBeat,
    ScriptError,
    Subject,
    Transition,
)

FOX = Subject("fox", "fox")
NAN = float("nan")


def film(*beats: ScriptBeat) -> Script:
    return Script((ScriptBeat("a"), *beats))


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: Duration(0), ()),
        (lambda: Duration(-1), ()),
        (lambda: Duration(NAN), ()),
        (lambda: Duration(float("inf"), "frames"), ()),
        (lambda: Duration(2.5, "frames"), ()),
        (lambda: Duration(0.5, "latent frames"), ()),
        *[(lambda unit=unit: Duration(LONGEST[unit] + 1, unit), ()) for unit in LONGEST],
        (lambda: Transition("cut", Duration(1)), ("duration",)),
        (lambda: Transition("segments", Duration(1), 1), ("duration",)),
        (lambda: Transition("blend", gap=Duration(1)), ("gap",)),
        (lambda: Transition("segments"), ("segments",)),
        (lambda: Transition("segments", segments=MAX_SEGMENTS + 1), ("segments",)),
        (lambda: Transition("route", segments=1), ("segments",)),
        (lambda: Subject("", "fox"), ("name",)),
        (lambda: Subject("None", "fox"), ("name",)),
        (lambda: Subject("a=b", "fox"), ("name",)),
        (lambda: Subject("a\nb", "fox"), ("name",)),
        (lambda: Subject("fox", ""), ("words",)),
        (lambda: Subject("fox", "fox", ("first", "first")), ("sources",)),
        (lambda: Lora(""), ("file",)),
        (lambda: Lora("a", MAX_LORA_STRENGTH + 1), ("strength",)),
        (lambda: Lora("a", NAN), ("strength",)),
        (lambda: ScriptBeat(""), ("prompt",)),
        (lambda: ScriptBeat(" a"), ("prompt",)),
        (lambda: ScriptBeat("\ufeffa"), ("prompt",)),
        (lambda: ScriptBeat("a\rb"), ("prompt",)),
        (lambda: ScriptBeat("a\ud800"), ("prompt",)),
        (lambda: ScriptBeat("a", negative="b "), ("negative",)),
        (lambda: ScriptBeat("a", strength=MAX_STRENGTH + 1), ("strength",)),
        (lambda: ScriptBeat("a", strength=-0.1), ("strength",)),
        (lambda: ScriptBeat("a", strength=NAN), ("strength",)),
        (lambda: ScriptBeat("a", seed_offset=MAX_SEED_OFFSET + 1), ("seed_offset",)),
        (lambda: ScriptBeat("a", sources=(0, 0)), ("sources",)),
        (lambda: ScriptBeat("a", subjects=(FOX, FOX)), ("subjects", 1)),
        (lambda: Script(()), ("beats",)),
        (lambda: Script((ScriptBeat("a", transition=Transition("cut")),)), ("beats", 0, "transition")),
        (lambda: Script((ScriptBeat("a"),), prompt=" a"), ("prompt",)),
        (lambda: Script((ScriptBeat("a"),), subjects=(FOX, FOX)), ("subjects", 1)),
        (lambda: Script((ScriptBeat("a"),), subjects=(Subject("fox", "fox", (0,)),)), ("subjects", 0, "sources")),
        (lambda: Script((ScriptBeat("a"),), common_prompt="a", common_until=1.1), ("common_until",)),
        (lambda: Script((ScriptBeat("a"),), common_prompt="a", common_until=NAN), ("common_until",)),
        (lambda: Script((ScriptBeat("a"),), common_until=0.5), ("common_until",)),
        (lambda: film(ScriptBeat("b", sources=(1,))), ("beats", 1, "sources")),
        (lambda: film(ScriptBeat("b", sources=("first", -1))), ("beats", 1, "sources")),
        (
            lambda: film(ScriptBeat("b", subjects=(FOX, Subject("dog", "dog", (4,))))),
            ("beats", 1, "subjects", 1, "sources"),
        ),
    ],
)
def test_what_makes_no_sense_is_an_error_that_leads_to_its_part(
    make: Callable[[], object], part: tuple[str | int, ...]
) -> None:
    with pytest.raises(ScriptError) as raised:
        make()
    assert raised.value.part == part


def test_what_lies_on_a_limit_is_allowed() -> None:
    for unit, longest in LONGEST.items():
        assert Duration(longest, unit).value == longest
    assert Transition("segments", segments=MAX_SEGMENTS).segments == MAX_SEGMENTS
    assert film(ScriptBeat("b", strength=MAX_STRENGTH, sources=(0,), seed_offset=-MAX_SEED_OFFSET)).beats[1].sources
    assert Script((ScriptBeat("a"),), common_prompt="b", common_until=1.0).common_until == 1.0
    assert all(Transition(kind, segments=int(kind == "segments")).kind == kind for kind in TRANSITION_KINDS)


def test_a_message_names_its_beat() -> None:
    with pytest.raises(
        ScriptError, match=r"^beat 2 has beat 3 as a source; sources are earlier beats, counted from 1\.$"
    ):
        film(ScriptBeat("b", sources=(2,)), ScriptBeat("c"))
