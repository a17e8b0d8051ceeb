"""What a run says of itself, in every language of the pack: each notice in the source, whole, with its values."""

import re

import pytest

from tests.support.languages import SCRIPTS, in_every_language
from tests.support.notices import all_notices

VALUES = re.compile(r"\d+|\b(?:wan|KJNodes|ModelTrio|TeaCache|MagCache|EasyCache|LazyCache|[a-z]+_[a-z]+)\b")
"""What stays in a notice as it is: numbers, and names of models, packs and inputs."""

ENGLISH = re.compile(r"[a-z'] [a-z]")
"""What no translation has: two English words."""


@pytest.fixture(scope="module")
def told() -> dict[str, list[str]]:
    return in_every_language(all_notices())


def test_notices_of_every_room_are_found() -> None:
    notices = all_notices()
    of_rooms = (
        "keeps what the model returned last",
        "the subject was not found",
        "no block to belong to",
        "is not read.",
    )
    assert [part for part in of_rooms if not any(part in notice for notice in notices)] == []
    assert len(notices) > 200


def test_english_notices_stay_as_python_says_them(told: dict[str, list[str]]) -> None:
    assert told["en"] == all_notices()


@pytest.mark.parametrize("language", SCRIPTS)
def test_every_notice_of_a_run_is_translated(told: dict[str, list[str]], language: str) -> None:
    assert [text for text in told[language] if not SCRIPTS[language].search(text) or ENGLISH.search(text)] == []


@pytest.mark.parametrize("language", SCRIPTS)
def test_every_value_of_a_notice_is_in_its_translation(told: dict[str, list[str]], language: str) -> None:
    for english, text in zip(told["en"], told[language], strict=True):
        assert sorted(VALUES.findall(english)) == sorted(VALUES.findall(text)), text


@pytest.mark.parametrize("language", SCRIPTS)
def test_different_notices_stay_different(told: dict[str, list[str]], language: str) -> None:
    assert len(set(told[language])) == len(set(told["en"]))
