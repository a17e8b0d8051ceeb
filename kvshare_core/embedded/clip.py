"""The embedded text encoders as ComfyUI CLIPs, for the stock text nodes.

A prompt becomes one token per word, padded to whole chunks; longer prompts take more chunks and nothing is cut. Each
token of the conditioning is the word's vector times its weight, then the position code. A weight, as in `(red:1.3)`,
scales the word's vector only. The cross-attention model's [1, tokens, 4096] ends in zeros up to the width that Wan
models expect. The other models' [1, tokens, 160] comes with the pooled text that HunyuanVideo models expect,
which is zero, and without an attention mask: training attended to the padding too.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.supported_models_base
import comfy.utils
import torch

from ..prompt_words import PromptWords, split_words
from .layouts import POOLED_DIM, TEXT_DIM
from .text import POSITION_WIDTH, TEXT_WIDTH, WORD_WIDTH, position_code
from .vocabulary import (
    CHUNK_TOKENS,
    PAD,
    PAIR_CHUNK_TOKENS,
    PAIR_WORDS,
    PATTERNS,
    UNKNOWN,
    WORD_IDS,
    WORDS,
    padded_length,
    unknown_words,
    with_rows,
    word_id,
)
from .weight_syntax import prompt_words, weighted_words

TOKENS = "words"
"""Name of the token lists in what `CLIP.tokenize` returns."""

Token = tuple[int, float] | tuple[int, float, int]


class WordTokenizer:
    """Prompt to `{"words": [chunk, ...]}`, each chunk a list of `chunk_tokens` (word id, weight) pairs. It knows those
    words of its vocabulary that the model's table of `rows` has a row for."""

    vocabulary = WORDS
    chunk_tokens = CHUNK_TOKENS

    def __init__(
        self,
        embedding_directory: object = None,
        tokenizer_data: Mapping[str, Any] | None = None,
        rows: int = len(PAIR_WORDS),
    ):
        """Takes, and has no use for, what the host hands to every tokenizer."""
        self.known = with_rows(self.vocabulary, rows)

    def tokenize_with_weights(
        self, text: str, return_word_ids: bool = False, disable_weights: bool = False, **_options: object
    ) -> dict[str, list[list[Token]]]:
        """Tokens of `text`. With `return_word_ids` each also has the word's number from 1, and 0 for padding."""
        weighted = [(word, 1.0) for word in split_words(text)] if disable_weights else weighted_words(text)
        warn_of_unknown([word for word, _ in weighted], self.known)
        step = self.chunk_tokens
        tokens: list[Token] = [(self.id_of(word), weight, number) for number, (word, weight) in enumerate(weighted, 1)]
        tokens += [(WORD_IDS[PAD], 1.0, 0)] * (padded_length(len(tokens), step) - len(tokens))
        if not return_word_ids:
            tokens = [token[:2] for token in tokens]
        return {TOKENS: [tokens[start : start + step] for start in range(0, len(tokens), step)]}

    def untokenize(self, token_weight_pair: Sequence[Token]) -> list[tuple[Token, str]]:
        """The tokens of one chunk, each with its word."""
        return [(token, self.word_of(token[0])) for token in token_weight_pair]

    def id_of(self, word: str) -> int:
        """Row of `word` in the table of word vectors."""
        return word_id(word, self.known)

    def word_of(self, number: int) -> str:
        """The word of a row."""
        return PAIR_WORDS[number]

    def locate_words(self, text: str) -> PromptWords:
        """The words of `text` with their token positions: the word's place in the prompt."""
        words = prompt_words(text)
        return PromptWords(tuple(words), tuple((place,) for place in range(len(words))))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The vocabulary is part of the code, so there is nothing to save."""
        return {}


class PairWordTokenizer(WordTokenizer):
    """The same for the models that draw two subjects, which know a few words more and have longer captions."""

    vocabulary = PAIR_WORDS
    chunk_tokens = PAIR_CHUNK_TOKENS


def warn_of_unknown(words: Sequence[str], known: Sequence[str]) -> None:
    """Logs one warning that names those of `words` that an embedded model has never seen, if there are any."""
    unknown = unknown_words(words, known)
    if unknown:
        logging.warning(
            "The embedded KV Share model does not know: %s. It draws nothing for them. Known words are: %s.",
            ", ".join(unknown),
            ", ".join(word for word in known if word not in (PAD, UNKNOWN)),
        )


class WordTextModel(torch.nn.Module):
    """The host's side of `WordEmbedding`: same arithmetic, on layers that the host can move, cast and patch."""

    text_dim = TEXT_DIM
    pooled_dim: int | None = None

    def __init__(
        self,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        model_options: Mapping[str, Any] | None = None,
        rows: int = len(PAIR_WORDS),
    ):
        super().__init__()
        operations = (model_options or {}).get("custom_operations", comfy.ops.manual_cast)
        self.words = operations.Embedding(rows, WORD_WIDTH, device=device, dtype=dtype)
        self.dtypes = set() if dtype is None else {dtype}
        self.execution_device: torch.device | None = None

    def set_clip_options(self, options: Mapping[str, Any]) -> None:
        """Takes the device to compute on; layers and projections, which other options choose, do not exist here."""
        self.execution_device = options.get("execution_device", self.execution_device)

    def reset_clip_options(self) -> None:
        """Forgets what `set_clip_options` took."""
        self.execution_device = None

    def encode_token_weights(
        self, token_weight_pairs: Mapping[str, Sequence[Sequence[Token]]]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Conditioning [1, tokens, text_dim] of what the tokenizer returned, and zeros [1, pooled_dim] if there is a
        pooled output."""
        tokens = [token for chunk in token_weight_pairs[TOKENS] for token in chunk]
        device = self.execution_device or self.words.weight.device
        ids = torch.tensor([[token[0] for token in tokens]], device=device)
        weights = torch.tensor([token[1] for token in tokens], device=device)
        text = torch.zeros(1, len(tokens), self.text_dim, device=device)
        text[..., :WORD_WIDTH] = self.words(ids, out_dtype=torch.float32) * weights[:, None]
        text[..., WORD_WIDTH:TEXT_WIDTH] = position_code(len(tokens), POSITION_WIDTH)
        target = comfy.model_management.intermediate_device()
        pooled = None if self.pooled_dim is None else torch.zeros(1, self.pooled_dim, device=target)
        return text.to(target), pooled

    def load_sd(self, state_dict: Mapping[str, torch.Tensor]) -> Any:
        """Loads the text encoder's file, whose one tensor is the table of word vectors."""
        return self.load_state_dict({"words.weight": state_dict["words"]}, strict=True)


class PairWordTextModel(WordTextModel):
    """The same for the models that draw two subjects, in the shape of HunyuanVideo's conditioning."""

    text_dim = TEXT_WIDTH
    pooled_dim = POOLED_DIM


def knows_patterns(clip: comfy.sd.CLIP) -> bool:
    """Whether an embedded model's text encoder has learned the words for patterns, as all but old ones have."""
    return set(PATTERNS) <= set(clip.tokenizer.known)


def load_text_encoder(file: Path, pairs: bool = False, **options: Any) -> comfy.sd.CLIP:
    """A ComfyUI CLIP with the word vectors in `file`, for a model that draws two subjects where `pairs`; `options` go
    to the host's class."""
    state_dict = cast(dict[str, torch.Tensor], comfy.utils.load_torch_file(str(file), safe_load=True))
    rows = len(state_dict["words"])
    target = comfy.supported_models_base.ClipTarget(
        partial(PairWordTokenizer if pairs else WordTokenizer, rows=rows),
        partial(PairWordTextModel if pairs else WordTextModel, rows=rows),
    )
    clip = comfy.sd.CLIP(target, parameters=state_dict["words"].numel(), **options)
    clip.load_sd(state_dict)
    vars(clip.patcher)["cached_patcher_init"] = (load_text_encoder_patcher, (file, pairs))
    return clip


def load_text_encoder_patcher(file: Path, pairs: bool = False, **options: Any) -> comfy.model_patcher.ModelPatcher:
    """Newer hosts call this for a second copy: for one more GPU, or without dynamic loading."""
    return load_text_encoder(file, pairs, **options).patcher
