"""Finds the words of a prompt among the tokens of the user's own text encoder."""

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import torch

from ...prompt_words import PromptWords, find_words

SPACE = "\u2581"
"""How sentencepiece writes a space."""

WORD_END = "</w>"
"""How CLIP ends a word."""

BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""How sentencepiece writes one byte of a character that has no piece."""

SPECIAL = re.compile(r"<[^<>]+>")
"""A token that is no text, such as <unk> or <|im_end|>."""

LLAMA_HEADER = ["<|start_header_id|>", "user", "<|end_header_id|>"]


class Excerpt(NamedTuple):
    """Which tokens of a stream count: the embedding begins with token `kept`, the prompt is start <= token < stop."""

    kept: int
    start: int
    stop: int


def locate_words(clip: Any, text: str) -> PromptWords | None:
    """Words of `text` and the positions of their tokens in the encoded text; None when this encoder does not tell.

    Works from the tokens that the encoder itself makes, so weights syntax and normalisation are accounted for, and
    templates around the prompt are left out. An encoder that the pack does not know could cut or reorder its output,
    so it gives None, as does an image among the tokens.
    """
    own = getattr(clip.tokenizer, "locate_words", None)
    if own is not None:
        return own(text)
    maker = _maker(clip.cond_stage_model)
    if maker not in EXCERPTS:
        return None
    encoder, tokenizer, chunks = _attended_stream(clip, maker, clip.tokenize(text))
    if _maker(encoder) != "ClipTokenWeightEncoder":
        return None
    vocabulary: dict[int, str] = tokenizer.inv_vocab
    tokens = [token for chunk in chunks for token, *_ in chunk]
    pieces = [vocabulary.get(token, "") if isinstance(token, int) else "" for token in tokens]
    excerpt = EXCERPTS[maker](pieces)
    rows = _rows(chunks, encoder)
    if excerpt is None or rows is None:
        return None
    silent = {tokenizer.start_token, tokenizer.end_token, tokenizer.pad_token}
    read = sentencepiece_text if any(SPACE in piece for piece in vocabulary.values()) else byte_level_text
    return align_pieces(
        (read(pieces[place]), rows[place] - excerpt.kept)
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
    byte = BYTE.fullmatch(piece)
    if byte:
        return bytes([int(byte[1], 16)])
    return b" " if SPECIAL.fullmatch(piece) else piece.replace(SPACE, " ").encode()


def byte_level_text(piece: str) -> bytes:
    """The text of a piece of CLIP's, LLaMA's or Qwen's vocabulary, which spells bytes with one character for each."""
    if SPECIAL.fullmatch(piece):
        return b" "
    text = b"".join(BYTE_OF.get(character, character.encode()) for character in piece.removesuffix(WORD_END))
    return text + b" " if piece.endswith(WORD_END) else text


def _byte_alphabet() -> dict[str, int]:
    """Bytes that print stand for themselves in Latin-1; the others are the characters from U+0100 on, in order."""
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printing]
    return {chr(byte): byte for byte in printing} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


BYTE_OF = {character: bytes([byte]) for character, byte in _byte_alphabet().items()}


def _maker(encoder: Any) -> str:
    """Name of the host's class whose method turns tokens into the embedding; what it cuts depends on nothing else."""
    return next((kind.__name__ for kind in type(encoder).__mro__ if "encode_token_weights" in vars(kind)), "")


def _attended_stream(clip: Any, maker: str, streams: Any) -> tuple[Any, Any, Sequence[Sequence[Any]]]:
    """Encoder, tokenizer and token chunks of the stream that becomes the conditioning; others are pooled or extra."""
    encoder, tokenizer = clip.cond_stage_model, clip.tokenizer
    if maker == "HunyuanVideoClipModel":
        return encoder.llama, tokenizer.llama, streams["llama"]
    name = tokenizer.clip_name
    inner = encoder.gemma3_12b if maker == "LTXAVTEModel" else getattr(encoder, encoder.clip)
    return inner, getattr(tokenizer, tokenizer.clip), streams[name]


def _rows(chunks: Sequence[Sequence[Any]], encoder: Any) -> list[int] | None:
    """The embedding's row of every token; None where a token is an image, which takes as many as its model likes.

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


def _everything(pieces: list[str]) -> Excerpt:
    return Excerpt(0, 0, len(pieces))


def _after_padding(pieces: list[str]) -> Excerpt:
    padding = sum(1 for _ in takewhile(lambda piece: piece == "<pad>", pieces))
    return Excerpt(padding, padding, len(pieces))


def _after_llama_header(pieces: list[str]) -> Excerpt | None:
    """The host keeps what follows the last user header and, if it can, leaves out the end of it and a blank line."""
    headers = [place for place in range(len(pieces) - 2) if pieces[place : place + 3] == LLAMA_HEADER]
    if not headers:
        return None
    start = headers[-1] + 3
    stop = _find(pieces, "<|eot_id|>", start)
    cut = pieces[start : start + 1] == ["\u010a\u010a"] and len(pieces) > start + 1
    return Excerpt(start + 1 if cut else start - 1, start, stop)


def _after_qwen_header(pieces: list[str]) -> Excerpt | None:
    """The host keeps what follows the second message's start and, if it can, leaves out 'user' and a line break."""
    messages = [place for place, piece in enumerate(pieces) if piece == "<|im_start|>"][:2]
    if not messages or messages[0] != 0:
        return None
    message = messages[-1]
    header = pieces[message + 1 : message + 3]
    start = message + 2 if header[:1] == ["user"] else message + 1
    cut = header == ["user", "\u010a"] and len(pieces) > message + 3
    return Excerpt(message + 3 if cut else message, start, _find(pieces, "<|im_end|>", start))


def _find(pieces: list[str], piece: str, start: int) -> int:
    return next((place for place in range(start, len(pieces)) if pieces[place] == piece), len(pieces))


EXCERPTS: dict[str, Callable[[list[str]], Excerpt | None]] = {
    "SD1ClipModel": _everything,
    "HunyuanVideoClipModel": _after_llama_header,
    "QwenImageTEModel": _after_qwen_header,
    "HunyuanImageTEModel": _after_qwen_header,
    "Kandinsky5TEModel": _after_qwen_header,
    "LTXAVTEModel": _after_padding,
}
"""By the class that makes the embedding: what it keeps of its tokens, and where the prompt stands in them."""
