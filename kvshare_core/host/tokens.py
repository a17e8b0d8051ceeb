"""Finds the words of a prompt among the tokens of the user's own text encoder."""

from typing import Any

from ..words import WORD, PromptWords

SPACE_MARKS = {"\u2581": " ", "</w>": " ", "\u0120": " "}
"""How sentencepiece, CLIP's and byte-level tokenizers write a space."""


def locate_words(clip: Any, text: str) -> PromptWords | None:
    """Words of `text` and the positions of their tokens in the encoded text; None when this encoder does not tell.

    Works from the tokens that the encoder itself makes, so weights syntax and normalisation are accounted for. Encoders
    that combine several tokenizers are not told apart yet and give None.
    """
    own = getattr(clip.tokenizer, "locate_words", None)
    if own is not None:
        return own(text)
    streams = clip.tokenize(text, return_word_ids=True)
    if len(streams) != 1:
        return None
    (name, chunks), *_ = streams.items()
    vocabulary = getattr(_inner_tokenizer(clip.tokenizer, name), "inv_vocab", None)
    if vocabulary is None:
        return None
    return align_pieces(
        [
            vocabulary.get(token, "") if word_id and isinstance(token, int) else None
            for chunk in chunks
            for token, _, word_id in chunk
        ]
    )


def _inner_tokenizer(tokenizer: Any, name: str) -> Any:
    return getattr(tokenizer, getattr(tokenizer, "clip", f"clip_{name}"), None)


def align_pieces(pieces: list[str | None]) -> PromptWords:
    """Words of the text that `pieces` spell, each with the places of its pieces. None stands for a special token."""
    spelled = ""
    owners: list[int] = []
    for place, piece in enumerate(pieces):
        if piece is None:
            continue
        for mark, plain in SPACE_MARKS.items():
            piece = piece.replace(mark, plain)
        spelled += piece
        owners += [place] * len(piece)
    matches = list(WORD.finditer(spelled))
    return PromptWords(
        tuple(match.group().lower() for match in matches),
        tuple(tuple(dict.fromkeys(owners[match.start() : match.end()])) for match in matches),
    )
