"""Words of a prompt are found among the tokens of the host's own tokenizers."""

import unicodedata
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kvshare_core.host.conditioning.tokens import align_pieces, locate_words, sentencepiece_text
from kvshare_core.prompt_words import (
    MOST_MARKS,
    MOST_SUBJECT_WORDS,
    STOP_WORDS,
    PromptWords,
    SubjectTokens,
    WordError,
    find_subject,
    find_words,
    split_words,
)
from tests.support.growth import assert_linear
from tests.tiny.models import tiny_text_encoder

PIECES = st.lists(
    st.sampled_from(["\u2581fox", "\u2581a", "es", "s", "\u2581", ".", ",", "'", "-", "\u2581un", "<unk>"]), max_size=12
)


@pytest.fixture(scope="module", params=["t5", "clip_l"])
def clip(request: pytest.FixtureRequest) -> Any:
    return tiny_text_encoder(request.param)


def spelled(clip: Any, text: str, positions: tuple[int, ...]) -> str:
    """What the host's own tokenizer says stands at `positions` of the encoded text."""
    ((name, chunks),) = clip.tokenize(text).items()
    inner = getattr(clip.tokenizer, clip.tokenizer.clip, None) or getattr(clip.tokenizer, name)
    tokens = [token for chunk in chunks for token in chunk]
    ids = [tokens[position][0] for position in positions]
    return inner.tokenizer.decode(ids, clean_up_tokenization_spaces=False).strip().lower()


@pytest.mark.parametrize(
    "text",
    [
        "a red fox runs",
        "An extraordinarily antediluvian hippopotamus, snorkeling!",
        "a fox, a fox; and (a fox)",
        "a (red:1.4) fox and ((blue)) grass",
        "the fox's well-known den.   A   second sentence",
        "ein Fuchs mit 3 Welpen",
    ],
)
def test_every_word_lies_where_its_tokens_are(clip: Any, text: str) -> None:
    known = locate_words(clip, text)
    assert known is not None
    plain = text.replace(":1.4", "")
    assert list(known.words) == split_words(plain)
    for word, positions in zip(known.words, known.positions, strict=True):
        assert "".join(split_words(spelled(clip, text, positions))) == word


def test_no_position_is_a_start_end_or_padding_token(clip: Any) -> None:
    text = "a red fox, running"
    known = locate_words(clip, text)
    assert known is not None
    ((_, chunks),) = clip.tokenize(text, return_word_ids=True).items()
    word_ids = [word_id for chunk in chunks for _, _, word_id in chunk]
    assert all(word_ids[token] != 0 for token in known.tokens)
    assert len(known.tokens) == len(set(known.tokens))


def test_words_beyond_the_first_chunk_keep_their_place_in_the_conditioning() -> None:
    clip = tiny_text_encoder("clip_l")
    text = " ".join(["grass"] * 90) + " fox"
    known = locate_words(clip, text)
    assert known is not None
    (position,) = known.positions[-1]
    assert position > 77
    assert spelled(clip, text, (position,)) == "fox"
    assert clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][0].shape[1] > position


def test_an_empty_prompt_has_no_words(clip: Any) -> None:
    assert locate_words(clip, "") == PromptWords((), ())


@given(PIECES)
def test_aligned_words_spell_the_pieces_and_share_none(pieces: list[str]) -> None:
    known = align_pieces((sentencepiece_text(piece), place) for place, piece in enumerate(pieces))
    text = "".join(piece.replace("\u2581", " ").replace("<unk>", " ") for piece in pieces)
    assert list(known.words) == split_words(text)
    for word, positions in zip(known.words, known.positions, strict=True):
        assert word in "".join(pieces[position] for position in positions)
        assert list(positions) == sorted(set(positions))


@given(st.text(max_size=40))
def test_words_are_lower_case_and_without_spaces(text: str) -> None:
    for word in split_words(text):
        assert word == word.lower()
        assert not any(character.isspace() for character in word)


WORDS = st.lists(st.sampled_from(["red", "fox", "runs", "the", "over", "grass"]), min_size=1, max_size=10)


