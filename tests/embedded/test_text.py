"""The embedded text encoder as a ComfyUI CLIP, its weight syntax and its word positions."""

import logging
from pathlib import Path

import comfy.sd
import comfy.sd1_clip
import nodes
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from kvshare_core.embedded.clip import TOKENS, WordTokenizer, load_text_encoder, load_text_encoder_patcher
from kvshare_core.embedded.files import TEXT_ENCODER_FILE
from kvshare_core.embedded.text import TEXT_WIDTH, WORD_WIDTH, WordEmbedding, position_code, token_ids
from kvshare_core.embedded.vocabulary import CHUNK_TOKENS, PAD, PAIR_WORDS, UNKNOWN, WORD_IDS, WORDS
from kvshare_core.embedded.weight_syntax import prompt_words, weighted_words
from kvshare_core.prompt_words import split_words
from tests.support.growth import assert_linear

PROMPT = "a large red circle moving right over grass"

known_texts = st.lists(st.sampled_from([word for word in WORDS if word not in (PAD, UNKNOWN)]), max_size=40)
balanced_prompts = st.recursive(
    st.text(alphabet="abc ,:.12", max_size=8),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        inner.map(lambda text: f"({text})"),
        st.tuples(inner, st.floats(0, 2).map(lambda value: round(value, 2))).map(lambda pair: f"({pair[0]}:{pair[1]})"),
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def embedding() -> WordEmbedding:
    torch.manual_seed(0)
    return WordEmbedding().requires_grad_(False)


@pytest.fixture(scope="module")
def file(embedding: WordEmbedding, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / TEXT_ENCODER_FILE
    save_file({"words": embedding.words.half().contiguous()}, path)
    return path


@pytest.fixture(scope="module")
def clip(file: Path) -> comfy.sd.CLIP:
    return load_text_encoder(file)


def encode(clip: comfy.sd.CLIP, text: str) -> torch.Tensor:
    """Conditioning of `text` from the stock node."""
    ((tensor, _),) = nodes.CLIPTextEncode().encode(clip, text)[0]
    return tensor


def test_stock_node_gives_what_training_used(clip: comfy.sd.CLIP, embedding: WordEmbedding) -> None:
    tensor = encode(clip, PROMPT)
    assert tensor.shape == (1, CHUNK_TOKENS, 4096) and tensor.dtype == torch.float32
    expected = embedding(torch.tensor([token_ids(PROMPT)]))
    torch.testing.assert_close(tensor[..., :TEXT_WIDTH], expected, atol=2e-3, rtol=2e-3)
    assert tensor[..., TEXT_WIDTH:].abs().max() == 0


def test_every_way_to_encode_agrees(clip: comfy.sd.CLIP) -> None:
    tokens = clip.tokenize(PROMPT)
    expected = encode(clip, PROMPT)
    assert torch.equal(clip.encode_from_tokens(tokens), expected)
    assert torch.equal(clip.encode(PROMPT), expected)
    tensor, pooled = clip.encode_from_tokens(tokens, return_pooled=True)
    assert torch.equal(tensor, expected) and pooled is None
    assert torch.equal(clip.encode_from_tokens(tokens, return_dict=True)["cond"], expected)
    ((tensor, extra),) = clip.encode_from_tokens_scheduled(tokens, add_dict={"guidance": 1.0})
    assert torch.equal(tensor, expected) and extra["guidance"] == 1.0
    assert torch.equal(encode(clip.clone(), PROMPT), expected)


def test_works_after_unloading(clip: comfy.sd.CLIP) -> None:
    expected = encode(clip, PROMPT)
    clip.patcher.detach()
    assert torch.equal(encode(clip, PROMPT), expected)


def test_stock_conditioning_nodes(clip: comfy.sd.CLIP) -> None:
    first, second = ([[encode(clip, text), {"pooled_output": None}]] for text in (PROMPT, "a blue square"))
    ((joined, _),) = nodes.ConditioningConcat().concat(first, second)[0]
    assert joined.shape == (1, 2 * CHUNK_TOKENS, 4096)
    ((mean, _),) = nodes.ConditioningAverage().addWeighted(first, second, 0.25)[0]
    torch.testing.assert_close(mean, 0.25 * first[0][0] + 0.75 * second[0][0])


def test_model_patches_reach_the_word_vectors(clip: comfy.sd.CLIP) -> None:
    patched = clip.clone()
    difference = torch.ones(len(PAIR_WORDS), WORD_WIDTH)
    assert patched.add_patches({"words.weight": (difference,)}, 0.5) == ["words.weight"]
    before, after = encode(clip, "red"), encode(patched, "red")
    torch.testing.assert_close(after[..., :WORD_WIDTH], before[..., :WORD_WIDTH] + 0.5, atol=5e-3, rtol=5e-3)
    torch.testing.assert_close(after[..., WORD_WIDTH:], before[..., WORD_WIDTH:])


def test_second_copy_and_saved_weights_are_the_files(clip: comfy.sd.CLIP, file: Path) -> None:
    clip.load_model()
    words = load_file(file)["words"]
    assert torch.equal(load_text_encoder_patcher(file).model.state_dict()["words.weight"], words)
    assert torch.equal(clip.get_sd()["words.weight"], words)


def test_weight_scales_the_word_vector_only(clip: comfy.sd.CLIP) -> None:
    plain, weighted = encode(clip, "a red circle"), encode(clip, "a (red:1.5) circle")
    torch.testing.assert_close(weighted[0, 1, :WORD_WIDTH], plain[0, 1, :WORD_WIDTH] * 1.5)
    torch.testing.assert_close(weighted[..., WORD_WIDTH:], plain[..., WORD_WIDTH:])
    assert torch.equal(weighted[0, [0, 2]], plain[0, [0, 2]])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a (red) circle", [("a", 1.0), ("red", 1.1), ("circle", 1.0)]),
        ("((red))", [("red", 1.1 * 1.1)]),
        ("(a (red:1.5) circle:0.5)", [("a", 0.5), ("red", 1.5), ("circle", 0.5)]),
        ("(red: circle)", [("red", 1.1), ("circle", 1.1)]),
        (r"\(red\) circle", [("red", 1.0), ("circle", 1.0)]),
        ("red) (circle", [("red", 1.0), ("circle", 1.0)]),
        ("(red:nan)", [("red", 1.1), ("nan", 1.1)]),
    ],
)
def test_weight_syntax(text: str, expected: list[tuple[str, float]]) -> None:
    assert weighted_words(text) == expected


