"""Names and tooltips in every language: complete, matching the nodes, and readable by the host's frontend."""

import json
import re
import unicodedata
import urllib.request
from typing import Any

import pytest

from devtools.server import Server
from devtools.words import LOCALES, locale_file, node_schemas, node_words, read_words

ENGLISH = node_words(node_schemas())
TRANSLATED = {"zh": re.compile(r"[\u4e00-\u9fff]"), "ja": re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")}
"""The languages and what a text in them has."""

WIDEST_LABEL = 34
"""In halves of a Chinese character: what the widest English label of a widget has, and its translation."""

Path = tuple[str, ...]


def texts(words: Any, path: Path = ()) -> dict[Path, str]:
    """Every text by the keys that lead to it."""
    if isinstance(words, str):
        return {path: words}
    return {place: text for key, part in words.items() for place, text in texts(part, (*path, key)).items()}


def of_language(language: str) -> list[tuple[Path, str, str]]:
    """Every text of a language, with its place and the English."""
    english = texts(ENGLISH)
    return [(place, text, english[place]) for place, text in texts(read_words(language)).items()]


def test_every_language_has_its_words_and_nothing_else() -> None:
    files = {path for path in LOCALES.rglob("*") if path.is_file()}
    assert files == {locale_file(language) for language in ("en", *TRANSLATED)}


def test_the_english_words_are_those_of_the_schemas() -> None:
    assert read_words("en") == ENGLISH, "run: python3 dev.py words"


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_translation_has_a_text_for_every_word_of_the_schemas(language: str) -> None:
    words = read_words(language)
    assert texts(words).keys() == texts(ENGLISH).keys()
    assert list(words) == list(ENGLISH)


@pytest.mark.parametrize("language", ("en", *TRANSLATED))
def test_no_text_is_empty_or_has_characters_that_the_frontend_reads_as_its_own(language: str) -> None:
    for place, text in texts(read_words(language)).items():
        assert text == text.strip() != "", place
        assert not set(text) & set("{}@|"), f"{place}: vue-i18n gives these a meaning: {text}"


@pytest.mark.parametrize("language", TRANSLATED)
def test_texts_are_translated_and_names_keep_the_english_one(language: str) -> None:
    for place, text, english in of_language(language):
        if place[-1] == "name":
            assert text == english or text.endswith(f" ({english})"), place
        else:
            assert TRANSLATED[language].search(text), f"{place}: {text}"
            assert text != english


@pytest.mark.parametrize("language", ("en", *TRANSLATED))
def test_texts_call_nodes_by_the_names_on_them(language: str) -> None:
    for place, text in texts(read_words(language)).items():
        assert [node for node in ENGLISH if node in text] == [], place


@pytest.mark.parametrize("language", TRANSLATED)
def test_labels_are_short_enough_for_nodes_of_the_usual_width(language: str) -> None:
    wide = {"F", "W"}
    for place, text, _ in of_language(language):
        if place[-1] == "name":
            width = sum(2 if unicodedata.east_asian_width(character) in wide else 1 for character in text)
            assert width <= WIDEST_LABEL, f"{text}: {width}"


@pytest.mark.parametrize("language", TRANSLATED)
def test_one_name_has_one_translation(language: str) -> None:
    meanings: dict[str, set[str]] = {}
    for place, text, english in of_language(language):
        if place[-1] == "name":
            meanings.setdefault(english, set()).add(text)
    assert not {name: found for name, found in meanings.items() if len(found) > 1}


@pytest.mark.parametrize("language", TRANSLATED)
def test_numbers_and_names_of_inputs_survive_translation(language: str) -> None:
    ids = {name for node in ENGLISH.values() for name in node["inputs"] if "_" in name}
    for place, text, english in of_language(language):
        if place[-1] == "name":
            continue
        assert {name for name in ids if name in re.findall(r"\w+", english)} <= set(
            re.findall(r"[A-Za-z0-9_]+", text)
        ), f"{place}: {text}"
        assert re.findall(r"\d+(?:\.\d+)?", english) == [] or sorted(re.findall(r"\d+(?:\.\d+)?", text)) == sorted(
            re.findall(r"\d+(?:\.\d+)?", english)
        ), f"{place}: {text}"


def test_the_host_hands_out_every_language(server: Server) -> None:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{server.url}/i18n", timeout=60) as answer:
        served = json.load(answer)
    for language in ("en", *TRANSLATED):
        assert served[language]["nodeDefs"].items() >= read_words(language).items()
