"""Where a subject is, by what becomes of the prediction when nothing sees the subject's words.

Which of a model's attention maps show a subject differs from model to model, and some show anything but it. What a word
does to the picture needs no choice of blocks (docs/laboratory.md, measured on models of three layouts).
"""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F

from .maps import Grid
from .shown_texts import ShownText
from .words import SubjectTokens


def words_effect(hidden: torch.Tensor, plain: torch.Tensor, grid: Grid, patch: Grid) -> torch.Tensor:
    """How far the prediction moves at each token when the words are hidden: float32 [rows, tokens].

    hidden, plain: the prediction without the words and with them, [rows, channels, frames, height, width]; patch:
    latent cells of a token. Root mean squares, each the mean of a token and its neighbours in its frame: taking a word
    away changes the subject's edges most.
    """
    squares = F.avg_pool2d((hidden - plain).float().square().sum(1), patch[1:], ceil_mode=True)
    moved = torch.stack([frames.mean(1) for frames in squares.split(patch[0], dim=1)], dim=1).sqrt()
    return F.avg_pool2d(moved, 3, 1, 1, count_include_pad=False).reshape(len(moved), *grid).flatten(1)


def places_of_words(texts: Iterable[ShownText], words: Callable[[int], SubjectTokens | None]) -> frozenset[int]:
    """Where the words of a subject stand in the sequence of keys, in all texts that a segment sees; words: of each
    beat. Raises ValueError when a text is too short for them, or has no other tokens."""
    places: set[int] = set()
    for text in texts:
        subject = words(text.beat)
        tokens = () if subject is None else subject.subject
        if max(tokens, default=-1) >= text.length:
            raise ValueError("the prompt has more tokens than the model received")
        if len(set(tokens)) == text.length:
            raise ValueError("the prompt has no tokens but those of the subject")
        places.update(text.start + token for token in tokens)
    return frozenset(places)
