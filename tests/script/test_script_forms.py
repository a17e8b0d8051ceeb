"""Text and JSON forms of a script are equivalent, round-trip, and name the place of an error."""

import json
import re
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvshare_core.script.film import Duration, Lora, Script, ScriptBeat, ScriptError, Subject, Transition, Unit
from kvshare_core.script.json_form import script_json
from kvshare_core.script.parsing import parse_script
from kvshare_core.script.text_form import script_text
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline, TimelineError
from tests.support.random_scripts import like_grammar, random_script

PATH = r"""[^\s:"]*(?:\[".*"\])?[^\s:"]*(?: \(beat \d+\))?"""
PLACE = re.compile(rf"prompts(?:, (?:line (\d+), column (\d+)|{PATH}))?: ", re.DOTALL)
RANDOM = st.integers(0, 2**32).map(Random)
SHORT: dict[Unit, float] = {"seconds": 12, "frames": 200, "latent frames": 50}
FULL = """\
prompt: soft light
subject: fox

[3s] a fox runs | subject: fox | strength: 0.8
[blend 8f]
[24f] a fox sleeps | subject: fox = red fox from beat 1 | source: first and previous | lora: a b.safetensors 0.5
"""


def read_or_error(text: str) -> Script | str:
    """The script, or the message of the ScriptError."""
    try:
        return parse_script(text)
    except ScriptError as reason:
        return str(reason)


@settings(max_examples=2000)
@given(RANDOM)
def test_scripts_are_read_back_as_they_were_written(random: Random) -> None:
    script = random_script(random)
    text, formal = script_text(script), script_json(script)
    assert parse_script(text) == parse_script(formal) == script
    assert script_json(parse_script(text)) == formal
    assert script_text(parse_script(formal)) == text


def test_prompts_are_read_with_and_without_durations() -> None:
    text = (
        "a fox\n\n  [3s] a fox runs \r\n[ 2.5 seconds ]a fox sleeps\r[24F] a fox [sits]\n[1 frame] a fox\n[5 latent] b"
    )
    assert parse_script(text) == Script(
        (
            ScriptBeat("a fox"),
            ScriptBeat("a fox runs", Duration(3.0)),
            ScriptBeat("a fox sleeps", Duration(2.5)),
            ScriptBeat("a fox [sits]", Duration(24, "frames")),
            ScriptBeat("a fox", Duration(1, "frames")),
            ScriptBeat("b", Duration(5, "latent frames")),
        )
    )


@pytest.mark.parametrize(
    "line",
    [
        "Close-up: a fox",
        "a fox: red, (soft:1.2) \\(x\\) C:\\fox",
        "3s] a fox",
        "a fox # 3",
        'she says "no"',
        "loop",
        "subject a fox",
        "狐は走る、雪の中を",
        "🦊\u200d a fox\u2028b",
        "a ] = 50% [blend 8f]",
    ],
)
def test_plain_prompts_mean_themselves(line: str) -> None:
    expected = Script((ScriptBeat(line), ScriptBeat(line, Duration(2))))
    assert parse_script(f"{line}\n[2s] {line}") == expected


def test_behind_a_duration_a_prompt_may_begin_as_it_likes() -> None:
    for prompt in ("[wide] a fox", "# 1", "subject: a fox", "{a}"):
        assert parse_script(f"[2s] {prompt}").beats[0].prompt == prompt


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (r"\[3s] a", "[3s] a"),
        (r"\# a", "# a"),
        (r"\{a\|b} c", "{a|b} c"),
        (r"a \| subject: b", "a | subject: b"),
        (r"subject\: a", "subject: a"),
        (r"a \\| seed: 1", "a \\"),
        (r"a \\\| b", "a \\| b"),
        (r"a\nb", "a\nb"),
        (r"a\\nb", "a\\nb"),
        (r"a \(b\) \o \ c\ ".strip(), r"a \(b\) \o \ c\ ".strip()),
    ],
)
def test_a_backslash_takes_the_meaning_from_a_character(typed: str, meant: str) -> None:
    assert parse_script(typed).beats[0].prompt == meant


