"""Locating the subject by its appearance: words locate it once, then tokens are compared with examples of it.

A prompt's words locate a subject reliably but coarsely. Attention values separate objects far better and carry no
position, so the tokens with the strongest scores from words serve as examples for all the others. (Concept tokens
and similarity among video tokens: IMAP, arXiv 2603.02919; here without any score between two video tokens, and measured
in docs/laboratory.md.) Weights and scores are [subjects, rows, tokens].
"""

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


def likeness(value: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """How much more every token resembles a subject than everything else, float32 [subjects, rows, tokens].

    value: [rows, heads, tokens, head_dim] of one attention call; weights: `example_weights`. Tokens are compared by the
    cosine of what sets them apart from the clip's mean; everything else is the mean of the other subjects' examples and
    of the rest.
    """
    mean = value.mean(2, dtype=torch.float32).flatten(1)
    sums = torch.zeros(*weights.shape[:2], mean.shape[1], device=value.device)
    tokens = value.shape[2]
    size = min(tokens, chunk_length(len(mean) * mean.shape[-1], MAP_CHUNK_ELEMENTS))
    parts = [slice(start, start + size) for start in range(0, tokens, size)]
    features = mean
    for part in parts:
        features = _features(value[:, :, part], mean)
        sums += weights[..., part] @ features
    subjects, rest = sums.chunk(2, dim=1)
    count = subjects.shape[1]
    others = (subjects.sum(1, keepdim=True) - subjects + rest) / count
    direction = (subjects - others).transpose(1, 2)
    if len(parts) == 1:
        return (features @ direction).permute(2, 0, 1)
    scores = [_features(value[:, :, part], mean) @ direction for part in parts]
    return torch.cat(scores, dim=1).permute(2, 0, 1)


def _features(value: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Unit vectors [rows, tokens, heads x head_dim] of some tokens' values without the clip's mean."""
    features = value.transpose(1, 2).flatten(2).float() - mean[:, None]
    return features.div_(features.norm(dim=-1, keepdim=True).clamp_min_(SHORTEST))


SHORTEST = 1e-12
"""Length below which a vector is not made a unit vector."""
