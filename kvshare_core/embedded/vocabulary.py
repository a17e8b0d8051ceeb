"""The words that the embedded models know, and how a text becomes token ids.

Pure Python: the text encoder, the scene captions and the tests share this one list. The order is part of the committed
weights (a word's place is its row in the embedding table), so words are only ever appended. A table that is older than
a word lacks its row.
"""

from collections.abc import Collection, Iterable

PAD = "<pad>"
UNKNOWN = "<unknown>"

COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
SHAPES = ("circle", "square", "triangle")
SIZES = ("small", "large")
DIRECTIONS = ("right", "left", "up", "down")
BACKGROUNDS = ("night", "sand", "grass", "water")
FILLERS = ("a", "the", "shape", "moving", "moves", "going", "goes", "to", "over", "across", "on")
PAIR_FILLERS = ("and", "while")
PATTERNS = ("plain", "striped", "spotted", "halved")

PAIR_WORDS = (PAD, UNKNOWN, *COLOURS, *SHAPES, *SIZES, *DIRECTIONS, *BACKGROUNDS, *FILLERS, *PAIR_FILLERS, *PATTERNS)
"""The rows of an embedding table, and what the models know whose captions speak of one subject or two."""
WORDS = tuple(word for word in PAIR_WORDS if word not in PAIR_FILLERS)
"""What the models know whose captions speak of one subject."""
WORD_IDS = {word: index for index, word in enumerate(PAIR_WORDS)}

CHUNK_TOKENS = 16
"""A text is padded to a multiple of this many tokens, so that texts of ordinary length share one shape."""
PAIR_CHUNK_TOKENS = 24
"""The same for the models whose captions speak of two subjects, which are longer."""


def word_id(word: str, known: Collection[str] = WORDS) -> int:
    """Row of `word` in an embedding table; words that are not `known` share the `<unknown>` row."""
    return WORD_IDS[word if word in known else UNKNOWN]


def unknown_words(words: Iterable[str], known: Collection[str] = WORDS) -> list[str]:
    """Those of `words` that are not `known`, in order, each once."""
    return list(dict.fromkeys(word for word in words if word not in known))


def with_rows(known: Iterable[str], rows: int) -> tuple[str, ...]:
    """Those of `known` that an embedding table of `rows` has a row for."""
    return tuple(word for word in known if WORD_IDS[word] < rows)


def padded_length(count: int, chunk_tokens: int = CHUNK_TOKENS) -> int:
    """Tokens that a text of `count` words occupies: the next multiple of `chunk_tokens`, at least one chunk."""
    return max(1, -(-count // chunk_tokens)) * chunk_tokens
