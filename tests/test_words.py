"""Words of a prompt are found among the tokens that the host's own tokenizers make."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.host.tokens import align_pieces, locate_words
from kvshare_core.words import STOP_WORDS, PromptWords, SubjectTokens, WordError, find_subject, split_words
from tests.tiny_models import tiny_text_encoder

PIECES = st.lists(
    st.one_of(
        st.none(), st.sampled_from(["\u2581fox", "\u2581a", "es", "s", "\u2581", ".", ",", "'", "-", "\u2581un"])
    ),
    max_size=12,
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
def test_aligned_words_spell_the_pieces_and_share_none(pieces: list[str | None]) -> None:
    known = align_pieces(pieces)
    text = "".join(piece.replace("\u2581", " ") for piece in pieces if piece is not None)
    assert list(known.words) == split_words(text)
    for word, positions in zip(known.words, known.positions, strict=True):
        assert word in "".join(pieces[position] or "" for position in positions)
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
