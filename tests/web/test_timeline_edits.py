"""Edits of the timeline editor, run under Node.js: parsed by Python, the new text differs as intended, nowhere else."""

import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import Any

import pytest

from devtools.browser import REQUIRED_VARIABLE, BrowserError, find_node
from devtools.environment import ROOT
from kvshare_core.script.editor_places import read_film
from kvshare_core.script.film import Duration, Script, ScriptBeat, Source, Subject, Transition, Unit
from kvshare_core.script.parsing import parse_script
from kvshare_core.script.text_form import duration_text, script_text, transition_text
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.support.random_scripts import random_script

RUNNER = ROOT / "tests" / "timeline_edits.mjs"
SCRIPTS = 1000
SHORT: dict[Unit, float] = {"seconds": 60.0, "frames": 1000.0, "latent frames": 200.0}

Call = tuple[str, list[Any]]
Order = list[tuple[int, bool]]
"""The beat that stands in each place of a rearranged film, and whether it is a copy."""


@dataclass(frozen=True)
class Film:
    """A script, a text that means it, and what an editor is told of the text."""

    script: Script
    text: str

    @cached_property
    def beats(self) -> list[Any]:
        return read_film(self.text)[1]["beats"]

    def any_beat(self, random: Random) -> int:
        return random.randrange(len(self.script.beats))


Edit = tuple[Film, Call, Script]
"""A film, what is called with its text and beats before other arguments, and what it then should say."""


def run_edits(calls: Sequence[Call]) -> list[Any]:
    answer = subprocess.run([find_node(), RUNNER], input=json.dumps(calls).encode(), capture_output=True, check=True)
    return json.loads(answer.stdout)


def check(edits: Sequence[Edit]) -> None:
    """Each edit leads to its script, and leaves comments and empty lines as they are."""
    assert len(edits) > SCRIPTS / 2
    calls = [(name, [film.text, film.beats, *given]) for film, (name, given), _ in edits]
    for (film, call, wanted), result in zip(edits, run_edits(calls), strict=True):
        assert parse_script(result) == wanted, (call, film.text, result)
        assert remarks(result) == remarks(film.text), (call, film.text, result)


def remarks(text: str) -> list[str]:
    """Its comments and empty lines. Those between the lines of a beat go with it, so their order does not matter."""
    lines = re.split(r"\r\n|\r|\n", text)
    return sorted(line for line in lines if not line.strip() or line.strip().startswith("#"))


def typed(random: Random, script: Script) -> str:
    """A script as a person might type it: with comments, empty lines, spaces, and fields on lines of their own."""
    lines: list[str] = []
    for line in script_text(script).removesuffix("\n").split("\n"):
        while random.random() < 0.2:
            lines.append(random.choice(["", "# a comment", "   ", "  # [3s] | subject: no"]))
        head, *fields = line.split(" | ")
        lines.append(head)
        for field in fields:
            if random.random() < 0.5:
                lines[-1] += random.choice([" | ", " |", "  |   "]) + field
            else:
                lines += ["# between"] * (random.random() < 0.1)
                lines.append(random.choice(["", "  "]) + "| " + field + random.choice(["", " "]))
    return random.choice(["\n", "\n", "\r\n", "\r"]).join([*lines, *[""] * random.randrange(3)])


@pytest.fixture(scope="module")
def films() -> list[Film]:
    """Films of every kind, and, one in three, some with times from when to when."""
    found: list[Film] = []
    for number in range(SCRIPTS):
        random = Random(number)
        script = random_script(random, SHORT)
        text = typed(random, script)
        if number % 3 == 0:
            script, text = with_clocks(random, script)
        assert parse_script(text) == script
        found.append(Film(script, text))
    return found


def with_clocks(random: Random, script: Script) -> tuple[Script, str]:
    """The film with durations in seconds, all or those of its last beats as times from when to when."""
    lengths = [random.randint(1, 300) for _ in script.beats]
    beats = [
        replace(
            beat,
            duration=Duration(length / 10),
            transition=beat.transition if beat.transition and beat.transition.kind != "segments" else None,
        )
        for beat, length in zip(script.beats, lengths, strict=True)
    ]
    script = replace(script, beats=tuple(beats))
    places = read_film(text := typed(random, script))[1]["beats"]
    first = random.randrange(len(beats))
    for number in reversed(range(first, len(beats))):
        start, stop = (clock(sum(lengths[:end])) for end in (number, number + 1))
        begin, end = in_characters(text, places[number]["places"]["duration"])
        text = f"{text[:begin]}[{start}-{stop}]{text[end:]}"
    return script, text