def test_names_of_files_keep_the_backslashes_between_folders() -> None:
    beat = parse_script(r"a | lora: wan\new\style 2.safetensors -0.5 | lora: 0.8 1 | lora: b").beats[0]
    assert beat.loras == (Lora(r"wan\new\style 2.safetensors", -0.5), Lora("0.8"), Lora("b"))


@pytest.mark.parametrize(
    ("line", "transition"),
    [
        ("[cut]", Transition("cut")),
        ("[ CUT  gap 0.5 s ]", Transition("cut", gap=Duration(0.5))),
        ("[blend]", Transition("blend")),
        ("[blend 8 frames]", Transition("blend", Duration(8, "frames"))),
        ("[route 2 latent frames]", Transition("route", Duration(2, "latent frames"))),
        ("[segments 2]", Transition("segments", segments=2)),
    ],
)
def test_transitions_stand_between_prompts(line: str, transition: Transition) -> None:
    assert parse_script(f"a\n# then\n{line}\n\nb").beats[1] == ScriptBeat("b", transition=transition)


@pytest.mark.parametrize(
    ("field", "subject"),
    [
        ("fox", Subject("fox", "fox")),
        ("the red fox from previous", Subject("the red fox", "the red fox", ("previous",))),
        ("fox = the red fox FROM Beat 1, first", Subject("fox", "the red fox", (0, "first"))),
        ("fox from none", Subject("fox", "fox", ())),
        ("man from mars", Subject("man from mars", "man from mars")),
        ("man from mars from first", Subject("man from mars", "man from mars", ("first",))),
        ('man = "man from first" from previous', Subject("man", "man from first", ("previous",))),
        ("a = b = c", Subject("a", "b = c")),
    ],
)
def test_subjects_have_a_name_words_and_sources(field: str, subject: Subject) -> None:
    assert parse_script(f"x\ny | Subject: {field}").beats[1].subjects == (subject,)


def test_a_common_prompt_may_end_before_the_last_step() -> None:
    for typed, until in (("", 0.2), (" until 12.5%", 0.125), (" UNTIL 7 %", 0.07)):
        script = parse_script(f"common: wait until dusk{typed}\na")
        assert (script.common_prompt, script.common_until) == ("wait until dusk", until)


def test_times_from_when_to_when_are_durations() -> None:
    text = "[00:00-00:10] a\n[0:10 - 1:00.5] b\n[2.5s] c\n[cut]\n[01:03\u20130:01:04] d"
    assert [beat.duration for beat in parse_script(text).beats] == [
        Duration(10),
        Duration(50.5),
        Duration(2.5),
        Duration(1),
    ]


