"""Attention with weighed words in float64 with every score in memory, from the definitions alone."""

from collections.abc import Mapping

import torch

from .dense_reference import dense_attention


def weighed_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor,
    video: range,
    weights: Mapping[int, float],
    normalised: bool,
) -> torch.Tensor:
    """Attention of a joint sequence, [rows, queries, heads * head_dim], to its own keys and, behind them, to those of
    sequences laid out alike. bias: [queries, keys]; weights: of words by their places in the own sequence.

    Queries of the video see a word so often as its weight says, a word sees all video so often. Normalised, that is a
    bias; otherwise probabilities are multiplied after the softmax.
    """
    length = query.shape[2]
    factor = torch.ones_like(bias)
    for word, weight in weights.items():
        factor[video.start : video.stop, word] = weight
        for first in range(0, key.shape[2], length):
            factor[word, first + video.start : first + video.stop] = weight
    if normalised:
        return dense_attention(query, key, value, bias=bias + factor.log())
    scores = torch.einsum("bhqd,bhkd->bhqk", query.double(), key.double()) * query.shape[-1] ** -0.5
    probabilities = (scores + bias).softmax(-1) * factor
    return torch.einsum("bhqk,bhkd->bqhd", probabilities, value.double()).flatten(2)