@given(balanced_prompts)
@settings(max_examples=200, deadline=None)
def test_weight_syntax_is_the_hosts(text: str) -> None:
    expected = [
        (word, weight) for segment, weight in comfy.sd1_clip.token_weights(text, 1.0) for word in split_words(segment)
    ]
    found = weighted_words(text)
    assert [word for word, _ in found] == [word for word, _ in expected]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in expected])


@pytest.mark.parametrize("unit", ["(", "()", "(a:1.2)", "(:", ":"])
def test_weights_are_read_in_proportion_to_the_length(unit: str) -> None:
    assert_linear(lambda size: weighted_words(unit * size), 500)
    assert_linear(lambda size: weighted_words("(" * size + "a" + ":1.5)" * size), 500)


def test_unknown_words_are_named_once(clip: comfy.sd.CLIP, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        clip.tokenize("a dancing fox, dancing right")
    (message,) = [record.getMessage() for record in caplog.records]
    assert "does not know: dancing, fox." in message and "circle, square, triangle" in message
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        clip.tokenize(PROMPT)
    assert not caplog.records


def test_long_texts_take_more_chunks(clip: comfy.sd.CLIP) -> None:
    text = " ".join(["red"] * 33)
    chunks = clip.tokenize(text)[TOKENS]
    assert [len(chunk) for chunk in chunks] == [CHUNK_TOKENS] * 3
    tensor = encode(clip, text)
    assert tensor.shape == (1, 3 * CHUNK_TOKENS, 4096)
    code = position_code(3 * CHUNK_TOKENS)
    torch.testing.assert_close(tensor[0, :, WORD_WIDTH:TEXT_WIDTH], code)


@given(known_texts)
@settings(max_examples=100, deadline=None)
def test_tokens_spell_the_text(words: list[str]) -> None:
    tokenizer = WordTokenizer()
    text = " ".join(words)
    chunks = tokenizer.tokenize_with_weights(text, return_word_ids=True)[TOKENS]
    tokens = [token for chunk in chunks for token in chunk]
    assert {len(chunk) for chunk in chunks} == {CHUNK_TOKENS}
    assert [token[0] for token in tokens] == token_ids(text)
    numbers = [token[2] for token in tokens]
    assert numbers[: len(words)] == list(range(1, len(words) + 1)) and not any(numbers[len(words) :])
    spelled = [word for chunk in chunks for _, word in tokenizer.untokenize(chunk) if word != PAD]
    assert spelled == words
    assert tokenizer.tokenize_with_weights(text)[TOKENS] == [[token[:2] for token in chunk] for chunk in chunks]


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_makes_whole_chunks_of_valid_ids(text: str) -> None:
    chunks = WordTokenizer().tokenize_with_weights(text)[TOKENS]
    assert chunks and all(len(chunk) == CHUNK_TOKENS for chunk in chunks)
    ids = [token[0] for chunk in chunks for token in chunk]
    assert all(0 <= word_id < len(PAIR_WORDS) for word_id in ids)
    words = prompt_words(text)
    assert [word_id != WORD_IDS[PAD] for word_id in ids] == [True] * len(words) + [False] * (len(ids) - len(words))


def test_disable_weights_takes_the_text_literally() -> None:
    tokens = WordTokenizer().tokenize_with_weights("(red)", disable_weights=True)[TOKENS][0]
    assert tokens[0] == (WORD_IDS["red"], 1.0)


def test_the_tokenizer_says_where_its_words_are() -> None:
    located = WordTokenizer().locate_words("a (red:1.4) circle, and a red square")
    assert located.words == ("a", "red", "circle", "and", "a", "red", "square")
    assert located.tokens == tuple(range(7))