@pytest.mark.parametrize(
    ("marked", "complaint"),
    [
        ("¦[3 m] a", "is neither a duration"),
        ("¦[3s a", "'[' without ']'"),
        ("¦[-3s] a", "is neither a duration"),
        ("¦[] a", "is neither a duration"),
        ("  [ ¦0s] a", "longer than zero"),
        ("[¦0f] a", "longer than zero"),
        ("[¦9999s] a", "at most 3600 seconds"),
        ("[¦2.5f] a", "whole numbers"),
        ("a\n  [3s]¦", "without a prompt"),
        ("[3s] ¦| seed: 1", "without a prompt"),
        ("[¦0:03] a", "write [3s] for a duration, or [0:00-0:03]"),
        ("¦[0:03-x] a", "is neither a duration"),
        ("[0:00-0:03] a\n[¦0:04-0:05] b", "begins at 4 seconds, but the prompts before it last 3"),
        ("[0:00-0:03] a\n[¦0:03-0:03] b", "longer than zero"),
        ("a\n[¦0:03-0:05] b", "all have durations in seconds"),
        ("[3f] a\n[¦0:03-0:05] b", "all have durations in seconds"),
        ("[3s] a\n[segments 1]\n[¦0:03-0:05] b", "no [segments]"),
        ("[3s] a\n[segments 1]\n[2s] b\n[¦0:05-0:06] b", "no [segments]"),
        ("¦[cut]\na", "no prompt above"),
        ("a\n¦[cut]", "no prompt follows"),
        ("a\n[cut]\n ¦[blend]\nb", "second transition"),
        ("a\n[cut] ¦b", "a line of its own"),
        ("a\n[cut ¦5f]\nb", "write [cut] or [cut gap 5f]"),
        ("a\n[cut ¦gap]\nb", "write [cut] or [cut gap 5f]"),
        ("a\n[cut gap ¦x]\nb", "is not a duration"),
        ("a\n[cut gap ¦0f]\nb", "longer than zero"),
        ("a\n[blend ¦8]\nb", "is not a duration; write [blend 8f]"),
        ("a\n[¦segments]\nb", "how many"),
        ("a\n[segments ¦2 x]\nb", "how many"),
        ("a\n[segments ¦65]\nb", "1 to 64"),
        ("a | ¦dog", "'dog' is not a field; fields are subject, source, strength, negative, lora, seed, weight"),
        ("a | ¦Weather: rain", "Write \\| for the character itself"),
        ("a |¦", "nothing after"),
        ("a | ¦| seed: 1", "nothing after"),
        ("a | ¦loop: yes", "on a line of its own above"),
        ("a | strength:¦", "has no value"),
        ("a | strength: ¦high", "is not a number"),
        ("a | strength: ¦11", "between 0 and 10"),
        ("a | strength: ¦-1", "between 0 and 10"),
        ("a | strength: 1 | ¦strength: 2", "given twice"),
        ("a | seed: ¦1.5", "not a whole number"),
        ("a | weight: ¦fox", "is not words and a weight"),
        ("a | weight: ¦1.5", "is not words and a weight"),
        ("a | weight: ¦a fox 11", "must be between 0 and 10"),
        ("a | weight: ¦a fox -5", "must be between 0 and 10"),
        ("a | weight: a fox 2 | weight: ¦a fox 3", "'a fox' is weighed twice"),
        ("a | seed: ¦99999999999", "must be between"),
        ("a | seed: ¦9999999999999999999", "not a whole number"),
        ("a | lora: ¦0.8", "without a file"),
        ("a | lora: ¦x 101", "between -100 and 100"),
        ("a | lora: x | lora: ¦y 101", "between -100 and 100"),
        ("a | source: ¦dog", "is not a source"),
        ("a | source: ¦first and", "is not a source"),
        ("a\nb | source: ¦first, first", "given twice"),
        ("a\nb | source: ¦beat 2", "beat 2 has beat 2 as a source; sources are earlier beats"),
        ("a\nb | source: ¦beat 0", "counted from 1"),
        ("a\nb | subject: x |\tsubject: ¦y from beat 7", "beat 2 has beat 7 as a source"),
        ("a | subject:¦", "has no value"),
        ("a | subject: ¦= fox", "lacks a name"),
        ("a | subject: ¦fox =", "lacks a name"),
        ("a | subject: ¦from first", "lacks a name"),
        ('a | subject: ¦""', "name must not be empty"),
        ("a | subject: fox | subject: ¦fox", "two subjects 'fox'"),
        ("a | subject: fox | subject: ¦none", "leave it or the other"),
        ("a | subject: ¦none = fox", "is not a name"),
        ("a | subject: ¦a\\nb", "line break"),
        ("¦\\n", "prompt must not be empty"),
        ("a\n\n ¦negative: b", "after the first prompt"),
        ("a\n¦strength: 1", "cannot begin a line"),
        ("¦strength: 1\na", "cannot begin a line; write it after a prompt"),
        ("prompt:¦\na", "has no value"),
        ("negative:¦ \na", "has no value"),
        ("prompt: a\n¦prompt: b\nc", "given twice"),
        ("prompt: a | ¦seed: 1\nb", "only prompts have fields"),
        ("subject: ¦fox from beat 1\na\nb", "only be first or previous"),
        ("subject: fox\nsubject: ¦fox\na", "two subjects"),
        ("common: a ¦until 120%\na", "between 0 and 1"),
        ("common: a ¦until 20\na", "write until 20%"),
        ("common: ¦until 20%\na", "no text before"),
        ("loop: ¦maybe\na", "loop: yes or loop: no"),
        ("¦| seed: 1", "no prompt is above this line"),
        ("a\n[cut]\n¦| seed: 1\nb", "no prompt is above this line"),
        ("a\n  | seed: 1\n  | ¦seed: 1", "given twice"),
        ('{"version": 1,\n "beats": ¦}', "read as JSON"),
        ("{¦red|blue} fox", "a prompt that does begins with \\{"),
    ],
)
@given(st.integers(0, 3), st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=6)
def test_what_is_wrong_is_named_by_its_line_and_column(marked: str, complaint: str, empty: int, ending: str) -> None:
    lines = [*([""] * empty), *marked.split("\n")]
    line = next(number for number, text in enumerate(lines, start=1) if "¦" in text)
    text = ending.join(lines).replace("¦", "")
    with pytest.raises(ScriptError) as raised:
        parse_script(text)
    assert str(raised.value).startswith(f"prompts, line {line}, column {lines[line - 1].index('¦') + 1}: ")
    assert complaint in str(raised.value)


