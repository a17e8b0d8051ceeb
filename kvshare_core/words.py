"""Words of a prompt and the text tokens that stand for them. Pure Python."""

import re
from dataclasses import dataclass

STOP_WORDS = frozenset(
    "a an the this that these those and or but of in on at to from by with over under across into onto through for as "
    "is are was were be been it its his her their he she they s t".split()
)
"""Words that name nothing one could see; they take no part in contrasting the subject with the rest of a prompt."""

WORD = re.compile(r"[^\W_]+")
"""A word. Apostrophes and hyphens separate words, because not every tokenizer tells them from spaces."""


class WordError(ValueError):
    """A subject that cannot be found; the message names the prompt and the words it has."""


@dataclass(frozen=True)
class PromptWords:
    """The words of one prompt in order, lower-cased, and for each the positions of its tokens in the encoded text."""

    words: tuple[str, ...]
    positions: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> tuple[int, ...]:
        """Positions of all real tokens: no padding, no end token."""
        return tuple(sorted(token for span in self.positions for token in span))

    def other_content(self, subject: tuple[int, ...]) -> tuple[int, ...]:
        """Positions of the content words of which no token is in `subject`."""
        return tuple(
            token
            for word, span in zip(self.words, self.positions, strict=True)
            if word not in STOP_WORDS and not set(span) & set(subject)
            for token in span
        )


@dataclass(frozen=True)
class SubjectTokens:
    """Token positions in one prompt: of the `subject`, and of `others`, the content words it is contrasted with."""

    subject: tuple[int, ...]
    others: tuple[int, ...]


def split_words(text: str) -> list[str]:
    """Lower-cased words of `text`; punctuation separates words."""
    return WORD.findall(text.lower())


def find_subject(prompt: str, known: PromptWords, subject: str) -> SubjectTokens:
    """Tokens of every word of `subject` (one or more, separated by spaces or commas) in a prompt.

    A word that occurs several times counts with all its places. Raises WordError when a word is not in the prompt.
    """
    wanted = split_words(subject)
    if not wanted:
        raise WordError(f"subject: '{subject}' has no words; name what should stay the same, for example 'fox'.")
    missing = [word for word in wanted if word not in known.words]
    if missing:
        raise WordError(
            f"subject: '{missing[0]}' is not in the prompt '{prompt}'. "
            f"Words of this prompt: {', '.join(dict.fromkeys(known.words))}."
        )
    subject_tokens: list[int] = []
    others: list[int] = []
    for word, span in zip(known.words, known.positions, strict=True):
        if word in wanted:
            subject_tokens += span
        elif word not in STOP_WORDS:
            others += span
    return SubjectTokens(tuple(subject_tokens), tuple(others))
