"""The words that the embedded model knows, and how a text becomes token ids.

Pure Python: the text encoder, the scene captions and the tests share this one list. The order is part of the committed
weights (a word's place is its row in the embedding table), so words are only ever appended.
"""

from collections.abc import Iterable

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


def word_id(word: str) -> int:
    """Row of `word` in the embedding table; words outside the vocabulary share the `<unknown>` row."""
    return WORD_IDS.get(word, WORD_IDS[UNKNOWN])


def unknown_words(words: Iterable[str]) -> list[str]:
    """Those of `words` that the embedded model has never seen, in order, each once."""
    return list(dict.fromkeys(word for word in words if word not in WORD_IDS))


def padded_length(count: int) -> int:
    """Tokens that a text of `count` words occupies: the next multiple of `CHUNK_TOKENS`, at least one chunk."""
    return max(1, -(-count // CHUNK_TOKENS)) * CHUNK_TOKENS