@pytest.mark.parametrize("text", ["", "  \n \n", "# a fox", "prompt: a fox"])
def test_no_prompt_is_an_error(text: str) -> None:
    with pytest.raises(ScriptError, match=r"^prompts: there is no prompt; write one per line\."):
        parse_script(text)


def with_beat(**entries: Any) -> dict[str, Any]:
    return {"version": 1, "beats": [{"prompt": "a"}, {"prompt": "b", **entries}]}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "prompts: 'version' is missing"),
        ({"version": 1}, "prompts: 'beats' is missing"),
        ({"version": 2, "beats": []}, "prompts, version: is 2"),
        ({"version": True, "beats": []}, "prompts, version: must be a whole number"),
        ({"version": 1, "beats": []}, "prompts, beats: there is no prompt; write at least one"),
        ({"version": 1, "beats": {}}, "prompts, beats: must be a list"),
        ({"version": 1, "beats": ["a"]}, "prompts, beats[0] (beat 1): must be an object with prompt, duration"),
        ({"version": 1, "beats": [{}]}, "prompts, beats[0] (beat 1): has no prompt"),
        ({"version": 1, "beats": [{"prompt": " "}]}, "prompts, beats[0].prompt (beat 1): prompt must not be empty"),
        (with_beat() | {"title": ""}, "prompts, title: is unknown; write one of version, prompt"),
        (with_beat() | {"a b": ""}, 'prompts, ["a b"]: is unknown'),
        (with_beat() | {"loop": 1}, "prompts, loop: must be true or false"),
        (with_beat() | {"prompt": None}, "prompts, prompt: must be text"),
        (with_beat() | {"common_until": 0.5}, "prompts, common_until: it needs a common prompt"),
        (
            with_beat() | {"subjects": [{"name": "x", "sources": [1]}]},
            "prompts, subjects[0].sources: 'x' belongs to all beats",
        ),
        (with_beat(lenght=1), "prompts, beats[1].lenght (beat 2): is unknown"),
        (with_beat(prompt=1), "prompts, beats[1].prompt (beat 2): must be text"),
        (with_beat(duration=3), "prompts, beats[1].duration (beat 2): must be an object with seconds, frames"),
        (with_beat(duration={}), "prompts, beats[1].duration (beat 2): must have one unit"),
        (with_beat(duration={"seconds": 1, "frames": 2}), "prompts, beats[1].duration (beat 2): must have one unit"),
        (with_beat(duration={"seconds": "3"}), "prompts, beats[1].duration.seconds (beat 2): must be a number"),
        (with_beat(duration={"frames": 2.5}), "prompts, beats[1].duration.frames (beat 2): 2.5 frames"),
        (with_beat(duration={"seconds": 10**400}), "prompts, beats[1].duration.seconds (beat 2): is too large"),
        (with_beat(transition="cut"), "prompts, beats[1].transition (beat 2): must be an object"),
        (with_beat(transition={}), "prompts, beats[1].transition (beat 2): kind must be one of cut, blend"),
        (with_beat(transition={"kind": "cut", "segments": 2}), "prompts, beats[1].transition.segments (beat 2): a cut"),
        (with_beat(strength=True), "prompts, beats[1].strength (beat 2): must be a number"),
        (with_beat(strength=30), "prompts, beats[1].strength (beat 2): strength is 30"),
        (with_beat(weights=[{"words": "fox"}]), "prompts, beats[1].weights[0] (beat 2): has no weight"),
        (
            with_beat(weights=[{"words": "fox", "weight": -1}]),
            "prompts, beats[1].weights[0].weight (beat 2): weight is",
        ),
        (with_beat(seed_offset=1.5), "prompts, beats[1].seed_offset (beat 2): must be a whole number"),
        (with_beat(sources="first"), "prompts, beats[1].sources (beat 2): must be a list"),
        (with_beat(sources=["last"]), 'prompts, beats[1].sources[0] (beat 2): must be "first", "previous" or'),
        (with_beat(sources=[2]), "prompts, beats[1].sources (beat 2): beat 2 has beat 2 as a source"),
        (with_beat(sources=[0]), "prompts, beats[1].sources (beat 2): beat 2 has beat 0 as a source"),
        (with_beat(subjects=[{}]), "prompts, beats[1].subjects[0] (beat 2): has no name"),
        (with_beat(subjects=[{"name": "x"}] * 2), "prompts, beats[1].subjects[1] (beat 2): there are two subjects 'x'"),
        (with_beat(loras=[{"strength": 1}]), "prompts, beats[1].loras[0] (beat 2): has no file"),
        (
            with_beat(loras=[{"file": "x", "strength": 200}]),
            "prompts, beats[1].loras[0].strength (beat 2): strength is",
        ),
    ],
)
def test_what_is_wrong_in_json_is_named_by_its_path(value: object, message: str) -> None:
    with pytest.raises(ScriptError) as raised:
        parse_script(json.dumps(value))
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"version": NaN}', "NaN is not a number"),
        ('{"version": -Infinity}', "-Infinity is not a number"),
        ('{"version": 1, "version": 1}', "'version' twice"),
        ('{"a":' * 100_000, "too many nested brackets|read as JSON"),
        ('{"version": ' + "9" * 10_000 + "}", "too long to read|must be a whole number"),
        ('{"version": 1, "beats": [{"prompt": "a", "strength": 1e999}]}', "strength is inf"),
    ],
)
def test_json_that_no_script_could_use_is_an_error(text: str, complaint: str) -> None:
    with pytest.raises(ScriptError, match=complaint):
        parse_script(text)


