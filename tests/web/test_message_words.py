"""What Python says in the editor before a run, in every language of the pack."""

from collections.abc import Iterator
from typing import Any

import pytest

from kvshare_core.config import KVShareConfig, MemorySettings
from kvshare_core.host.editor.live_plan import Film, Surroundings, tell
from kvshare_core.host.editor.remarks import too_large
from kvshare_core.host.loading.model_headers import facts_of
from tests.support.languages import SCRIPTS, in_every_language

UNREADABLE = [
    "",
    "a fox | strength: much",
    "a fox | strength: 99",
    "a fox | strength:",
    "a fox | seed: 1 | seed: 2",
    "a fox | seed: 0.5",
    "a fox | source: later",
    "a fox | source: beat 3",
    "a fox | lora: 0.5",
    "a fox | colour: red",
    "a fox |",
    "a fox | loop: yes",
    "| seed: 1",
    "[0s] a fox",
    "[banana] a fox",
    "[2.5f] a fox",
    "[3s a fox",
    "[3s]",
    "[cut]",
    "a fox\n[cut]",
    "a fox\n[cut]\n[cut]\na dog",
    "a fox\n[cut] a dog",
    "a fox\n[cut 5]\na dog",
    "a fox\n[segments]\na dog",
    "a fox\n[segments 99]\na dog",
    "a fox\nseed: 5",
    "a fox\nloop: yes",
    "loop: maybe\na fox",
    "subject: =\na fox",
    "1. a fox\n2. a dog",
    "Scene 1: a fox",
    "Scene 1\na fox",
    "negative prompt: blurry\na fox",
    "a fox \uff5c seed: 1",
]
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
    {"alone": True, "config": None},
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
    answers += [tell(Film("a fox runs"), one), tell(Film("subject: fox\na fox runs\na fox sits"), one)]
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


@pytest.fixture(scope="module")
def told() -> dict[str, list[str]]:
    return in_every_language(list(dict.fromkeys(messages())))


def test_english_messages_stay_as_python_says_them(told: dict[str, list[str]]) -> None:
    assert told["en"] == list(dict.fromkeys(messages())) and len(told["en"]) > 50


@pytest.mark.parametrize("language", SCRIPTS)
def test_every_message_before_a_run_is_translated(told: dict[str, list[str]], language: str) -> None:
    missing = [
        english
        for english, text in zip(told["en"], told[language], strict=True)
        if text == english or not SCRIPTS[language].search(text)
    ]
    assert missing == []


@pytest.mark.parametrize("language", SCRIPTS)
def test_words_of_users_survive_translation(told: dict[str, list[str]], language: str) -> None:
    pairs = list(zip(told["en"], told[language], strict=True))
    assert sum("fox" in english for english, _ in pairs) > 5
    for english, text in pairs:
        for word in ("fox", "x.safetensors", "strength: 0.8"):
            assert (word in english) == (word in text) or "example" in english, text
