"""What pasted texts bring with them is read past, or named with its place."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.script.film import Script, ScriptBeat, ScriptError
from kvshare_core.script.parsing import parse_script
from kvshare_core.script.text_form import script_text
from kvshare_core.script.text_reader import read_places

MARKS = st.text("\ufeff\u200b\u2060\u200e\xad \n", min_size=1, max_size=6)
FILM = json.dumps({"version": 1, "beats": [{"prompt": "a fox runs"}, {"prompt": "a fox sleeps"}]})


@given(MARKS, st.sampled_from(["[3s] a fox runs", "subject: fox\na fox runs", "a fox runs", FILM]))
def test_invisible_marks_in_front_change_nothing(marks: str, film: str) -> None:
    assert parse_script(marks + film) == parse_script(film)


@given(MARKS, st.sampled_from(["[3s] a dog runs", "# a note", "[cut]\na dog", "| strength: 0.5", "[2s] a dog"]))
def test_invisible_marks_in_front_of_a_later_line_change_nothing(marks: str, line: str) -> None:
    assert parse_script(f"a fox\n{marks}{line}{marks}") == parse_script(f"a fox\n{line}")


def test_invisible_marks_around_names_and_in_json_change_nothing() -> None:
    assert parse_script("subject\u200b:\u200b fox\u200b\na fox |\u200b strength\ufeff: 0.5") == parse_script(
        "subject: fox\na fox | strength: 0.5"
    )
    assert parse_script(f"\ufeff\n\u200b{FILM}\u200b\n") == parse_script(FILM)
    assert parse_script(FILM.replace("a fox runs", "\u200ba fox runs\ufeff")) == parse_script(FILM)


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
        (f"# my film\n{FILM}", (2, 1), "JSON begins here, but the text above it is not JSON"),
        (f"// my film\n{FILM}", (2, 1), "JSON begins here"),
        (f"film = {FILM}", (1, 9), "begin with { and nothing above it"),
        ('film = {\n"version": 1,', (2, 1), "begin with { and nothing above it"),
        ('[{"prompt": "a fox"}]', (1, 1), "a list of JSON"),
        ('[\n{"prompt": "a fox"}\n]', (1, 1), "a list of JSON"),
        ('["a fox", "a dog"]', (1, 1), "a list of JSON"),
        ("a fox\nNegative prompt: blurred", (2, 1), "write negative: for all prompts"),
        ("Prompt: a fox\nNegative prompt: blurred", (2, 1), "write negative: for all prompts"),
        ("Prompt: a fox / Negative prompt: blurred", (1, 17), "write negative: for all prompts"),
        ("a fox. negative_prompt : blurred", (1, 8), "write negative: for all prompts"),
        ("Positive prompt: a fox", (1, 1), "write the prompt alone"),
        ("a fox\nSteps: 20, Sampler: Euler a, CFG scale: 7", (2, 1), "another program's settings"),
        ("a fox\nsubject\uff1a fox", (2, 1), "for these words in a prompt write subject\\\uff1a"),
        ("a fox \uff5c strength: 0.5", (1, 7), "write | and : for what a script knows"),
        ("a fox \uff5cstrength\uff1a 0.5", (1, 7), "write | and : for what a script knows"),
        ("Negative prompt\uff1a blurred", (1, 1), "write negative: for all prompts"),
        (
            "Scene 1: a fox\nScene 2: a dog",
            (1, 1),
            "'Scene 1:' would become part of the prompt; write the prompt alone",
        ),
        ("a fox\n[3s] Shot #2: a dog", (2, 6), "'Shot #2:' would become part of the prompt; write the prompt alone"),
        ("Scene 1\na fox\nScene 2\na dog", (1, 1), "'Scene 1' would become a prompt of its own; delete it, or begin"),
        ("# Scene 1\na fox\n[3s] \u573a\u666f2", (3, 6), "would become a prompt of its own"),
        ("\u955c\u59341\uff1a\u72d0\u72f8", (1, 1), "would become part of the prompt; write the prompt alone"),
        ("# Film\n\n1. a fox\n2. a dog", (3, 1), "delete the numbers, or write \\1 for a prompt that begins with one"),
        ("[3s] 3) a fox\n[cut]\n[2s] 4) a dog | seed: 1\n5) night", (1, 6), "delete the numbers, or write \\3"),
        ("1\u3001\u72d0\u72f8\n2\u3001\u72d7", (1, 1), "delete the numbers"),
        ("{red|blue} fox", (1, 2), "A choice such as {red|blue} is not made here: write every prompt on a line of its"),
        ("a {red|blue} fox", (1, 8), "A choice such as {red|blue} is not made here"),
        ("a fox\n{red|blue} fox", (2, 6), "A choice such as {red|blue} is not made here"),
    ],
)
def test_another_form_is_named_with_its_place(text: str, place: tuple[int, int], message: str) -> None:
    with pytest.raises(ScriptError, match=re.escape(message)) as error:
        parse_script(text)
    assert error.value.place == place
    str(error.value).encode("utf-8")


def test_a_prompt_in_front_of_all_is_not_a_prompt_of_its_own() -> None:
    with pytest.raises(ScriptError, match=r"there is no prompt; .* 'prompt:' is the beginning of every prompt"):
        parse_script("Prompt: a fox\nNegative: blurred")


@pytest.mark.parametrize(
    "prompt",
    [
        "a fox, negative prompt: none",
        "Positive prompt : a fox",
        "Steps: 20, Sampler: a machine",
        'a sign says "prompt": go',
        "```",
        "a\nNegative prompt: b",
        "{red|blue} fox",
        '[{"a": 1}]',
        "\\` and \\\\`",
        "subject\uff1a fox",
        "a fox \uff5c seed\uff1a 5",
        "Scene 1: a fox",
        "[wide] Shot 2\uff1a a fox",
        "1. a fox",
        "\\1. a fox",
        "\\\\1 fox",
        "Scene 1",
        "\\Scene 1",
        "\\\\shot #12",
        "\u955c\u5934 3",
    ],
)
def test_prompts_that_look_like_another_form_are_escaped(prompt: str) -> None:
    script = Script((ScriptBeat(prompt), ScriptBeat(prompt.replace("1", "2"), negative=prompt)), prompt=prompt)
    assert parse_script(script_text(script)) == script


@pytest.mark.parametrize(
    "text",
    [
        "a fox\n{red} fox sleeps",
        "a fox, no negative prompts: none",
        "steps: 20",
        "a ``` b",
        "1. a fox",
        "1. a fox\na dog",
        "1. a fox\n3. a dog",
        "1 fox\n2 foxes",
        "1.5 m of snow\n2.5 m of snow",
        "a sign says scene 1: the fox",
        "the second shot: a fox",
        "scene 1 of a play\n\\scene 1 of a play",
        "\u770b\u677f\uff1a\u72d0\n\u72d0\uff5c\u72d7",
    ],
)
def test_prompts_that_only_look_alike_are_left_alone(text: str) -> None:
    assert [beat.prompt for beat in parse_script(text).beats] == text.split("\n")