def in_characters(text: str, place: Sequence[int]) -> list[int]:
    units = text.encode("utf-16-le")
    return [len(units[: 2 * unit].decode("utf-16-le")) for unit in place]


def clock(tenths: int) -> str:
    return f"{tenths // 600}:{tenths % 600 // 10:02d}.{tenths % 10}"


def with_beat(script: Script, index: int, **changes: Any) -> Script:
    beats = list(script.beats)
    beats[index] = replace(beats[index], **changes)
    return replace(script, beats=tuple(beats))


def rearranged(script: Script, order: Order) -> Script:
    """What a film with its beats in another order should say."""
    beats: list[ScriptBeat] = []
    for place, (old, copy) in enumerate(order):
        beat = script.beats[old]
        transition = None if place == 0 or copy else beat.transition
        if old == 0 and place > 0 and not copy:
            transition = script.beats[order[0][0]].transition
        subjects = beat.subjects and tuple(
            replace(subject, sources=renumbered(subject.sources, order, place)) for subject in beat.subjects
        )
        sources = renumbered(beat.sources, order, place)
        beats.append(replace(beat, transition=transition, subjects=subjects, sources=sources))
    return replace(script, beats=tuple(beats))


def renumbered(sources: tuple[Source, ...] | None, order: Order, place: int) -> tuple[Source, ...] | None:
    if sources is None:
        return None
    kept: list[Source] = []
    for source in sources:
        if not isinstance(source, int):
            kept.append(source)
        elif (source, False) in order and order.index((source, False)) < place:
            kept.append(order.index((source, False)))
    return tuple(kept) if kept or not sources else None


def unchanged(film: Film) -> Order:
    return [(number, False) for number in range(len(film.script.beats))]


def written_subjects(beat: ScriptBeat) -> list[str]:
    """The values of a beat's subject fields."""
    line = script_text(Script((ScriptBeat("x", subjects=beat.subjects),))).removesuffix("\n")
    return line.split(" | subject: ")[1:]


@pytest.fixture(autouse=True, scope="module")
def node() -> None:
    """Node.js comes with what drives the browser."""
    try:
        find_node()
    except BrowserError as reason:
        if os.environ.get(REQUIRED_VARIABLE):
            raise
        pytest.skip(str(reason))


def test_prompt(films: list[Film]) -> None:
    random = Random(1)
    edits: list[Edit] = []
    for film in films:
        index, prompt = film.any_beat(random), random_script(random, SHORT).beats[0].prompt
        edits.append((film, ("setPrompt", [index, prompt]), with_beat(film.script, index, prompt=prompt)))
    check(edits)


def test_duration(films: list[Film]) -> None:
    random = Random(1)
    edits: list[Edit] = []
    for film in films:
        index, duration = film.any_beat(random), random_script(random, SHORT).beats[0].duration
        written = None if duration is None else duration_text(duration)
        edits.append((film, ("setDuration", [index, written]), with_beat(film.script, index, duration=duration)))
    check(edits)


def test_transition(films: list[Film]) -> None:
    random = Random(1)
    edits: list[Edit] = []
    for film in films:
        transition = random_script(random, SHORT).beats[-1].transition
        for index in range(1, len(film.script.beats)):
            written = None if transition is None else transition_text(transition)
            wanted = with_beat(film.script, index, transition=transition)
            edits.append((film, ("setTransition", [index, written]), wanted))
    check(edits)


def test_subjects(films: list[Film]) -> None:
    random = Random(1)
    edits: list[Edit] = []
    for film in films:
        index, other = film.any_beat(random), random_script(random, SHORT).beats[0]
        values = [] if other.subjects is None else written_subjects(other)
        wanted = with_beat(film.script, index, subjects=other.subjects)
        edits.append((film, ("setFields", [index, "subject", values]), wanted))
    check(edits)


