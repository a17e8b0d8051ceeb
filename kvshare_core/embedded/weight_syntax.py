"""ComfyUI's weight syntax, read into words.

Token `i` of the embedded text encoder is the `i`-th word of the prompt.
"""

import math
from itertools import groupby

from ..prompt_words import split_words

GROUP_WEIGHT = 1.1
"""What a pair of parentheses without a number multiplies the weight by."""

_LONGEST_NUMBER = 64


def weighted_words(text: str) -> list[tuple[str, float]]:
    """Words of `text` with their weights: words of `(red circle)` weigh 1.1, those of `(red:1.3)` weigh 1.3.

    Parentheses nest; a number replaces the weight of everything around it. `\\(`, `\\)` and parentheses without a
    partner are plain punctuation.
    """
    text = text.replace("\\(", "  ").replace("\\)", "  ")
    characters = list(text)
    weights: list[float] = []
    pairs = _parentheses(text)
    around = [(len(text), 1.0)]
    for place in range(len(text)):
        while around[-1][0] <= place:
            around.pop()
        end = pairs.get(place)
        if end is not None:
            tail, weight = _explicit_weight(text, place, end)
            around.append((end, around[-1][1] * GROUP_WEIGHT if weight is None else weight))
            for position in (place, *range(tail, end + 1)):
                characters[position] = " "
        weights.append(around[-1][1])
    return [
        (word, weight)
        for weight, run in groupby(zip(characters, weights, strict=True), key=lambda pair: pair[1])
        for word in split_words("".join(character for character, _ in run))
    ]


def _parentheses(text: str) -> dict[int, int]:
    """Index of the closing character of every pair of parentheses, by that of the opening one."""
    open_at: list[int] = []
    pairs: dict[int, int] = {}
    for index, character in enumerate(text):
        if character == "(":
            open_at.append(index)
        elif character == ")" and open_at:
            pairs[open_at.pop()] = index
    return pairs


def _explicit_weight(text: str, start: int, end: int) -> tuple[int, float | None]:
    """Where the `:number` of the parentheses from `start` to `end` begins, and the number; (end, None) without one, as
    with more than _LONGEST_NUMBER characters."""
    colon = text.rfind(":", max(start + 2, end - _LONGEST_NUMBER), end)
    if colon >= 0:
        try:
            weight = float(text[colon + 1 : end])
        except ValueError:
            return end, None
        if math.isfinite(weight):
            return colon, weight
    return end, None


def prompt_words(text: str) -> list[str]:
    """Words of a prompt in token order, without the weight syntax."""
    return [word for word, _ in weighted_words(text)]