def test_json_prompts_may_have_line_breaks_of_any_kind_and_spaces_around_them() -> None:
    script = parse_script(json.dumps({"version": 1, "beats": [{"prompt": " a\r\nb\rc\n"}]}))
    assert script == Script((ScriptBeat("a\nb\nc"),)) == parse_script(r"a\nb\nc")


def check_reading(text: str) -> None:
    """A text is a script that can be written and read again, or an error with a place inside the text."""
    found = read_or_error(text)
    if isinstance(found, Script):
        assert parse_script(script_text(found)) == found == parse_script(script_json(found))
        return
    place = PLACE.match(found)
    assert place is not None
    if place[1] is not None:
        line = re.split(r"\r\n|\r|\n", text)[int(place[1]) - 1]
        assert text.lstrip().startswith("{") or 1 <= int(place[2]) <= len(line) + 1


@settings(max_examples=500)
@given(RANDOM)
def test_any_text_is_a_script_or_an_error_with_its_place(random: Random) -> None:
    check_reading(like_grammar(random, most=40))


@settings(max_examples=500)
@given(RANDOM)
def test_a_text_that_was_changed_is_a_script_or_an_error_with_its_place(random: Random) -> None:
    script = random_script(random)
    text = random.choice([FULL, script_text(script), script_json(script)])
    for _ in range(random.randint(1, 4)):
        start = random.randint(0, len(text))
        text = text[:start] + like_grammar(random, most=3) + text[start + random.choice([0, 0, 1, 5]) :]
    check_reading(text)


