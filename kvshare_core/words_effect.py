"""Where a subject is, by what becomes of the prediction when nothing sees the subject's words.

Which of a model's attention maps show a subject differs from model to model, and some show anything but it. What a word
does to the picture needs no choice of blocks: measured in docs/laboratory.md on models of three layouts.
"""

from collections.abc import Collection, Iterable, Sequence

import torch
import torch.nn.functional as F

from .attention import Backend, attend
from .families.base import AttentionCall
from .log_sum_exp import LogSumExpAttention
from .maps import Grid
from .sharing import OwnTokens
from .shown_texts import ShownText
from .words import SubjectTokens


def words_effect(hidden: torch.Tensor, plain: torch.Tensor, grid: Grid, patch: Grid) -> torch.Tensor:
    """How far the prediction moves at each token when the words are hidden: float32 [rows, tokens].

    hidden, plain: the prediction without the words and with them, [rows, channels, frames, height, width]; patch:
    latent cells of a token. Root mean squares, each the mean of a token and its neighbours in its frame: taking a word
    away changes the subject's edges most.
    """
    squares = (hidden - plain).float().square().sum(1)
    moved = F.avg_pool3d(squares[:, None], patch, ceil_mode=True).sqrt()[:, 0]
    return F.avg_pool2d(moved, 3, 1, 1, count_include_pad=False).reshape(len(moved), *grid).flatten(1)


def attend_without(
    call: AttentionCall,
    sequences: Sequence[OwnTokens],
    hidden: Sequence[Collection[int]],
    backend: Backend,
    partial: LogSumExpAttention,
) -> torch.Tensor | None:
    """The output [rows, heads, tokens, head_dim] of a call without the keys at the `hidden` places of each row's
    sequence; None when a row has no others."""
    outputs: list[torch.Tensor] = []
    for row, (own, places) in enumerate(zip(sequences, hidden, strict=True)):
        seen = own.everything_but(places)
        if seen is None:
            return None
        outputs.append(attend(call.query[row : row + 1], [seen], backend, partial, call.scale))
    return torch.cat(outputs)


def places_of_words(texts: Iterable[tuple[ShownText, SubjectTokens | None]]) -> frozenset[int]:
    """Where the words of a subject stand in the sequence of keys, in all texts that show it. Raises ValueError when a
    text is too short for them."""
    places: set[int] = set()
    for text, subject in texts:
        tokens = () if subject is None else subject.subject
        if tokens and max(tokens) >= text.length:
            raise ValueError("the prompt has more tokens than the model received")
        places.update(text.start + token for token in tokens)
    return frozenset(places)
