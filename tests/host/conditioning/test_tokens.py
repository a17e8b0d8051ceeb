"""A word's token positions are the rows of the embedding that it makes, in every text encoder of a video model."""

import functools
import itertools
import unicodedata
from pathlib import Path
from typing import Any

import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import pytest
import safetensors.torch
import torch
from comfy.text_encoders.qwen_image import Qwen25_7BVLITokenizer
from comfy.text_encoders.spiece_tokenizer import SPieceTokenizer
from hypothesis import assume, given
from hypothesis import strategies as st

from kvshare_core.host.conditioning.tokens import align_pieces, byte_level_text, locate_words, sentencepiece_text
from kvshare_core.prompt_words import PromptWords, WordError, find_subject, split_words
from tests.tiny.encoders import KINDS, LANGUAGE_SIZES, tiny_encoder, tiny_sentencepiece

READS_CHINESE = {"wan", "hunyuan_video", "hunyuan_video_15", "kandinsky5", "ltxav", "ltxav gemma 4", "minimax"}
READS_WEIGHTS = {"clip_l", "mochi", "ltxv", "cosmos", "wan", "cogvideox", "hunyuan_video", "sd2", "sdxl"}
REPLACEMENTS = ["cat", "man", "boy", "red", "old", "sun", "far", "big"]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def clip(kind: str) -> Any:
    return tiny_encoder(kind)


def located(clip: Any, text: str) -> PromptWords:
    known = locate_words(clip, text)
    assert known is not None
    return known


def embedding(clip: Any, text: str) -> torch.Tensor:
    with torch.inference_mode():
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][0]


def assert_rows_are_made_by(clip: Any, text: str, word: str, rows: set[int], replacements: list[str]) -> None:
    """`rows` of the embedding of `text`, and no others, differ once `word` is another word with as many tokens.

    One that has a token in common with `word` leaves that row as it is, so further ones are tried.
    """
    reference, known = embedding(clip, text), located(clip, text)
    assert rows
    assert max(known.tokens) < reference.shape[1]
    changed: set[int] = set()
    for other in replacements:
        replaced = text.replace(word, other)
        if located(clip, replaced).positions == known.positions:
            changed |= set((embedding(clip, replaced) != reference).any(-1)[0].nonzero().flatten().tolist())
        if changed >= rows:
            break
    assert changed == rows


@pytest.mark.parametrize(
    "text",
    [
        "a dog runs",
        "dog",
        "a red dog, an old dog; and the dog's well-known den",
        "\n\na dog runs\n",
        "a user of the dog: system, assistant {} and model",
    ],
)
def test_a_word_stands_at_the_rows_that_it_makes(clip: Any, text: str) -> None:
    known = located(clip, text)
    assert list(known.words) == split_words(text)
    dogs = find_subject(text, known, "dog").subject
    assert_rows_are_made_by(clip, text, "dog", set(dogs), REPLACEMENTS)


def test_weights_and_escaped_brackets_are_no_words(kind: str, clip: Any) -> None:
    text = "a (dog:1.3) runs, ((blue)) \\(dog\\) grass"
    known = located(clip, text)
    spoken = text.replace(":1.3", "") if kind in READS_WEIGHTS else text
    assert list(known.words) == split_words(spoken)
    dogs = find_subject(text, known, "dog").subject
    assert_rows_are_made_by(clip, text, "dog", set(dogs), REPLACEMENTS)


def test_part_of_a_text_without_spaces_stands_at_the_rows_that_it_makes(kind: str, clip: Any) -> None:
    if kind not in READS_CHINESE:
        pytest.skip("this encoder reads no Chinese")
    text = "一只兔子在跑\uff0c红色的兔子"
    known = located(clip, text)
    assert list(known.words) == split_words(text)
    hares = find_subject(text, known, "兔子").subject
    others = ["老虎", "企鹅", "猴头", "骆驼", "鹦鹉", "猪肉", "鸡蛋", "鼠标"]
    assert_rows_are_made_by(clip, text, "兔子", set(hares), others)


def test_accents_and_compatibility_forms_are_found(kind: str, clip: Any) -> None:
    if kind not in READS_CHINESE:
        pytest.skip("this encoder reads few accents")
    known = located(clip, "un cafe\u0301 naïf, \uff26\uff2f\uff38")
    assert known.words == ("un", "café", "naïf", "fox")
    assert find_subject("", known, "Café \uff46\uff4f\uff58").subject == known.positions[1] + known.positions[3]