@settings(max_examples=500)
@given(RANDOM)
def test_json_with_another_value_somewhere_is_a_script_or_an_error(random: Random) -> None:
    value = json.loads(script_json(random_script(random)))
    inner: Any = value
    while True:
        key = random.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
        if not (isinstance(inner[key], dict | list) and inner[key]) or random.random() < 0.2:
            break
        inner = inner[key]
    others = [None, True, -1, 0, 2.5, 1e300, 10**400, "", " fox\n", "first", [], {}, [[]], [1, "x"], {"prompt": "x"}]
    inner[key] = random.choice([*others, like_grammar(random)])
    check_reading(json.dumps(value))


@pytest.mark.parametrize(
    "unit",
    [
        " ",
        "\\",
        "|",
        "[",
        "]",
        "a |",
        "[3s] a\n",
        "a | subject: from ",
        "=",
        "until ",
        "0",
        "0:",
        "first and ",
        "\n",
        '"',
    ],
)
@pytest.mark.parametrize(
    "before", ["", "a | subject: x", "a | source: ", "common: ", "[", "[3s", "[0:00-", "a | lora: "]
)
def test_no_text_keeps_the_reader_busy_for_ever(before: str, unit: str) -> None:
    check_reading(before + unit * (10_000 // len(unit)))


def plan_or_error(script: Script, data: tuple[int, int, int]) -> Timeline | str:
    window, overlap, extra = data
    try:
        return plan_timeline(script, window, min(overlap, window - 1), 16, 4, extra, extra)
    except TimelineError as reason:
        return str(reason)


@settings(max_examples=300)
@given(RANDOM)
def test_every_script_is_planned_alike_from_both_forms_or_its_beat_is_named(random: Random) -> None:
    script = random_script(random, SHORT)
    data = random.randint(1, 25), random.randint(0, 9), random.randint(0, 2)
    found = plan_or_error(script, data)
    assert found == plan_or_error(parse_script(script_text(script)), data)
    assert found == plan_or_error(parse_script(script_json(script)), data)
    if isinstance(found, str):
        number = re.match(r"prompt (\d+): ", found)
        assert number is not None and 2 <= int(number[1]) <= len(script.beats)
    else:
        assert [beat.script for beat in found.beats] == list(script.beats)


def test_what_a_script_does_not_say_is_not_written() -> None:
    script = Script((ScriptBeat("a"), ScriptBeat("b", Duration(3))))
    assert script_text(script) == "a\n[3s] b\n"
    assert json.loads(script_json(script)) == {
        "version": 1,
        "beats": [{"prompt": "a"}, {"prompt": "b", "duration": {"seconds": 3}}],
    }
    assert "negative" in script_json(replace(script, beats=(ScriptBeat("a", negative=""),)))


def test_the_text_form_is_written_as_a_person_would() -> None:
    assert script_text(parse_script(FULL)) == FULL
