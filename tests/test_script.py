"""Scripts are read as people type them, and what is wrong is named by its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.script import Duration, Script, ScriptBeat, ScriptError, parse_script


def test_prompts_are_read_with_and_without_durations() -> None:
    text = "a fox\n\n  [3s] a fox runs \n[ 2.5 seconds ]a fox sleeps\n[24f] a fox [sits]\n[1 frame] a fox"
    assert parse_script(text) == Script(
        (
            ScriptBeat("a fox"),
            ScriptBeat("a fox runs", Duration(3.0)),
            ScriptBeat("a fox sleeps", Duration(2.5)),
            ScriptBeat("a fox [sits]", Duration(24, "frames")),
            ScriptBeat("a fox", Duration(1, "frames")),
        )
    )


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ("[3 m] a fox", "not with a duration"),
        ("[3s a fox", "not with a duration"),
        ("[-3s] a fox", "not with a duration"),
        ("[0s] a fox", "longer than zero"),
        ("[0f] a fox", "longer than zero"),
        ("[2.5f] a fox", "whole numbers"),
        ("[3s]", "without a prompt"),
    ],
)
@given(st.integers(0, 4), st.integers(0, 3))
def test_a_broken_line_is_named_by_its_number(broken: str, complaint: str, before: int, empty: int) -> None:
    with pytest.raises(ScriptError, match=rf"prompts, line {before + empty + 1}: .*{complaint}"):
        parse_script("\n".join(["a fox"] * before + [""] * empty + [broken, "a fox"]))


@pytest.mark.parametrize("text", ["", "  \n \n"])
def test_no_prompt_is_an_error(text: str) -> None:
    with pytest.raises(ScriptError, match="there is no prompt"):
        parse_script(text)