@given(WORDS, st.data())
def test_a_subject_counts_with_all_its_places_against_the_other_content_words(
    words: list[str], data: st.DataObject
) -> None:
    subject = data.draw(st.sets(st.sampled_from(words), min_size=1))
    known = PromptWords(tuple(words), tuple((2 * place, 2 * place + 1) for place in range(len(words))))
    found = find_subject(" ".join(words), known, ", ".join(subject))
    places = {word: [known.positions[n] for n, other in enumerate(words) if other == word] for word in words}
    expected = {token for word in subject for span in places[word] for token in span}
    others = {token for word in set(words) - subject - STOP_WORDS for span in places[word] for token in span}
    assert (set(found.subject), set(found.others)) == (expected, others)


@given(WORDS, st.data())
def test_a_subject_given_by_its_tokens_is_contrasted_with_the_other_content_words(
    words: list[str], data: st.DataObject
) -> None:
    known = PromptWords(tuple(words), tuple((2 * place, 2 * place + 1) for place in range(len(words))))
    chosen = data.draw(st.sets(st.integers(0, len(words) - 1)))
    # One token of a word is enough to name it.
    subject = tuple(2 * place + data.draw(st.integers(0, 1)) for place in chosen)
    others = [place for place, word in enumerate(words) if place not in chosen and word not in ("the", "over")]
    assert known.other_content(subject) == tuple(token for place in others for token in known.positions[place])


def test_one_word_may_be_named_in_any_case() -> None:
    known = PromptWords(("a", "fox"), ((0,), (1,)))
    assert find_subject("a fox", known, "FOX!") == SubjectTokens((1,), ())


@pytest.mark.parametrize(
    ("subject", "complaint"),
    [("wolf", "'wolf' is not in the prompt 'a fox'. Words of this prompt: a, fox"), (" ,", "has no words")],
)
def test_a_subject_that_cannot_be_found_is_explained(subject: str, complaint: str) -> None:
    with pytest.raises(WordError, match=complaint):
        find_subject("a fox", PromptWords(("a", "fox"), ((0,), (1,))), subject)


def test_a_prompt_without_words_is_said_to_have_none() -> None:
    with pytest.raises(WordError, match=r"'fox' is not in the prompt '!'\. Words of this prompt: none\.$"):
        find_subject("!", PromptWords((), ()), "fox")


@given(st.text(max_size=20), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_words_do_not_depend_on_how_unicode_spells_them(text: str, form: Any) -> None:
    assert split_words(unicodedata.normalize(form, text)) == split_words(text)


@pytest.mark.parametrize("text", ["여우가", "größer", "ﾊﾟﾝ"])
def test_characters_that_compose_are_one_and_share_their_tokens(text: str) -> None:
    apart = unicodedata.normalize("NFD", text)
    composed = unicodedata.normalize("NFKC", text)
    assert len(apart) > len(composed)
    found = find_words((character, (place,)) for place, character in enumerate(apart))
    assert "".join(found.words) == composed
    assert found.tokens == tuple(range(len(apart)))


def test_stop_words_are_words_as_prompts_have_them() -> None:
    for word in STOP_WORDS:
        assert split_words(word) == [word]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("हिन्दी में लोमड़ी", ["हिन्दी", "में", "लोमड़ी"]),
        ("Ein größerer Fuchs; 3D-Bild", ["ein", "größerer", "fuchs", "3d", "bild"]),
        ("红fox跑", ["红", "fox", "跑"]),
        ("น้ำ", ["น้ํ", "า"]),
        ("❤\ufe0f fox", ["fox"]),
        ("コピーabc", ["コ", "ピ", "ー", "abc"]),
        # Letters that have no name in every version of Unicode.
        ("\U00017000\U00017001 fox", ["\U00017000\U00017001", "fox"]),
    ],
)
def test_words_of_any_script(text: str, words: list[str]) -> None:
    assert split_words(text) == words


def by_characters(text: str) -> PromptWords:
    """Words of `text` when every character is one token."""
    return find_words((character, (place,)) for place, character in enumerate(text))


