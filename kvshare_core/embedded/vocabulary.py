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

PAIR_FILLERS = ("and", "while")

WORDS = (PAD, UNKNOWN, *COLOURS, *SHAPES, *SIZES, *DIRECTIONS, *BACKGROUNDS, *FILLERS)
"""What the cross-attention model knows: its captions speak of one subject."""
PAIR_WORDS = (*WORDS, *PAIR_FILLERS)
"""What the other models know: their captions speak of one subject or two."""
WORD_IDS = {word: index for index, word in enumerate(PAIR_WORDS)}

CHUNK_TOKENS = 16
"""A text is padded to a multiple of this many tokens, so that texts of ordinary length share one shape."""
PAIR_CHUNK_TOKENS = 24
"""The same for the other models, whose captions of two subjects are longer."""


def word_id(word: str, known: int = len(WORDS)) -> int:
    """Row of `word` in an embedding table of `known` rows; words that have none share the `<unknown>` row."""
    index = WORD_IDS.get(word, known)
    return index if index < known else WORD_IDS[UNKNOWN]


def unknown_words(words: Iterable[str], known: int = len(WORDS)) -> list[str]:
    """Those of `words` that an embedding table of `known` rows has no row for, in order, each once."""
    return list(dict.fromkeys(word for word in words if WORD_IDS.get(word, known) >= known))


def padded_length(count: int, chunk_tokens: int = CHUNK_TOKENS) -> int:
    """Tokens that a text of `count` words occupies: the next multiple of `chunk_tokens`, at least one chunk."""
    return max(1, -(-count // chunk_tokens)) * chunk_tokens
