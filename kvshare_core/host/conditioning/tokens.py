"""Finds the words of a prompt among the tokens of the user's own text encoder.

Where the prompt is among them is stated by the families (`families/text_encoders.py`).
"""

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from ... import families
from ...families.text_encoders import PromptTokens
from ...prompt_words import PromptWords, find_words

SPACE = "\u2581"
"""How sentencepiece writes a space."""

WORD_END = "</w>"
"""How CLIP ends a word."""

BYTE = r"<0x([0-9A-F]{2})>"
"""How sentencepiece writes one byte of a character that has no piece."""

SPECIAL = r"<[^<>]+>"
"""A token that is not text, such as <unk> or <|im_end|>."""


def locate_words(clip: Any, text: str) -> PromptWords | None:
    """Words of `text` and the positions of their tokens in the encoded text; None when this encoder does not reveal
    them.

    Uses the tokens that the encoder itself makes, so weight syntax and normalisation are accounted for, and templates
    around the prompt are left out. An encoder that no family states could cut or reorder its output, so the result is
    None, as it is with an image among the tokens.
    """
    own = getattr(clip.tokenizer, "locate_words", None)
    if own is not None:
        return own(text)
    prompt = _prompt_tokens(clip.cond_stage_model)
    if prompt is None:
        return None
    encoder, tokenizer, chunks = _language_model(clip, prompt, clip.tokenize(text))
    vocabulary: dict[int, str] = tokenizer.inv_vocab
    tokens = [token for chunk in chunks for token, *_ in chunk]
    pieces = [vocabulary.get(token, "") if isinstance(token, int) else "" for token in tokens]
    excerpt = prompt.excerpt(pieces)
    rows = _rows(chunks, encoder)
    if excerpt is None or rows is None:
        return None
    silent = {tokenizer.start_token, tokenizer.end_token, tokenizer.pad_token}
    spelling = sentencepiece_text if any(SPACE in piece for piece in vocabulary.values()) else byte_level_text
    return align_pieces(
        (spelling(pieces[place]), rows[place] - excerpt.kept)
        for place in range(excerpt.start, excerpt.stop)
        if isinstance(tokens[place], int) and tokens[place] not in silent
    )


def align_pieces(pieces: Iterable[tuple[bytes, int]]) -> PromptWords:
    """Words of the UTF-8 text that `pieces` spell; each piece comes with its position.

    Pieces may end within a character; the character then belongs to all of them.
    """
    return find_words(_characters(pieces))


def _characters(pieces: Iterable[tuple[bytes, int]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    owners: tuple[int, ...] = ()
    for piece, position in pieces:
        for byte in piece:
            owners += (position,)
            text = decoder.decode(bytes([byte]))
            if text:
                yield from ((character, owners) for character in text)
                owners = ()


def sentencepiece_text(piece: str) -> bytes:
    """The text of a piece of T5's, umT5's or Gemma's vocabulary; special tokens separate words."""
    byte = re.fullmatch(BYTE, piece)
    if byte:
        return bytes([int(byte[1], 16)])
    return b" " if re.fullmatch(SPECIAL, piece) else piece.replace(SPACE, " ").encode()


def byte_level_text(piece: str) -> bytes:
    """The text of a piece of CLIP's, LLaMA's or Qwen's vocabulary, which spells bytes with one character for each."""
    if re.fullmatch(SPECIAL, piece):
        return b" "
    text = b"".join(BYTE_OF.get(character, character.encode()) for character in piece.removesuffix(WORD_END))
    return text + b" " if piece.endswith(WORD_END) else text


def _byte_alphabet() -> dict[str, int]:
    """Printable bytes are their Latin-1 characters; the others are the characters from U+0100 on, in order."""
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printing]
    return {chr(byte): byte for byte in printing} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


BYTE_OF = {character: bytes([byte]) for character, byte in _byte_alphabet().items()}


def _defining_class(encoder: Any) -> str:
    """Name of the host's class whose method turns tokens into the embedding; what it cuts depends on nothing else."""
    return next((kind.__name__ for kind in type(encoder).__mro__ if "encode_token_weights" in vars(kind)), "")


def _prompt_tokens(text_encoder: Any) -> PromptTokens | None:
    """What the families state about a text encoder; None for one of no family."""
    stated = (encoders.prompt for family in families.FAMILIES for encoders in family.text_encoders)
    combination = _defining_class(text_encoder)
    return next(
        (
            prompt
            for prompt in stated
            if combination in prompt.encoders
            and _defining_class(getattr(text_encoder, prompt.encoder_part or text_encoder.clip))
            in prompt.language_models
        ),
        None,
    )


def _language_model(clip: Any, prompt: PromptTokens, streams: Any) -> tuple[Any, Any, Sequence[Sequence[Any]]]:
    """Encoder, tokenizer and token chunks of the language model whose output becomes the conditioning; that of others
    is pooled or added to it."""
    encoder, tokenizer = clip.cond_stage_model, clip.tokenizer
    return (
        getattr(encoder, prompt.encoder_part or encoder.clip),
        getattr(tokenizer, prompt.tokenizer_part or tokenizer.clip),
        streams[prompt.tokens_name or prompt.tokenizer_part or tokenizer.clip_name],
    )


def _rows(chunks: Sequence[Sequence[Any]], encoder: Any) -> list[int] | None:
    """The embedding's row of every token; None when a token is an image, whose number of rows the model decides.

    An embedding of another width is left out by the host, which then pads the end of the chunk.
    """
    rows: list[int] = []
    row = 0
    for chunk in chunks:
        padding = 0
        for token, *_ in chunk:
            rows.append(row)
            if isinstance(token, int):
                row += 1
            elif not torch.is_tensor(token):
                return None
            else:
                width = token.shape[-1]
                fits = width == encoder.transformer.get_input_embeddings().weight.shape[-1]
                row += token.numel() // width if fits else 0
                padding += 0 if fits else token.numel() // width
        row += padding
    return rows
