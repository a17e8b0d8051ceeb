"""Attention written out in float64 with every score in memory: what all fast paths are measured against.

Nothing here uses the pack's attention or sharing code; who sees whom is written down once more, as one matrix of
biases.
"""

import math
from collections.abc import Sequence

import torch

from kvshare_core.config import KVShareConfig


def heads_together(tensor: torch.Tensor) -> torch.Tensor:
    """[rows, heads, tokens, head_dim] as [rows, tokens, heads * head_dim]."""
    return tensor.transpose(1, 2).flatten(2)


def heads_apart(tensor: torch.Tensor, heads: int, token_dim: int) -> torch.Tensor:
    """Either layout as float64 [rows, heads, tokens, head_dim]."""
    if token_dim == 1:
        rows, tokens, width = tensor.shape
        tensor = tensor.reshape(rows, tokens, heads, width // heads).permute(0, 2, 1, 3)
    return tensor.double()


def dense_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    heads: int = 0,
    token_dim: int = 2,
    bias: torch.Tensor | None = None,
    scale: float | None = None,
) -> torch.Tensor:
    """Softmax attention with an additive `bias` that broadcasts to [rows, heads, queries, keys]; float64
    [rows, queries, heads * head_dim]. Key heads are repeated where there are fewer of them."""
    q, k, v = (heads_apart(tensor, heads, token_dim) for tensor in (query, key, value))
    k, v = (tensor.repeat_interleave(q.shape[1] // k.shape[1], 1) for tensor in (k, v))
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias.double()
    weights = torch.exp(scores - scores.amax(-1, keepdim=True))
    output = torch.einsum("bhqk,bhkd->bqhd", weights / weights.sum(-1, keepdim=True), v)
    return output.flatten(2)


def sharing_bias(
    config: KVShareConfig, tokens: int, own_mask: torch.Tensor | None, source_masks: Sequence[torch.Tensor | None]
) -> torch.Tensor:
    """Biases [tokens, tokens * (1 + sources)]: own keys first, then the keys of each source.

    own_mask, source_masks: boolean subject masks [tokens], or None where no mask splits the tokens.
    """
    foreign_weight = math.log(config.strength) if config.strength > 0 else -math.inf
    own_weight = 0.0
    if config.mode == "replace":
        own_weight = math.log(1 - config.strength) if config.strength < 1 else -math.inf
    bias = torch.full((tokens, tokens * (1 + len(source_masks))), -math.inf, dtype=torch.float64)
    for query in range(tokens):
        sees_foreign = False
        for place, source_mask in enumerate(source_masks, start=1):
            for key in range(tokens):
                if own_mask is None or source_mask is None:
                    visible = True
                elif own_mask[query]:
                    visible = bool(source_mask[key])
                else:
                    visible = config.share_background and not source_mask[key]
                if visible:
                    bias[query, place * tokens + key] = foreign_weight
                    sees_foreign = True
        bias[query, :tokens] = own_weight if sees_foreign else 0.0
    return bias
