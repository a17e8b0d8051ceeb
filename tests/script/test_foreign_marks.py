"""What pasted texts bring with them is read past, or named with its place."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.script.film import ScriptError
from kvshare_core.script.parsing import parse_script
from kvshare_core.script.text_reader import read_places

MARKS = st.text("\ufeff\u200b\u2060 \n", min_size=1, max_size=6)
FILM = json.dumps({"version": 1, "beats": [{"prompt": "a fox runs"}, {"prompt": "a fox sleeps"}]})


@given(MARKS, st.sampled_from(["[3s] a fox runs", "subject: fox\na fox runs", "a fox runs", FILM]))
def test_invisible_marks_in_front_change_nothing(marks: str, film: str) -> None:
    assert parse_script(marks + film) == parse_script(film)


def test_positions_stay_where_they_are_in_the_pasted_text() -> None:
    _, (place,) = read_places("\ufeff[3s] a fox runs")
    assert (place.prompt.text, place.prompt.column) == ("a fox runs", 7)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a fox\na \ud83d fox", (2, 3), "half of a character"),
        (FILM.replace("fox sleeps", "\ud83d"), (1, FILM.index("fox sleeps") + 1), "half of a character"),
        (f"```json\n{FILM}\n```", (1, 1), "is a fence of Markdown; delete it"),
        (f"my film\n{FILM}", (2, 1), "JSON begins here, but the text above it is not JSON"),
        ('my film\n{\n"beats": []}', (2, 1), "JSON begins here"),
        ("a fox\nNegative prompt: blurred", (2, 1), "write negative: for all prompts"),
        ("Positive prompt: a fox", (1, 1), "write the prompt alone"),
    ],
)
def test_another_form_is_named_with_its_place(text: str, place: tuple[int, int], message: str) -> None:
    with pytest.raises(ScriptError, match=message) as error:
        parse_script(text)
    assert error.value.place == place
    str(error.value).encode("utf-8")


@pytest.mark.parametrize("text", ["{a|b} fox runs", "a fox\n{red} fox sleeps", "a fox, negative prompt: none"])
def test_prompts_that_only_look_alike_are_left_alone(text: str) -> None:
    if text.startswith("{"):
        with pytest.raises(ScriptError, match="JSON"):
            parse_script(text)
    else:
        assert len(parse_script(text).beats) == text.count("\n") + 1