def test_order(films: list[Film]) -> None:
    random = Random(1)
    edits: list[Edit] = []
    for film in films:
        start, stop = film.any_beat(random), film.any_beat(random)
        order = unchanged(film)
        order.insert(stop, order.pop(start))
        edits.append((film, ("moveBeat", [start, stop]), rearranged(film.script, order)))
    check(edits)


def test_duplicate(films: list[Film]) -> None:
    random = Random(1)
    edits: list[Edit] = []
    for film in films:
        index, order = film.any_beat(random), unchanged(film)
        order.insert(index + 1, (index, True))
        edits.append((film, ("duplicateBeat", [index]), rearranged(film.script, order)))
    check(edits)


def test_split(films: list[Film]) -> None:
    random = Random(1)
    edits: list[Edit] = []
    for film in films:
        index, order = film.any_beat(random), unchanged(film)
        order.insert(index + 1, (index, True))
        wanted = with_beat(rearranged(film.script, order), index, duration=Duration(1.5))
        wanted = with_beat(wanted, index + 1, duration=Duration(40, "frames"))
        edits.append((film, ("splitBeat", [index, ["1.5s", "40f"]]), wanted))
    check(edits)


def test_delete(films: list[Film]) -> None:
    random = Random(1)
    edits: list[Edit] = []
    for film in films:
        if len(film.script.beats) > 1:
            index, order = film.any_beat(random), unchanged(film)
            del order[index]
            edits.append((film, ("deleteBeat", [index]), rearranged(film.script, order)))
    check(edits)


def check_insertions(edits: Sequence[tuple[Film, int, str, Script]]) -> None:
    """Lines behind a beat lead to their script, by what Python reads of the film with the lines at its end."""
    longer = run_edits([("appended", [film.text, lines]) for film, _, lines, _ in edits])
    results = run_edits(
        [
            ("insertBeats", [film.text, read_film(text)[1]["beats"], index, lines])
            for (film, index, lines, _), text in zip(edits, longer, strict=True)
        ]
    )
    for (film, index, lines, wanted), result in zip(edits, results, strict=True):
        assert parse_script(result) == wanted, (index, lines, film.text, result)
        assert remarks(result) == sorted(remarks(film.text) + remarks(lines)), (index, lines, film.text, result)


def test_insert(films: list[Film]) -> None:
    random = Random(1)
    edits: list[tuple[Film, int, str, Script]] = []
    for film in films[::2]:
        index, order = film.any_beat(random), unchanged(film)
        order[index + 1 : index + 1] = [(index, True)] * 2
        wanted = rearranged(film.script, order)
        beats = list(wanted.beats)
        source = film.any_beat(random)
        number, sources = f"beat {source + 1}", (source,) if source <= index else None
        blend = Transition("blend", Duration(8, "frames"))
        beats[index + 1 : index + 3] = [
            ScriptBeat("a new scene", sources=sources, transition=blend),
            ScriptBeat("another", Duration(2), subjects=(Subject("fox", "fox", sources),)),
        ]
        lines = f"# new\n[blend 8f]\na new scene | source: {number}\n[2s] another\n| subject: fox from {number}"
        edits.append((film, index, lines, replace(wanted, beats=tuple(beats))))
    check_insertions(edits)


def test_paste(films: list[Film]) -> None:
    """A beat behind any other is what it is behind itself, where it is duplicated."""
    random = Random(1)
    chosen = [(film, film.any_beat(random)) for film in films[::2]]
    texts = run_edits([("beatText", [film.text, film.beats[copied]]) for film, copied in chosen])
    edits: list[tuple[Film, int, str, Script]] = []
    for (film, copied), text in zip(chosen, texts, strict=True):
        index, order = film.any_beat(random), unchanged(film)
        order.insert(index + 1, (copied, True))
        edits.append((film, index, text, rearranged(film.script, order)))
    check_insertions(edits)


def test_text_of_a_beat_reads_as_the_beat(films: list[Film]) -> None:
    random = Random(1)
    chosen = [(film, film.any_beat(random)) for film in films[::2]]
    texts = run_edits([("beatText", [film.text, film.beats[index]]) for film, index in chosen])
    for (film, index), text in zip(chosen, texts, strict=True):
        beat = replace(film.script.beats[index], transition=None)
        assert parse_script("x\n" * max(index, 1) + text).beats[max(index, 1) :] == (beat,)


