"""The words that the embedded model knows, and how a text becomes token ids.

Pure Python: the text encoder, the scene captions and the tests share this one list. The order is part of the committed
weights (a word's place is its row in the embedding table), so words are only ever appended.
"""

import re

PAD = "<pad>"
UNKNOWN = "<unknown>"

COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
SHAPES = ("circle", "square", "triangle")
SIZES = ("small", "large")
DIRECTIONS = ("right", "left", "up", "down")
BACKGROUNDS = ("night", "sand", "grass", "water")
FILLERS = ("a", "the", "shape", "moving", "moves", "going", "goes", "to", "over", "across", "on")

WORDS = (PAD, UNKNOWN, *COLOURS, *SHAPES, *SIZES, *DIRECTIONS, *BACKGROUNDS, *FILLERS)
WORD_IDS = {word: index for index, word in enumerate(WORDS)}

CHUNK_TOKENS = 16
"""A text is padded to a multiple of this many tokens, so that texts of ordinary length share one shape."""


def split_words(text: str) -> list[str]:
    """Lower-cased words of `text`; punctuation separates words and is dropped."""
    return re.findall(r"[^\W_]+(?:['-][^\W_]+)*", text.lower())


def word_id(word: str) -> int:
    """Row of `word` in the embedding table; words outside the vocabulary share the `<unknown>` row."""
    return WORD_IDS.get(word, WORD_IDS[UNKNOWN])


def unknown_words(text: str) -> list[str]:
    """Words of `text` that the embedded model has never seen, in order, each once."""
    return list(dict.fromkeys(word for word in split_words(text) if word not in WORD_IDS))


def padded_length(count: int) -> int:
    """Tokens that a text of `count` words occupies: the next multiple of `CHUNK_TOKENS`, at least one chunk."""
    return max(1, -(-count // CHUNK_TOKENS)) * CHUNK_TOKENS
