"""Words of a prompt and the text tokens that stand for them. Pure Python."""

import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, lru_cache

STOP_WORDS = frozenset(
    "a an the this that these those and or but of in on at to from by with over under across into onto through for as "
    "is are was were be been it its his her their he she they s t".split()
) | frozenset(
    "\u7684\u4e86\u5728\u662f\u548c\u7740"  # Chinese
    "\u306e\u306f\u304c\u3092\u306b\u3067\u3068"  # Japanese
    "\uc740\ub294\uc744\ub97c\uc758\uc5d0"  # Korean
)
"""Words that name nothing one could see; they take no part in contrasting the subject with the rest of a prompt."""

UNSPACED_SCRIPTS = frozenset(
    "CJK IDEOGRAPHIC HIRAGANA KATAKANA BOPOMOFO HALFWIDTH HANGUL THAI LAO KHMER MYANMAR".split()
)
"""First words of the Unicode names of letters whose words have no spaces between them, or, in Korean, grow endings."""


MOST_SUBJECT_WORDS = 100
"""Words that name one subject at most, each letter of a script without spaces among them."""
_LONGEST_NAME = 200
"""Characters of a subject's name, of which more are rare."""
MOST_MARKS = 128
"""Combining marks that are normalised together at most; more on one letter are no text, and normalising takes time in
proportion to the square of their number."""

_LONGEST_QUOTE = 400
"""Characters of a prompt and of its words in an error."""
_LONGEST_WORD, _MOST_NAMES = 40, 500
"""Characters of a word, and words of a prompt, that are compared for the nearest one."""
_LIKENESS = 0.7
"""From 0 to 1 as difflib counts it, how much alike a word must be that is offered for one that is not there."""


class WordError(ValueError):
    """A subject that cannot be found; the message names the prompt and the words it has."""


@dataclass(frozen=True)
class PromptWords:
    """The words of one prompt in order, lower-cased, and for each the positions of its tokens in the encoded text.

    A letter of a script without spaces is a word of its own; `joined` has the places in `words` of those that follow
    the word before them without a break. Such words may share a token.
    """

    words: tuple[str, ...]
    positions: tuple[tuple[int, ...], ...]
    joined: frozenset[int] = frozenset()

    @property
    def tokens(self) -> tuple[int, ...]:
        """Positions of all real tokens: no padding, no end token."""
        return tuple(sorted({token for span in self.positions for token in span}))

    @cached_property
    def runs(self) -> tuple[tuple[str, ...], ...]:
        """The words, those that are joined together."""
        runs: list[list[str]] = []
        for place, word in enumerate(self.words):
            if place in self.joined:
                runs[-1].append(word)
            else:
                runs.append([word])
        return tuple(tuple(run) for run in runs)

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        """Where each word stands."""
        places: dict[str, list[int]] = {}
        for place, word in enumerate(self.words):
            places.setdefault(word, []).append(place)
        return places

    def places_of(self, run: tuple[str, ...]) -> set[int]:
        """Places in `words` of all words that belong to an occurrence of `run`, its words joined to each other."""
        found: set[int] = set()
        for start in self._places.get(run[0], ()):
            places = range(start, start + len(run))
            if self.words[start : places.stop] == run and self.joined.issuperset(places[1:]):
                found.update(places)
        return found

    def other_content(self, subject: Collection[int]) -> tuple[int, ...]:
        """Positions of the content words of which no token is in `subject`."""
        taken = frozenset(subject)
        return _unique(
            token
            for word, span in zip(self.words, self.positions, strict=True)
            if word not in STOP_WORDS and taken.isdisjoint(span)
            for token in span
        )


@dataclass(frozen=True)
class SubjectTokens:
    """Token positions in one prompt: of the `subject`, and of `others`, the content words it is contrasted with."""

    subject: tuple[int, ...]
    others: tuple[int, ...]


def split_words(text: str) -> list[str]:
    """Lower-cased words of `text`; punctuation separates words."""
    return list(_words_of_text(text).words)


def find_words(characters: Iterable[tuple[str, tuple[int, ...]]]) -> PromptWords:
    """Words of a text that is given as its characters, each with the positions of the tokens it belongs to.

    Apostrophes and hyphens separate words, because not every tokenizer tells them from spaces. Text is compared in
    Unicode's form NFKC, because some tokenizers know no other.
    """
    words: list[list[str]] = []
    positions: list[dict[int, None]] = []
    joined: set[int] = set()
    unbroken = growing = False
    for cluster, tokens in _normalised(characters):
        given = -1
        for character in cluster:
            mark = unicodedata.category(character).startswith("M")
            if not character.isalnum() and not (mark and unbroken):
                unbroken = growing = False
                continue
            unspaced = not mark and _is_unspaced(character)
            if mark or (growing and not unspaced):
                words[-1].append(character)
            else:
                if unbroken:
                    joined.add(len(words))
                words.append([character])
                positions.append({})
                unbroken, growing = True, not unspaced
            if given < len(words) - 1:
                given = len(words) - 1
                positions[given].update(dict.fromkeys(tokens))
    return PromptWords(
        tuple("".join(word).lower() for word in words), tuple(tuple(span) for span in positions), frozenset(joined)
    )