@dataclass(frozen=True)
class Timed:
    """A film with what its plan depends on, and what the editor is told of its times."""

    script: Script
    window: int
    overlap: int
    fps: float
    scale: int

    @cached_property
    def timeline(self) -> Timeline:
        return plan_timeline(self.script, self.window, self.overlap, self.fps, self.scale)

    @cached_property
    def told(self) -> dict[str, Any]:
        beats = read_film(script_text(self.script))[1]["beats"]
        for beat, planned in zip(beats, self.timeline.beats, strict=True):
            beat |= {"start": planned.start, "stop": planned.stop}
        return {"fps": self.fps, "scale": self.scale, "loop": self.script.loop, "beats": beats}

    @property
    def lengths(self) -> list[int]:
        return [beat.stop - beat.start for beat in self.timeline.beats]

    def with_durations(self, index: int, *written: str) -> "Timed":
        """The film with beats of these durations in the place of one."""
        durations = [parse_script(f"[{text}] p").beats[0].duration for text in written]
        parts = [replace(self.script.beats[index], duration=duration) for duration in durations]
        parts[1:] = [replace(part, transition=Transition("cut")) for part in parts[1:]]
        beats = self.script.beats[:index] + tuple(parts) + self.script.beats[index + 1 :]
        return replace(self, script=replace(self.script, beats=beats))


def any_timed(random: Random) -> Timed:
    def duration() -> Duration | None:
        unit = random.choice(["seconds", "seconds", "frames", "frames", "latent frames", None])
        if unit == "seconds":
            return Duration(random.choice([round(random.uniform(0.05, 5), random.randint(1, 4)), random.randint(1, 5)]))
        return None if unit is None else Duration(random.randint(1, 60), unit)

    transitions = (None, None, Transition("cut"), Transition("segments", segments=random.randint(1, 2)))
    beats = tuple(
        ScriptBeat("p", duration(), random.choice(transitions) if number > 0 else None)
        for number in range(random.randint(1, 8))
    )
    window = random.randint(2, 21)
    script = Script(beats, loop=random.random() < 0.5)
    fps, scale = random.choice([8.0, 12.0, 16.0, 23.976, 24.0, 25.0, 30.0]), random.choice([1, 4, 6, 8])
    return Timed(script, window, random.randrange(min(window, 4)), fps, scale)


def check_lengths(film: Timed, index: int, after: Timed, parts: Sequence[int]) -> None:
    """The beat became parts of these lengths, and no other has another one."""
    wanted = [*film.lengths[:index], *parts, *film.lengths[index + 1 :]]
    # What a fade takes of a beat without a duration depends on how much the beat before it has to give.
    plain = min(film.lengths[index], *parts) >= film.overlap
    given = [plain or beat.duration is not None for beat in after.script.beats]
    found = [length if same else None for length, same in zip(after.lengths, given, strict=True)]
    assert found == [length if same else None for length, same in zip(wanted, given, strict=True)], (film, index, after)


def test_resized_beat_is_planned_as_it_is_shown() -> None:
    films = [any_timed(Random(number)) for number in range(SCRIPTS)]
    random = Random(1)
    chosen = [(film, random.randrange(len(film.lengths)), random.randint(1, 30)) for film in films]
    texts = run_edits([("durationText", [film.told, index, frames]) for film, index, frames in chosen])
    for (film, index, frames), text in zip(chosen, texts, strict=True):
        after = film.with_durations(index, text)
        if index == 0 and frames == 1 and not film.script.loop:
            # The one picture of the first latent frame may be less than what the film says beyond latent frames.
            assert after.lengths[0] == 1
        else:
            check_lengths(film, index, after, [frames])


def test_resized_beat_is_written_in_few_digits() -> None:
    film = Timed(Script((ScriptBeat("p", Duration(2)), ScriptBeat("p", Duration(1.25)))), 21, 2, 24.0, 4)
    first, second = film.lengths
    calls = [("durationText", [film.told, 0, first + 1]), ("durationText", [film.told, 1, second + 3])]
    assert run_edits(calls) == ["2.17s", "1.75s"]


