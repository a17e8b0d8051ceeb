"""Attention over chosen keys: gather, parts, log-sum-exp merge. No L x L tensor and no attention mask.

Tensors are [rows, heads, tokens, head_dim]. A backend is a callable (query, key, value) -> output of that layout that
does one ordinary attention the way the user's installation does it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from .log_sum_exp import LogSumExpAttention, OutputWithLogSumExp, working_dtype

Backend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

TOKEN_DIM = 2


@dataclass(frozen=True)
class KeyValuePart:
    """Keys and values of one origin (own text, own video, or one source segment).

    bias: natural logarithm of the part's weight: 0 is plain concatenation, log(w) weighs the part by w, -inf removes
        it.
    key_bias: [rows, tokens] or None, added to the scores key by key (a prompt's own soft attention mask).
    """

    key: torch.Tensor
    value: torch.Tensor
    bias: float = 0.0
    key_bias: torch.Tensor | None = None

    def weighed(self, weight: float) -> "KeyValuePart":
        """The same keys counting `weight` times, which must be more than 0."""
        return self if weight == 1 else replace(self, bias=self.bias + math.log(weight))


@dataclass(frozen=True)
class QueryGroup:
    """Queries that see the same parts; `tokens` are their indices, None means every query."""

    tokens: torch.Tensor | None
    parts: tuple[KeyValuePart, ...]


def attend(
    query: torch.Tensor,
    parts: Sequence[KeyValuePart],
    backend: Backend,
    lse_attention: LogSumExpAttention,
    scale: float | None = None,
) -> torch.Tensor:
    """Attention of `query` over all `parts`, each weighed by exp(bias).

    Parts of one weight are concatenated. One weight in all goes through `backend` in one call; otherwise results per
    weight are merged by their log-sum-exp, out = sum exp(l_p + b_p) o_p / sum exp(l_p + b_p)
    (docs/architecture.md#the-algebra-of-sharing; DiTCtrl section 3.3 is the case bias(own) = -inf). `scale` is the
    factor on the scores, head_dim ** -0.5 for None.

    Raises ValueError when nothing is left to attend to.
    """
    weights: dict[float, list[KeyValuePart]] = {}
    for part in parts:
        if part.bias != -math.inf and part.key.shape[TOKEN_DIM] > 0:
            weights.setdefault(part.bias, []).append(part)
    if not weights:
        raise ValueError("attention: every part is empty or removed")
    joined = {bias: _join(same) for bias, same in weights.items()}
    if len(joined) == 1:
        (part,) = joined.values()
        if part.key_bias is None:
            return backend(query, part.key, part.value)
    return merge(
        {bias: lse_attention(query, part.key, part.value, scale, part.key_bias) for bias, part in joined.items()}
    ).to(query.dtype)


def _join(parts: Sequence[KeyValuePart]) -> KeyValuePart:
    """Parts of one weight as one."""
    if len(parts) == 1:
        return parts[0]
    key_bias = None
    if any(part.key_bias is not None for part in parts):
        rows = parts[0].key.shape[0]
        key_bias = torch.cat(
            [
                part.key.new_zeros(rows, part.key.shape[TOKEN_DIM], dtype=working_dtype(part.key))
                if part.key_bias is None
                else part.key_bias.expand(rows, -1)
                for part in parts
            ],
            dim=1,
        )
    return KeyValuePart(
        torch.cat([part.key for part in parts], TOKEN_DIM),
        torch.cat([part.value for part in parts], TOKEN_DIM),
        parts[0].bias,
        key_bias,
    )


def merge(results: dict[float, OutputWithLogSumExp]) -> torch.Tensor:
    """The attention over all keys from the partial results over disjoint sets of them, by their biases."""
    logs = torch.stack([total + bias for bias, (_, total) in results.items()])
    weights = logs.softmax(dim=0)
    merged: torch.Tensor | None = None
    for weight, (output, _) in zip(weights, results.values(), strict=True):
        piece = output.to(weight.dtype) * weight[..., None]
        merged = piece if merged is None else merged.add_(piece)
    assert merged is not None
    return merged


def attend_groups(
    query: torch.Tensor,
    groups: Sequence[QueryGroup],
    backend: Backend,
    lse_attention: LogSumExpAttention,
    scale: float | None = None,
    queries_at_once: int | None = None,
) -> torch.Tensor:
    """Every group attends to its own parts; the groups' tokens together must be all queries, each once.

    queries_at_once: most queries that one call of the backend gets, which bounds its temporary memory; None for no
    bound. Raises ValueError when no group has queries.
    """
    output: torch.Tensor | None = None
    for group in groups if queries_at_once is None else _in_pieces(groups, query, queries_at_once):
        if group.tokens is None:
            return attend(query, group.parts, backend, lse_attention, scale)
        if group.tokens.numel() == 0:
            continue
        piece = attend(query.index_select(TOKEN_DIM, group.tokens), group.parts, backend, lse_attention, scale)
        if output is None:
            rows, heads, tokens, _ = query.shape
            # Tokens before heads in memory, so that joining the heads afterwards copies nothing.
            output = piece.new_empty(rows, tokens, heads, piece.shape[-1]).transpose(1, 2)
        output.index_copy_(TOKEN_DIM, group.tokens, piece)
    if output is None:
        raise ValueError("attention: no group has queries")
    return output


def _in_pieces(groups: Sequence[QueryGroup], query: torch.Tensor, most: int) -> Iterator[QueryGroup]:
    """The same queries in groups of at most `most`."""
    for group in groups:
        tokens = group.tokens
        if tokens is None:
            tokens = torch.arange(query.shape[TOKEN_DIM], device=query.device)
        for piece in tokens.split(most):
            yield QueryGroup(piece, group.parts)
