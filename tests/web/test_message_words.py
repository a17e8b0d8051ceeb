"""What Python says in the editor before a run, in every language of the pack."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devtools.environment import ROOT
from kv_share.nodes.plan_answer import NAMES
from kvshare_core.config import KVShareConfig, MemorySettings
from kvshare_core.host.editor.live_plan import Film, Surroundings, tell
from kvshare_core.host.editor.remarks import too_large
from kvshare_core.host.loading.model_headers import facts_of
from tests.support.languages import SCRIPTS, in_every_language
from tests.support.refusals import CORE, UNREADABLE, refusals, refusing_lines

SHAPES: list[dict[str, Any]] = [
    {"prompts": "a fox\n[blend 30l]\na dog"},
    {"prompts": "[2l] a fox\n[blend 5l]\na dog"},
    {"prompts": "a fox", "sampling_num_frames": 5, "overlap_size": 9},
    {
        "prompts": "[9000s] a fox\n[9000s] a dog\n[9000s] a cat\n[9000s] a cat\n[9000s] a cat\n[9000s] a cat",
        "fps": 200.0,
    },
    {"prompts": "[1s] a fox"},
    {"prompts": "a fox\n[blend 7f]\na dog"},
    {"prompts": "a fox | negative: blurry\na dog", "negative_prompt": "grey"},
]
AROUND: list[dict[str, Any]] = [
    {"subject": "fox"},
    {"subject": "dogs"},
    {"subject": ","},
    {"config": {"mode": "off"}},
    {"config": {"strength": 0.0}},
    {"config": {"step_idx": (999,)}},
    {"config": {"is_edit": True}},
    {"config": {"share_subject": False, "share_background": True}},
    {"alone": True, "config": None},
    {"workers": 0},
    {"workers": 2},
    {"workers": 2, "config": {"sources": "previous"}},
    {"workers": 2, "config": {"order": "chain"}},
    {"notes": ("KV Sharing Config: strength comes from another node; 0.5 is assumed here.",)},
]


def messages() -> Iterator[str]:
    """Everything that an editor is told of those films, and what it offers."""
    answers = [tell(Film(text), Surroundings()) for text in UNREADABLE]
    answers += [tell(Film(**shape), Surroundings()) for shape in SHAPES]
    for around in AROUND:
        given = KVShareConfig(**around["config"]) if around.get("config") else KVShareConfig()
        config = None if around.get("alone") else given
        rest = {key: value for key, value in around.items() if key != "config"}
        film = Film("a fox runs\na dog runs | lora: x.safetensors", width=96, height=96)
        answers.append(tell(film, Surroundings(facts_of("embedded"), config, steps=4, **rest)))
    one = Surroundings(facts_of("embedded"), KVShareConfig(), subject="fox")
    weights = ("weight: foxes 2", "weight: cloud 2", "weight: fox 2 | weight: FOX 3")
    answers += [tell(Film(f"a fox runs | {weight}"), one) for weight in weights]
    edit = Surroundings(facts_of("embedded"), KVShareConfig(is_edit=True))
    answers += [tell(Film(text), edit) for text in ("a fox\n[cut]\na dog", "[2l] a fox\n[cut]\n[2l] a dog")]
    answers += [
        tell(Film("a fox runs"), edit),
        tell(Film("a fox runs"), one),
        tell(Film("subject: fox\na fox runs\na fox sits"), one),
    ]
    divided = Surroundings(facts_of("embedded"), KVShareConfig(), subject="fox", workers=2)
    answers.append(tell(Film("a fox runs\na fox sits\na fox runs\na fox sits"), divided))
    for answer in answers:
        remarks = [answer["error"], *answer["problems"], *answer["warnings"]]
        yield from (remark["message"] for remark in remarks if remark)
        yield from (way["label"] for remark in remarks if remark for way in remark.get("ways", ()))
        yield from answer["notes"]
        yield from filter(None, [(answer.get("sharing") or {}).get("off")])
    for memory in (MemorySettings(), MemorySettings(dtype="fp8")):
        remark = too_large(KVShareConfig(memory=memory), 9 * 10**9, 4 * 10**9, "system RAM")
        assert remark is not None
        yield remark.message
    for refusal in refusals():
        yield refusal.message


REFUSING = (
    "config.py",
    "families/__init__.py",
    "host/editor/widget_values.py",
    "plan/model_fit.py",
    "script/field_values.py",
    "script/film.py",
    "script/foreign_marks.py",
    "script/json_form.py",
    "script/text_reader.py",
    "timeline/limits.py",
    "timeline/planning.py",
)
"""Files of which everything that they refuse is said in the editor."""

ENGLISH = re.compile(r"[a-z']+(?: [a-z']+){2}")
"""Three words, which no translation has, but for those of films and examples."""

OF_FILMS = re.compile(r"the red fox|a fox runs|a dog runs|a fox sits|a fox, a dog|fox(?: fox)+")


@pytest.fixture(scope="module")
def told() -> dict[str, list[str]]:
    return in_every_language(list(dict.fromkeys(messages())))


def test_english_messages_stay_as_python_says_them(told: dict[str, list[str]]) -> None:
    assert told["en"] == list(dict.fromkeys(messages())) and len(told["en"]) > 50


@pytest.mark.parametrize("language", SCRIPTS)
def test_every_message_before_a_run_is_translated(told: dict[str, list[str]], language: str) -> None:
    texts = (OF_FILMS.sub("", text) for text in told[language])
    assert [text for text in texts if not SCRIPTS[language].search(text) or ENGLISH.search(text)] == []


@pytest.mark.parametrize("file", REFUSING)
def test_everything_that_is_refused_before_a_run_is_among_the_messages(file: str) -> None:
    met = frozenset[object]().union(*(refusal.places for refusal in refusals()))
    lines = refusing_lines(file)
    assert [found.start for found in lines if not any((CORE / file, line) in met for line in found)] == []


@pytest.mark.parametrize("language", SCRIPTS)
def test_nodes_are_named_as_they_are_shown(language: str) -> None:
    """Those of ComfyUI itself have no names of ours."""
    shown = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    ours = {kind: name for kind, name in NAMES.items() if kind in shown}
    assert len(ours) == 7
    texts = in_every_language([f"{name}: strength has a negative number; counts start at 0." for name in ours.values()])
    for kind, text in zip(ours, texts[language], strict=True):
        assert text.startswith(shown[kind]["display_name"].removesuffix(" (KV Share)") + "\uff1a"), text


@pytest.mark.parametrize("language", SCRIPTS)
def test_words_of_users_survive_translation(told: dict[str, list[str]], language: str) -> None:
    pairs = list(zip(told["en"], told[language], strict=True))
    assert sum("fox" in english for english, _ in pairs) > 5
    for english, text in pairs:
        for word in ("fox", "x.safetensors", "strength: 0.8"):
            assert (word in english) == (word in text) or "example" in english, text


@pytest.mark.parametrize("file", sorted((ROOT / "web" / "shared").glob("*_??.js")), ids=lambda file: file.name)
def test_no_table_has_a_message_twice(file: Path) -> None:
    """JavaScript takes the last one, without a word."""
    tables = file.read_text(encoding="utf-8").split("\nexport const ")[1:]
    keys = [re.findall(r'^    (\[[^\]]*\]|"(?:[^"\\]|\\.)*"):', table, re.MULTILINE) for table in tables]
    assert sum(map(len, keys)) > 10
    assert [key for found in keys for key, count in Counter(found).items() if count > 1] == []
