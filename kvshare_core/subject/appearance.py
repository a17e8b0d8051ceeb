"""Locating the subject by its appearance: words locate it once, then tokens are compared with examples of it.

A prompt's words locate a subject reliably but coarsely. Attention values separate objects far better and carry no
position, so the tokens with the strongest scores from words serve as examples for all the others. (Concept tokens
and similarity among video tokens: IMAP, arXiv 2603.02919; here without any score between two video tokens, and measured
in docs/laboratory.md.) Weights and scores are [subjects, rows, tokens].
"""

from collections.abc import Iterator
from functools import reduce

import torch

from ..devices import chunk_length
from ..record.record import Examples
from .maps import MAP_CHUNK_ELEMENTS

EXAMPLE_PART = 0.1
"""Part of a clip's tokens that are examples of a subject."""
REST_PART = 0.5
"""Part of a clip's tokens that are examples of what is not the subject."""


def choose_examples(belief: torch.Tensor) -> Examples:
    """The tokens where `belief` [subjects, rows, tokens] is highest, and those where it is lowest."""
    tokens = belief.shape[-1]
    order = belief.argsort(dim=-1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(-1, order, torch.arange(tokens, device=order.device).expand_as(order))
    return Examples(rank < max(1, round(EXAMPLE_PART * tokens)), rank >= tokens - max(1, round(REST_PART * tokens)))


def example_weights(examples: Examples) -> torch.Tensor:
    """What each token counts for in the means of the examples, float32 [rows, 2 x subjects, tokens]: those of the
    subjects, then those of the rest of each."""
    wanted = torch.cat([examples.subject, examples.rest]).transpose(0, 1).to(torch.float32)
    return wanted / wanted.sum(-1, keepdim=True)


def contrasts(weights: torch.Tensor) -> torch.Tensor:
    """What each token counts for in the direction from everything else to each subject, float32 [rows, subjects,
    tokens]. Everything else is the mean of the other subjects' examples and of the rest; weights: `example_weights`."""
    subjects, rest = weights.chunk(2, dim=1)
    others = (subjects.sum(1, keepdim=True) - subjects + rest) / subjects.shape[1]
    return subjects - others


def likeness(value: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """How much more every token resembles a subject than everything else, float32 [subjects, rows, tokens].

    value: [rows, heads, tokens, head_dim] of one attention call; counts: `contrasts` of the examples. Tokens are
    compared by the cosine of what sets them apart from the clip's mean.
    """
    features = Features(value, mean_value(value))
    return features.along(features.directions(counts))


def mean_value(value: torch.Tensor) -> torch.Tensor:
    """The mean of all tokens of `value` [rows, heads, tokens, head_dim], float32 [rows, heads x head_dim]."""
    return value.mean(2, dtype=torch.float32).flatten(1)


class Features:
    """What sets tokens apart from the mean of their clip, as unit vectors; of a long clip in parts, made anew for every
    use."""

    def __init__(self, value: torch.Tensor, mean: torch.Tensor):
        """value: [rows, heads, tokens, head_dim] of one attention call; mean: `mean_value` of the clip, of which
        `value` may have only some tokens."""
        self._value = value
        self._mean = mean
        rows, heads, tokens, head_dim = value.shape
        size = max(1, min(tokens, chunk_length(rows * heads * head_dim, MAP_CHUNK_ELEMENTS)))
        self._slices = [slice(start, start + size) for start in range(0, tokens, size)]
        self._only = _features(value, mean) if len(self._slices) == 1 else None

    def directions(self, counts: torch.Tensor) -> torch.Tensor:
        """The directions from everything else to each subject, float32 [rows, heads x head_dim, subjects]; counts: as
        for `likeness`."""
        return reduce(torch.add, (counts[..., tokens] @ part for tokens, part in self._parts())).transpose(1, 2)

    def along(self, direction: torch.Tensor) -> torch.Tensor:
        """How far every token lies in each direction [rows, heads x head_dim, subjects]: float32 [subjects, rows,
        tokens]."""
        found = [part @ direction for _, part in self._parts()]
        return (found[0] if len(found) == 1 else torch.cat(found, dim=1)).permute(2, 0, 1)

    def _parts(self) -> Iterator[tuple[slice, torch.Tensor]]:
        for tokens in self._slices:
            yield tokens, _features(self._value[:, :, tokens], self._mean) if self._only is None else self._only


def _features(value: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Unit vectors [rows, tokens, heads x head_dim] of some tokens' values without the clip's mean."""
    features = value.transpose(1, 2).flatten(2).float() - mean[:, None]
    return features.div_(torch.linalg.vector_norm(features, dim=-1, keepdim=True).clamp_min_(SHORTEST))


SHORTEST = 1e-12
"""Length below which a vector is not made a unit vector."""