def test_parts_of_a_split_beat_are_planned_as_they_are_shown() -> None:
    films = [any_timed(Random(number)) for number in range(SCRIPTS)]
    random = Random(1)
    chosen = [(film, random.randrange(len(film.lengths))) for film in films]
    chosen = [(film, index, random.randint(1, max(1, film.lengths[index] - 1))) for film, index in chosen]
    results = run_edits([("splitDurations", [film.told, index, frames]) for film, index, frames in chosen])
    split = 0
    for (film, index, frames), texts in zip(chosen, results, strict=True):
        if texts is None:
            assert film.lengths[index] == 1
            continue
        split += 1
        check_lengths(film, index, film.with_durations(index, *texts), [frames, film.lengths[index] - frames])
    assert split > SCRIPTS / 2


def test_the_plan_says_what_the_first_step_takes_more() -> None:
    sharing = {
        "off": None,
        "bits": 16,
        "expected_bytes": 1 << 20,
        "call_bytes": 1 << 20,
        "blocks": "0-1",
        "steps": "0-3",
        "all_steps": 4,
        "limited": False,
        "exact": False,
        "bytes": 3 << 20,
        "device": "cuda",
        "device_bytes": 3 << 20,
        "extra": 0.3,
        "most_extra": 0.5,
    }
    answer = {"frames": 33, "fps": 8, "latent_frames": 9, "segments": [0, 1], "window": 5, "windows_extra": 0.1}
    shown = [
        run_edits([("planFacts", [{**answer, "sharing": {**sharing, "finding": finding}}])])[0] for finding in (0, 1, 3)
    ]
    assert [[fact for fact in facts if fact[0] == "First step"] for facts in shown] == [
        [],
        [["First step", "1 more evaluation", "of segments, to find the subjects"]],
        [["First step", "3 more evaluations", "of segments, to find the subjects"]],
    ]


@pytest.mark.parametrize(
    ("sharing", "fact"),
    [
        ({}, ["about 3 GB", "at most 27 GB; 16-bit numbers in VRAM"]),
        (
            {"bits": 8, "device_bytes": 5 * 10**9},
            ["about 3 GB", "at most 27 GB; 8-bit numbers in VRAM up to 5 GB, the rest in system RAM"],
        ),
        ({"device": "cpu"}, ["about 3 GB", "at most 27 GB; 16-bit numbers in system RAM"]),
        ({"exact": True}, ["27 GB", "16-bit numbers in VRAM"]),
        ({"bytes": 2_940_000, "expected_bytes": 2_940_000}, ["up to 2.9 MB", "16-bit numbers in VRAM"]),
    ],
)
def test_memory_is_told_in_units_that_people_know(sharing: dict[str, Any], fact: list[str]) -> None:
    held = {
        "bytes": 27 * 10**9,
        "expected_bytes": 3 * 10**9,
        "device_bytes": 27 * 10**9,
        "exact": False,
        "device": "cuda",
    }
    others = {
        "off": None,
        "blocks": "0",
        "steps": "0",
        "all_steps": 2,
        "limited": False,
        "bits": 16,
        "finding": 0,
        "call_bytes": 0,
    }
    answer = {"frames": 33, "fps": 8, "latent_frames": 9, "segments": [0, 1], "window": 5, "windows_extra": 0.1}
    costs = {"extra": 0.3, "most_extra": 0.5}
    (facts,) = run_edits([("planFacts", [{**answer, "sharing": {**held, **others, **costs, **sharing}}])])
    assert [more for name, *more in facts if name == "Keys and values"] == [fact]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_pasted_prose_is_joined_and_nothing_else(ending: str) -> None:
    before = f"a fox runs{ending}a fox sleeps"
    prose = ["It was a dark night, and", "a fox ran over the snow."]
    pasted = f"a fox runs{ending}{ending.join(prose)}{ending}a fox sleeps"
    lines = f"a fox runs{ending}[3s] a fox goes home{ending}[3s] a fox eats its fish{ending}a fox sleeps"
    typed_on = f"a fox runs{ending}a fox sleeps under a tree"
    found = run_edits([("pastedProse", [before, text]) for text in (pasted, lines, typed_on)])
    assert [one and (one["joined"], one["lines"]) for one in found] == [
        (f"a fox runs{ending}{' '.join(prose)}{ending}a fox sleeps", 2),
        None,
        None,
    ]
