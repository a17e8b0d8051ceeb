"""The examples and the grammar in docs/timeline.md are what the reader accepts."""

import re
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devtools.environment import ROOT
from kvshare_core.script.film import TRANSITION_KINDS, ScriptError
from kvshare_core.script.json_form import script_json
from kvshare_core.script.parsing import parse_script
from kvshare_core.script.text_form import FIELDS, SETTINGS, UNITS, script_text

DOCS = (ROOT / "docs" / "timeline.md").read_text(encoding="utf-8")
LINK_WORDS = ("gap", "until", "from", "and", "beat", "first", "previous", "none", "yes", "no")
MEANING = re.compile(
    "given twice|weighed twice|two subjects|belongs to all beats|earlier beat|'none' says|needs prompts before it|"
    "begins at|longer than zero|at most|must be between|write 1 to|is not a name|must not have a line break"
)
"""What a grammar cannot say."""


Sentence = Callable[[Random], str]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)


class Grammar:
    """Sentences of a grammar in the notation of ISO/IEC 14977, as far as the document uses it."""

    def __init__(self, source: str, special: dict[str, Sentence]) -> None:
        self.rules = dict(special)
        for name, body in re.findall(r"^([a-z ]+?) *= (.*?) ;$", source, re.MULTILINE | re.DOTALL):
            if not body.startswith("?"):
                tokens = re.findall(r"'[^']*'|[a-z]+(?: [a-z]+)*|[][{}()|,]", body)
                self.rules[name] = self._alternatives(tokens[::-1])

    def _alternatives(self, tokens: list[str]) -> Sentence:
        options = [self._sequence(tokens)]
        while tokens and tokens[-1] == "|":
            tokens.pop()
            options.append(self._sequence(tokens))
        return lambda random: random.choice(options)(random)

    def _sequence(self, tokens: list[str]) -> Sentence:
        parts = [self._term(tokens)]
        while tokens and tokens[-1] == ",":
            tokens.pop()
            parts.append(self._term(tokens))
        return lambda random: " ".join(part(random) for part in parts)

    def _term(self, tokens: list[str]) -> Sentence:
        token = tokens.pop()
        if token.startswith("'"):
            return lambda _: token[1:-1]
        if token not in "[{(":
            return lambda random: self.rules[token](random)
        inner = self._alternatives(tokens)
        assert tokens.pop() == {"[": "]", "{": "}", "(": ")"}[token]
        counts = {"[": (0, 1), "{": (0, 1, 2, 3), "(": (1,)}[token]
        return lambda random: " ".join(inner(random) for _ in range(random.choice(counts)))


def one_of(*texts: str) -> Sentence:
    return lambda random: random.choice(texts)


GRAMMAR = Grammar(
    blocks("ebnf")[0],
    {
        "clock": one_of("0:00", "0:03", "00:10", "1:00:03.5"),
        "number": one_of("1", "0.5", ".5", "12", "3.25"),
        "whole": one_of("1", "2", "3", "12"),
        "signed": one_of("1", "+0.5", "-2"),
        "signed whole": one_of("0", "+5", "-12"),
        "text": one_of("a fox", "the fox: red", "狐", "x \\| y", "fox [wide]", "fox # 1 \\n b"),
        "newline": one_of("\n"),
    },
)


def test_every_example_is_read() -> None:
    examples = [*blocks("text"), *blocks("json")]
    assert len(examples) >= 5
    for example in examples:
        script = parse_script(example)
        assert parse_script(script_text(script)) == parse_script(script_json(script)) == script


def test_the_film_in_json_is_the_film_in_text() -> None:
    assert parse_script(blocks("text")[1]) == parse_script(blocks("json")[0])


@pytest.mark.parametrize("example", sorted(set(re.findall(r"`(\[[^`]*\])`", DOCS))))
def test_what_the_tables_show_in_brackets_is_read(example: str) -> None:
    if example == "[0:03]":
        with pytest.raises(ScriptError, match="could be a time or a duration"):
            parse_script(f"{example} a")
    elif example == "[1:00:03-1:00:05.5]":
        assert parse_script("\n".join(["[3600s] a", "[3s] b", f"{example} c"])).beats[2].duration
    elif example.strip("[]").split()[0] in TRANSITION_KINDS:
        assert example == "[segments]" or parse_script(f"a\n{example}\nb").beats[1].transition
    else:
        assert parse_script(f"{example} a").beats[0].duration


def test_what_the_tables_show_of_settings_and_fields_is_read() -> None:
    fields = re.findall(r"<code>&#124; (.*?)</code>", DOCS)
    settings = re.findall(r"^\| `([a-z]+: [^`]*)` \|", DOCS, re.MULTILINE)
    assert {field.partition(":")[0] for field in fields} == set(FIELDS)
    assert {setting.partition(":")[0] for setting in settings} == set(SETTINGS)
    for field in fields:
        assert parse_script(f"a\nb | {field}").beats[1] != parse_script("a\nb").beats[1]
    for setting in settings:
        assert parse_script(f"{setting}\na") != parse_script("a")


def test_the_words_of_the_grammar_are_those_of_the_reader() -> None:
    words = {word for word in re.findall(r"'([a-z ]+)'", blocks("ebnf")[0])}
    assert words == {*SETTINGS, *FIELDS, *TRANSITION_KINDS, *UNITS, *LINK_WORDS}


@settings(max_examples=1000)
@given(st.integers(0, 2**32).map(Random))
def test_whatever_the_grammar_allows_is_read(random: Random) -> None:
    text = GRAMMAR.rules["script"](random)
    try:
        parse_script(text)
    except ScriptError as reason:
        assert MEANING.search(str(reason)), text