def test_a_word_that_the_encoder_cannot_read_is_explained() -> None:
    clip = tiny_encoder("mochi")
    text = "a fox 狐狸 runs"
    with pytest.raises(WordError, match=r"cannot read '狐狸' in the prompt .* reads there: a, fox, runs"):
        find_subject(text, located(clip, text), "狐狸")


def test_an_empty_prompt_has_no_words(clip: Any) -> None:
    assert located(clip, "").words == ()


@pytest.mark.parametrize("kind", ["clip_l", "mochi", "cosmos"])
@pytest.mark.parametrize("width", [LANGUAGE_SIZES["hidden_size"], 8])
def test_embeddings_of_the_prompt_move_the_words_after_them(kind: str, width: int, tmp_path: Path) -> None:
    safetensors.torch.save_file({"emb_params": torch.randn(3, width)}, tmp_path / "style.safetensors")
    clip = tiny_encoder(kind, embeddings=tmp_path)
    text = "a red embedding:style dog runs"
    known = located(clip, text)
    assert known.words == ("a", "red", "dog", "runs")
    fits = width == LANGUAGE_SIZES["hidden_size"]
    assert known.positions[3][0] == located(clip, "a red dog runs").positions[3][0] + (3 if fits else 0)
    assert_rows_are_made_by(clip, text, "dog", set(known.positions[2]), REPLACEMENTS)


def test_an_embedding_that_does_not_fit_moves_no_word_of_a_later_chunk(tmp_path: Path) -> None:
    safetensors.torch.save_file({"emb_params": torch.randn(3, 8)}, tmp_path / "style.safetensors")
    clip = tiny_encoder("clip_l", embeddings=tmp_path)
    text = "a embedding:style" + " grass" * 90 + " dog"
    known = located(clip, text)
    assert known.positions[-1][0] > 77
    assert_rows_are_made_by(clip, text, "dog", set(known.positions[-1]), REPLACEMENTS)


class CroppingEncoder(comfy.sd1_clip.SD1ClipModel):
    """As another pack might write it: the conditioning has not one row for every token."""

    def encode_token_weights(self, token_weight_pairs: Any) -> Any:
        out, *others = super().encode_token_weights(token_weight_pairs)
        return out[:, 4:], *others


def test_an_encoder_that_nobody_knows_locates_nothing() -> None:
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, CroppingEncoder)
    assert locate_words(comfy.sd.CLIP(target, parameters=1), "a fox") is None


@functools.cache
def qwen_tokenizer() -> Any:
    return Qwen25_7BVLITokenizer()


@functools.cache
def sentencepiece_tokenizer() -> SPieceTokenizer:
    return SPieceTokenizer(tiny_sentencepiece())


@given(st.text(max_size=30))
def test_byte_level_pieces_spell_the_text(text: str) -> None:
    tokenizer = qwen_tokenizer()
    assume(not any(special in text for special in tokenizer.tokenizer.get_added_vocab()))
    ids = tokenizer.tokenizer(text)["input_ids"]
    spelled = b"".join(byte_level_text(tokenizer.inv_vocab[token]) for token in ids)
    assert spelled.decode() == unicodedata.normalize("NFC", text)


@given(st.text(st.sampled_from("fox 狐狸éü여Ω🦊"), max_size=20))
def test_sentencepiece_pieces_spell_the_text(text: str) -> None:
    tokenizer = sentencepiece_tokenizer()
    pieces = [tokenizer.tokenizer.id_to_piece(token) for token in tokenizer(text)["input_ids"]]
    spelled = b"".join(sentencepiece_text(piece) for piece in pieces)
    assert spelled.decode().split() == text.split()


@given(st.text(st.sampled_from("fox 狐狸,é여"), max_size=12), st.data())
def test_a_character_spread_over_pieces_belongs_to_all_of_them(text: str, data: st.DataObject) -> None:
    encoded = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(encoded)))) | {0, len(encoded)})
    pieces = [(encoded[start:stop], place) for place, (start, stop) in enumerate(itertools.pairwise(cuts))]
    known = align_pieces(pieces)
    assert list(known.words) == split_words(text)
    start = 0
    for word, positions in zip(known.words, known.positions, strict=True):
        start = encoded.index(word.encode(), start)
        stop = start + len(word.encode())
        assert list(positions) == [n for n in range(len(pieces)) if cuts[n] < stop and cuts[n + 1] > start]
        start = stop