@given(st.text(st.sampled_from("狐狸草地,"), min_size=1, max_size=12), st.data())
def test_any_unbroken_part_of_a_text_without_spaces_can_be_the_subject(text: str, data: st.DataObject) -> None:
    runs = [run for run in text.split(",") if run]
    assume(runs)
    run = data.draw(st.sampled_from(runs))
    start = data.draw(st.integers(0, len(run) - 1))
    subject = run[start : data.draw(st.integers(start + 1, len(run)))]
    places = [place for place in range(len(text)) if text.startswith(subject, place)]
    expected = {place + step for place in places for step in range(len(subject))}
    found = find_subject(text, by_characters(text), subject)
    assert set(found.subject) == expected
    assert set(found.others) == {place for place, character in enumerate(text) if character != ","} - expected


@pytest.mark.parametrize(
    ("prompt", "subject", "positions"),
    [
        ("붉은 여우가 달린다", "여우", (3, 4)),
        ("赤いキツネが走る", "キツネ", (2, 3, 4)),
        ("一只 red fox在跑", "fox", (7, 8, 9)),
        ("狐狸, 草地上的狐", "草地 狐狸", (0, 1, 4, 5)),
    ],
)
def test_a_subject_may_be_part_of_what_has_no_spaces(prompt: str, subject: str, positions: tuple[int, ...]) -> None:
    assert find_subject(prompt, by_characters(prompt), subject).subject == positions


def test_characters_on_both_sides_of_a_break_are_no_subject() -> None:
    with pytest.raises(WordError, match=r"'狐狸' is not in the prompt '狐,狸跑'\. Words of this prompt: 狐, 狸跑"):
        find_subject("狐,狸跑", by_characters("狐,狸跑"), "狐狸")


def test_a_token_of_the_subject_is_never_one_of_the_others() -> None:
    known = find_words([("一", (0,)), ("狐", (0, 1)), ("狸", (1,)), ("草", (1,)), ("地", (2, 2))])
    assert find_subject("一狐狸草地", known, "狐狸") == SubjectTokens((0, 1), (2,))
    assert (known.tokens, known.other_content((0, 1))) == ((0, 1, 2), (2,))


@pytest.mark.parametrize(
    "unit", ["a", "狐", "fox ", "\u0301", "a\u0301", "\uff9f\u0301", "\u1112\u1161\u11ab", "\u09c7\u09be", "\ufdfa"]
)
def test_words_of_any_text_are_found_in_proportion_to_its_length(unit: str) -> None:
    def find(size: int) -> None:
        text = "a" + unit * (size // len(unit))
        known = by_characters(text)
        assert known.runs and known.tokens
        known.other_content(known.tokens)
        for subject in (unit, unit * 40, "wolf"):
            try:
                find_subject(text, known, subject)
            except WordError as reason:
                assert len(str(reason)) < 1500

    assert_linear(find, 2_000)


def test_a_letter_with_any_number_of_marks_is_one_word_with_all_their_tokens() -> None:
    text = "a" + "\u0316\u0301" * 3 * MOST_MARKS + "b fox"
    known = by_characters(text)
    assert known.words[1:] == ("fox",)
    assert known.positions[0] == tuple(range(6 * MOST_MARKS + 2))


def test_more_words_than_name_a_subject_are_refused() -> None:
    prompt = "fox " * (MOST_SUBJECT_WORDS + 1)
    with pytest.raises(WordError, match="has 101 words; name what should stay the same with at most 100"):
        find_subject(prompt, by_characters(prompt), prompt)
    assert find_subject(prompt, by_characters(prompt), prompt[4:]).subject


def test_an_error_quotes_the_beginning_of_a_long_prompt() -> None:
    prompt = "狐" * 100_000
    with pytest.raises(WordError, match=r"'wolf' is not in the prompt '狐+\.\.\.'") as reason:
        find_subject(prompt, by_characters(prompt), "wolf")
    assert len(str(reason.value)) < 1000
