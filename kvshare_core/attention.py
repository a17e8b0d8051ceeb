"""Attention over chosen keys: gather, parts, merge. No L x L tensor and no attention mask.

Tensors are either "flat" [rows, tokens, heads * head_dim] (token_dim 1) or "split" [rows, heads, tokens, head_dim]
(token_dim 2), as the host's call came. A backend is a callable (query, key, value) -> output of the flat layout that
does one ordinary attention the way the user's installation does it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

Backend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

CHUNK_ELEMENTS = 1 << 24
"""Largest number of scores held at once by the weighted path."""


@dataclass(frozen=True)
class KeyValuePart:
    """Keys and values of one origin (own tokens, or one source segment) with a natural-log `bias` on their scores.

    bias 0 is plain concatenation, log(w) weighs the part by w, -inf removes it.
    """

    key: torch.Tensor
    value: torch.Tensor
    bias: float = 0.0


@dataclass(frozen=True)
class QueryGroup:
    """Queries that see the same parts; `tokens` are their indices, None means every query."""

    tokens: torch.Tensor | None
    parts: tuple[KeyValuePart, ...]


def take_tokens(tensor: torch.Tensor, indices: torch.Tensor | None, token_dim: int) -> torch.Tensor:
    """The tokens `indices` of `tensor`; all of them for None."""
    return tensor if indices is None else tensor.index_select(token_dim, indices)


def attend(
    query: torch.Tensor,
    parts: Sequence[KeyValuePart],
    backend: Backend,
    heads: int,
    token_dim: int,
    scale: float | None = None,
) -> torch.Tensor:
    """Attention of `query` over all `parts`, each weighed by exp(bias); flat output [rows, tokens, heads * dim].

    Biases of 0 and -inf go through `backend` in one call; others through a chunked softmax in float32 or better.
    `scale` defaults to head_dim ** -0.5 and only matters for the weighted path. Raises ValueError when nothing is left
    to attend to. (architecture.md 5; DiTCtrl section 3.3 is the case bias(own) = -inf.)
    """
    present = [part for part in parts if part.bias != -math.inf and part.key.shape[token_dim] > 0]
    if not present:
        raise ValueError("attention: every part is empty or removed")
    if len(present) == 1:
        return backend(query, present[0].key, present[0].value)
    key = torch.cat([part.key for part in present], dim=token_dim)
    value = torch.cat([part.value for part in present], dim=token_dim)
    if len({part.bias for part in present}) == 1:
        return backend(query, key, value)
    bias = torch.cat(
        [
            torch.full((part.key.shape[token_dim],), part.bias, device=query.device, dtype=working_dtype(query))
            for part in present
        ]
    )
    return weighted_attention(query, key, value, bias, heads, token_dim, scale)


def attend_groups(
    query: torch.Tensor,
    groups: Sequence[QueryGroup],
    backend: Backend,
    heads: int,
    token_dim: int,
    scale: float | None = None,
) -> torch.Tensor:
    """Every group attends to its own parts; the groups' tokens together must be all queries, each once.

    Returns what `backend` returns for all queries: flat, or split when the host asked for that layout.
    """
    output: torch.Tensor | None = None
    for group in groups:
        if group.tokens is not None and group.tokens.numel() == 0:
            continue
        piece = attend(take_tokens(query, group.tokens, token_dim), group.parts, backend, heads, token_dim, scale)
        if group.tokens is None:
            return piece
        output_dim = piece.ndim - 2
        if output is None:
            shape = list(piece.shape)
            shape[output_dim] = query.shape[token_dim]
            output = piece.new_empty(shape)
        output.index_copy_(output_dim, group.tokens, piece)
    if output is None:
        raise ValueError("attention: no group has queries")
    return output


def working_dtype(tensor: torch.Tensor) -> torch.dtype:
    """The tensor's own precision, at least float32."""
    return torch.promote_types(tensor.dtype, torch.float32)


def split_heads(tensor: torch.Tensor, heads: int, token_dim: int) -> torch.Tensor:
    """Either layout to [rows, heads, tokens, head_dim]."""
    return tensor if token_dim == 2 else tensor.unflatten(-1, (heads, -1)).transpose(1, 2)


def weighted_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor,
    heads: int,
    token_dim: int,
    scale: float | None = None,
) -> torch.Tensor:
    """Softmax attention with one additive `bias` [keys] per key; flat output in the query's dtype.

    Queries are taken in chunks, so memory is linear in the number of keys.
    """
    working = working_dtype(query)
    query_heads, key_heads, value_heads = (
        split_heads(tensor, heads, token_dim).to(working) for tensor in (query, key, value)
    )
    factor = query_heads.shape[-1] ** -0.5 if scale is None else scale
    rows, _, tokens, _ = query_heads.shape
    chunk = max(1, CHUNK_ELEMENTS // (rows * heads * key_heads.shape[2]))
    pieces = [
        torch.softmax(piece @ key_heads.transpose(-1, -2) * factor + bias.to(working), dim=-1) @ value_heads
        for piece in query_heads.split(min(chunk, tokens), dim=2)
    ]
    return torch.cat(pieces, dim=2).transpose(1, 2).flatten(2).to(query.dtype)
