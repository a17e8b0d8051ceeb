"""Reading takes time in proportion to what is read, whatever it is."""

import pytest

from kvshare_core.script.editor_places import read_film
from kvshare_core.script.film import ScriptError
from tests.support.growth import assert_linear

UNITS = (
    *(" ", "\\", "|", "[", "]", "=", "0", "0:", '"', "\n", "\u200b", "`", "\\n", "狐", "a\u0301", "\ud800"),
    *("a |", "[3s] a\n", "[1s] a\n[cut]\n", "a | subject: from ", "until ", "first and ", "beat 1,", " from first"),
    *("negative prompt", "steps: 1", "{a|b} ", '{"a":', "[{", "prompt: a\n", "| lora: a 1 ", "a | source: first, "),
)
BEFORE = ("", "a | subject: x", "a | source: ", "common: ", "[", "a | lora: ", '{"version": 1, "beats": [{"prompt": "')


def read(text: str) -> None:
    try:
        read_film(text)
    except ScriptError as reason:
        assert len(str(reason)) < 1500


@pytest.mark.parametrize("unit", UNITS)
def test_any_text_is_read_in_proportion_to_its_length(unit: str) -> None:
    for before in BEFORE:
        assert_linear(lambda size, before=before: read(before + unit * (size // len(unit))), 8_000)


@pytest.mark.parametrize("line", ["a | subject: s{0} = a from first\n", "a | subject: s{0} | subject: t{0}\n"])
def test_many_prompts_are_read_in_proportion_to_their_number(line: str) -> None:
    assert_linear(lambda size: read("".join(line.format(number) for number in range(size))), 500)


def test_many_fields_are_read_in_proportion_to_their_number() -> None:
    assert_linear(lambda size: read("a" + "".join(f" | subject: s{number}" for number in range(size))), 1_000)