def find_subject(prompt: str, known: PromptWords, subject: str, what: str = "subject") -> SubjectTokens:
    """Tokens of every word of `subject` (one or more, separated by spaces or commas) in a prompt.

    A word that occurs several times counts with all its places. In scripts without spaces any unbroken part of the
    prompt can be named. Raises WordError, whose message begins with `what`, when a word is not in the prompt, for no
    words and for too many.
    """
    wanted = _words_of_text(subject).runs
    if not wanted:
        raise WordError(
            f"{what}: '{_shortened(subject)}' has no words; name what should stay the same, for example 'fox'."
        )
    count = sum(map(len, wanted))
    if count > MOST_SUBJECT_WORDS:
        raise WordError(
            f"{what}: '{_shortened(subject)}' has {count} words; name what should stay the same with at most "
            f"{MOST_SUBJECT_WORDS}."
        )
    places: set[int] = set()
    for run in dict.fromkeys(wanted):
        found = known.places_of(run)
        if not found:
            raise WordError(f"{what}: {_not_found(''.join(run), run, prompt, known)}")
        places |= found
    tokens = _unique(token for place in sorted(places) for token in known.positions[place])
    taken = frozenset(tokens)
    others = _unique(
        token
        for place, (word, span) in enumerate(zip(known.words, known.positions, strict=True))
        if place not in places and word not in STOP_WORDS
        for token in span
        if token not in taken
    )
    return SubjectTokens(tokens, others)


def nearest_word(word: str, known: PromptWords) -> str | None:
    """The word of a prompt that is written most like `word`, such as 'foxes' for 'fox'; None where none is like it."""
    if len(word) > _LONGEST_WORD:
        return None
    wanted = word.lower()
    words = dict.fromkeys("".join(run) for run in known.runs)
    names = [name for name in words if len(name) <= _LONGEST_WORD and name not in STOP_WORDS][:_MOST_NAMES]
    found = get_close_matches(wanted, names, n=1, cutoff=_LIKENESS)
    return found[0] if found else next((name for name in names if _begins_alike(name, wanted)), None)


def _begins_alike(one: str, other: str) -> bool:
    shorter, longer = sorted((one, other), key=len)
    return len(shorter) > 2 and longer.startswith(shorter)


def missing_words(known: PromptWords, subject: str) -> list[str]:
    """The words of `subject` that a prompt does not have."""
    return ["".join(run) for run in dict.fromkeys(_words_of_text(subject).runs) if not known.places_of(run)]


def _not_found(word: str, run: tuple[str, ...], prompt: str, known: PromptWords) -> str:
    readable = _shortened(", ".join(dict.fromkeys("".join(run) for run in known.runs)) or "none")
    word, quoted = _shortened(word), _shortened(prompt)
    if _words_of_text(prompt).places_of(run):
        return (
            f"the text encoder of this model cannot read '{word}' in the prompt '{quoted}'. "
            f"Words it reads there: {readable}."
        )
    near = nearest_word(word, known)
    hint = "" if near is None else f" Did you mean '{near}'?"
    return f"'{word}' is not in the prompt '{quoted}'.{hint} Words of this prompt: {readable}."


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}..."


def _words_of_text(text: str) -> PromptWords:
    """The words of a text without its tokens. Those of short ones are kept, because a film's subject is looked for in
    every prompt."""
    return _words_of_name(text) if len(text) <= _LONGEST_NAME else find_words((character, ()) for character in text)


@lru_cache(maxsize=64)
def _words_of_name(text: str) -> PromptWords:
    return find_words((character, ()) for character in text)


def _is_unspaced(character: str) -> bool:
    # None of these scripts is before Thai.
    return character >= "\u0e00" and unicodedata.name(character, "").replace("-", " ").split(" ")[0] in UNSPACED_SCRIPTS


def _normalised(characters: Iterable[tuple[str, tuple[int, ...]]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Parts of the text in form NFKC that are made of `characters` that normalise together, with all their tokens."""
    cluster, owners = "", list[int]()
    for character, tokens in characters:
        if len(cluster) > MOST_MARKS or _normalises_apart(cluster, character):
            yield _nfkc(cluster), tuple(owners)
            cluster, owners = "", list[int]()
        cluster += character
        owners += tokens
    yield _nfkc(cluster), tuple(owners)


def _normalises_apart(before: str, character: str) -> bool:
    """Whether `character` neither marks nor composes with what is before it; none below U+0300 does."""
    if character < "\u0300":
        return True
    if unicodedata.combining(character):
        return False
    return _nfkc(before + character) == _nfkc(before) + _nfkc(character)


def _nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _unique(tokens: Iterable[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(tokens))
