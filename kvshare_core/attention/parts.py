"""Attention over chosen keys: gather, parts, log-sum-exp merge. No L x L tensor and no attention mask.

Tensors are [rows, heads, tokens, head_dim]. A backend is a callable (query, key, value) -> output of that layout that
does one ordinary attention the way the user's installation does it.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from ..devices import chunk_length
from .log_sum_exp import LogSumExpAttention, OutputWithLogSumExp, working_dtype

Backend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

TOKEN_DIM = 2


def take_tokens(tensor: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The tokens at `index`, copied. Where all heads of a token lie together in memory, as most models make them, they
    still do, which copies several times faster."""
    if tensor.stride(1) < tensor.stride(TOKEN_DIM):
        return tensor.transpose(1, TOKEN_DIM).index_select(1, index).transpose(1, TOKEN_DIM)
    return tensor.index_select(TOKEN_DIM, index)


@dataclass(frozen=True)
class KeyValuePart:
    """Keys and values of one origin (own text, own video, or one source segment).

    bias: natural logarithm of the part's weight: 0 is plain concatenation, log(w) weighs the part by w, -inf removes
        it.
    gain: factor on what the part contributes once all weights are normalised, which they then no longer are.
    key_bias: [rows, tokens] or None, added to the scores key by key (a prompt's own soft attention mask).
    tokens: indices of the keys that count, which are copied only while they are attended to; None for all.
    """

    key: torch.Tensor
    value: torch.Tensor
    bias: float = 0.0
    key_bias: torch.Tensor | None = None
    tokens: torch.Tensor | None = None
    gain: float = 1.0

    @property
    def count(self) -> int:
        """How many keys there are."""
        return self.key.shape[TOKEN_DIM] if self.tokens is None else self.tokens.shape[0]

    def taken(self) -> "KeyValuePart":
        """The same part with the keys that count and no others."""
        if self.tokens is None:
            return self
        return KeyValuePart(
            take_tokens(self.key, self.tokens),
            take_tokens(self.value, self.tokens),
            self.bias,
            None if self.key_bias is None else self.key_bias.index_select(1, self.tokens),
            gain=self.gain,
        )

    def weighed(self, weight: float) -> "KeyValuePart":
        """The same keys counting `weight` times, 0 or more."""
        return self if weight == 1 else replace(self, bias=self.bias + log_weight(weight))

    def amplified(self, gain: float) -> "KeyValuePart":
        """The same part contributing `gain` times what it does, 0 or more."""
        return self if gain == 1 else replace(self, gain=self.gain * gain)


def log_weight(weight: float) -> float:
    """The bias of keys that count `weight` times, 0 or more."""
    return math.log(weight) if weight > 0 else -math.inf


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
    """Attention of `query` over all `parts`, each weighed by exp(bias) and contributing `gain` times.

    Parts of one weight are concatenated. One weight in all goes through `backend` in one call; otherwise results per
    weight are merged by their log-sum-exp, out = sum g_p exp(l_p + b_p) o_p / sum exp(l_p + b_p)
    (docs/architecture.md#the-algebra-of-sharing; DiTCtrl section 3.3 is the case bias(own) = -inf). `scale` is the
    factor on the scores, head_dim ** -0.5 for None.

    Raises ValueError when nothing is left to attend to.
    """
    weights: dict[Weight, list[KeyValuePart]] = {}
    for part in parts:
        if part.bias != -math.inf and part.count > 0:
            weights.setdefault((part.bias, part.gain), []).append(part)
    if not weights:
        raise ValueError("attention: every part is empty or removed")
    results: dict[Weight, OutputWithLogSumExp] = {}
    for weight, same in weights.items():
        part = _join(same)
        if len(weights) == 1 and part.key_bias is None:
            output = backend(query, part.key, part.value)
            return output if part.gain == 1 else output * part.gain
        results[weight] = lse_attention(query, part.key, part.value, scale, part.key_bias)
        # Before the next part is copied.
        del part
    return merge(results)


def _join(parts: Sequence[KeyValuePart]) -> KeyValuePart:
    """Parts of one weight as one, without keys that do not count."""
    if len(parts) == 1:
        return parts[0].taken()
    parts = [part.taken() for part in parts]
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
        gain=parts[0].gain,
    )


Weight = tuple[float, float]
"""The bias and the gain of a part."""


def merge(results: dict[Weight, OutputWithLogSumExp]) -> torch.Tensor:
    """The attention over all keys from the partial results over disjoint sets of them, by their biases and gains; takes
    the place of the first output, so that no output of higher precision is ever held whole."""
    outputs = [output for output, _ in results.values()]
    merged, gains = outputs[0], [gain for _, gain in results]
    if len(outputs) == 1:
        return merged if gains[0] == 1 else merged * gains[0]
    totals = [total if bias == 0 else total + bias for (bias, _), (_, total) in results.items()]
    weights = torch.stack(totals).softmax(dim=0)[..., None]
    if any(gain != 1 for gain in gains):
        weights = weights * weights.new_tensor(gains).view(-1, 1, 1, 1, 1)
    rows, heads, tokens, width = merged.shape
    if merged.numel() <= MERGED_ELEMENTS:
        return _weighted_sum(outputs, weights.unbind()).to(merged.dtype)
    size = chunk_length(rows * heads * width, max(MERGED_ELEMENTS, merged.numel() // MERGED_PARTS))
    for start in range(0, tokens, size):
        here = slice(start, start + size)
        merged[:, :, here] = _weighted_sum([output[:, :, here] for output in outputs], weights[:, :, :, here].unbind())
    return merged


def _weighted_sum(outputs: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum of `outputs` times their `weights`, in the precision of the weights."""
    total = outputs[0] * weights[0]
    for output, weight in zip(outputs[1:], weights[1:], strict=True):
        total.addcmul_(output.to(total.dtype), weight)
    return total


MERGED_ELEMENTS, MERGED_PARTS = 1 << 20, 8
"""Outputs are merged in chunks of at least this many elements, or in this many chunks."""


def group_outputs(
    query: torch.Tensor,
    groups: Iterable[QueryGroup],
    backend: Backend,
    lse_attention: LogSumExpAttention,
    scale: float | None = None,
    queries_at_once: int | None = None,
) -> Iterator[tuple[torch.Tensor | None, torch.Tensor]]:
    """Of every group with queries, their indices, None for all, and the output of its attention to its own parts. One
    group is made and computed after the other.

    queries_at_once: most queries that one call of the backend gets, which bounds its temporary memory; None for no
    bound.
    """
    for group in groups if queries_at_once is None else _in_pieces(groups, query, queries_at_once):
        if group.tokens is None:
            yield None, attend(query, group.parts, backend, lse_attention, scale)
        elif group.tokens.numel() > 0:
            tokens, parts = group.tokens, group.parts
            yield tokens, attend(take_tokens(query, tokens), parts, backend, lse_attention, scale)
            del parts
        # Groups may hold copies of keys, and the next one makes its own.
        del group


def attend_groups(
    query: torch.Tensor,
    groups: Iterable[QueryGroup],
    backend: Backend,
    lse_attention: LogSumExpAttention,
    scale: float | None = None,
    queries_at_once: int | None = None,
) -> torch.Tensor:
    """Every group attends to its own parts; the groups' tokens together must be all queries, each once. The arguments
    are those of `group_outputs`. Raises ValueError when no group has queries."""
    output: torch.Tensor | None = None
    for tokens, piece in group_outputs(query, groups, backend, lse_attention, scale, queries_at_once):
        if tokens is None:
            return piece
        output = empty_output(query, piece) if output is None else output
        output.index_copy_(TOKEN_DIM, tokens, piece)
        del piece
    if output is None:
        raise ValueError("attention: no group has queries")
    return output


def empty_output(query: torch.Tensor, piece: torch.Tensor) -> torch.Tensor:
    """Memory for the output of all of `query`, of which `piece` is a part."""
    rows, heads, tokens, _ = query.shape
    # Tokens before heads in memory, so that joining the heads afterwards copies nothing.
    return piece.new_empty(rows, tokens, heads, piece.shape[-1]).transpose(1, 2)


def _in_pieces(groups: Iterable[QueryGroup], query: torch.Tensor, most: int) -> Iterator[QueryGroup]:
    """The same queries in groups of at most `most`."""
    for group in groups:
        tokens = group.tokens
        if tokens is None:
            tokens = torch.arange(query.shape[TOKEN_DIM], device=query.device)
        for piece in tokens.split(most):
            yield QueryGroup(piece, group.parts)
