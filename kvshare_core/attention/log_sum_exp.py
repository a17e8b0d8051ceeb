"""Attention that also returns the log-sum-exp of its scores, so that partial results can be merged exactly.

PyTorch has fused kernels that know it, under private names; each is used only on the kind of tensors for which a probe
found it right. FlexAttention is left out: uncompiled it holds all scores, and compiling needs a compiler that most
installations lack; nothing here needs its score functions.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch

from ..devices import chunk_length

OutputWithLogSumExp = tuple[torch.Tensor, torch.Tensor]
"""Output [rows, heads, queries, head_dim] and log-sum-exp [rows, heads, queries] in float32 or better."""

Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], OutputWithLogSumExp]
"""(query, key, value, scale), all [rows, heads, tokens, head_dim] with as many key heads as query heads."""

PROBE_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""How far a kernel's results on the probe may be off; float32 leaves room for TF32."""


def working_dtype(tensor: torch.Tensor) -> torch.dtype:
    """The tensor's own precision, at least float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


QUERIES_AT_ONCE = 1024
"""Queries that `chunked` takes at once where there are as many; fewer would leave a device with little to do."""


def chunked(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    key_bias: torch.Tensor | None = None,
) -> OutputWithLogSumExp:
    """Plain softmax attention over chunks of heads, queries and keys, with a running softmax over the chunks of keys
    (Rabe and Staats, arXiv 2112.05682): temporary memory depends on none of these numbers.

    key_bias: [rows, keys], added to the scores.
    """
    rows, heads, tokens, _ = query.shape
    output = query.new_empty(rows, heads, tokens, value.shape[-1])
    total = torch.empty(rows, heads, tokens, dtype=working_dtype(query), device=query.device)
    queries, keys = min(tokens, QUERIES_AT_ONCE), key.shape[2]
    # As many heads as allow every query to see all keys at once, else one, and then fewer keys.
    some = min(heads, chunk_length(rows * queries * keys))
    for first in range(0, heads, some):
        here = slice(first, first + some)
        for start in range(0, tokens, queries):
            part = slice(start, start + queries)
            output[:, here, part], total[:, here, part] = _over_keys(
                query[:, here, part], key[:, here], value[:, here], scale, key_bias
            )
    return output, total


def _over_keys(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, key_bias: torch.Tensor | None
) -> OutputWithLogSumExp:
    """Attention over chunks of keys, and its log-sum-exp; both in the working precision."""
    working = working_dtype(query)
    rows, heads, tokens, _ = query.shape
    query = query.to(working) * scale
    highest = query.new_full((rows, heads, tokens, 1), -math.inf)
    weight = query.new_zeros(rows, heads, tokens, 1)
    output = query.new_zeros(rows, heads, tokens, value.shape[-1])
    size = chunk_length(rows * heads * max(tokens, query.shape[-1]))
    for start in range(0, key.shape[2], size):
        here = slice(start, start + size)
        scores = query @ key[:, :, here].to(working).transpose(-1, -2)
        if key_bias is not None:
            scores += key_bias[:, None, None, here].to(working)
        peak = torch.maximum(highest, scores.amax(-1, keepdim=True))
        # Keys that are hidden so far leave no peak to measure from.
        base = torch.where(peak.isneginf(), 0.0, peak)
        shrunk, scores = torch.exp(highest - base), torch.exp_(scores.sub_(base))
        weight = weight * shrunk + scores.sum(-1, keepdim=True)
        output = output.mul_(shrunk).add_(scores @ value[:, :, here].to(working))
        highest = peak
        # Before those of the next keys are computed.
        del scores
    return output / weight, (highest + weight.log())[..., 0]


def chunked_bytes(rows: int, head_dim: int) -> int:
    """The most that `chunked` holds beside its arguments, its output and its sums, of more keys than QUERIES_AT_ONCE:
    scores and keys of a chunk, and for its queries four tensors like them."""
    scores, keys = chunk_length(1), chunk_length(QUERIES_AT_ONCE) * head_dim
    return torch.float32.itemsize * (scores + keys + 4 * rows * QUERIES_AT_ONCE * head_dim)


def flash_cpu(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> OutputWithLogSumExp:
    """PyTorch's fused attention for CPUs."""
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, scale=scale)


def flash_cuda(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> OutputWithLogSumExp:
    """FlashAttention as PyTorch brings it, for half precision."""
    output, total, *_ = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, scale=scale)
    return output, total


def efficient_cuda(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> OutputWithLogSumExp:
    """Memory-efficient attention as PyTorch brings it; its log-sum-exp is padded to a multiple of 32 queries."""
    output, total, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, None, compute_log_sumexp=True, scale=scale
    )
    return output, total[:, :, : query.shape[2]]


KERNELS: Mapping[str, tuple[Kernel, ...]] = {"cpu": (flash_cpu,), "cuda": (flash_cuda, efficient_cuda)}
"""Kernels to try per device type, fastest first."""


class LogSumExpAttention:
    """Chooses for every kind of tensor the first kernel that proves right on a small probe; `chunked` otherwise."""

    def __init__(self, kernels: Mapping[str, Sequence[Kernel]] = KERNELS):
        self._kernels = kernels
        self._chosen: dict[tuple[torch.device, torch.dtype, int], Kernel] = {}

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float | None = None,
        key_bias: torch.Tensor | None = None,
    ) -> OutputWithLogSumExp:
        """Attention of `query` over `key` and `value`, whose heads may be fewer (grouped) but divide the query's.

        `scale` defaults to head_dim ** -0.5; `key_bias` [rows, keys] is added to the scores.
        """
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        groups = query.shape[1] // key.shape[1]
        if groups > 1:
            key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
        if key_bias is not None:
            return chunked(query, key, value, factor, key_bias)
        output, total = self.kernel_for(query)(query, key, value, factor)
        return output, total.to(working_dtype(query))

    def kernel_for(self, query: torch.Tensor) -> Kernel:
        """The kernel in use for tensors like `query`."""
        kind = (query.device, query.dtype, query.shape[-1])
        if kind not in self._chosen:
            candidates = self._kernels.get(query.device.type, ())
            self._chosen[kind] = next((kernel for kernel in candidates if _is_right(kernel, query)), chunked)
        return self._chosen[kind]


def _is_right(kernel: Kernel, like: torch.Tensor) -> bool:
    """Whether `kernel` takes tensors like `like` and agrees with `chunked` on lengths that no block size divides."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, 2, tokens, like.shape[-1], generator=generator).to(like.device, like.dtype)
        for tokens in (37, 53, 53)
    )
    scale = like.shape[-1] ** -0.5
    try:
        found = kernel(query, key, value, scale)
    except torch.OutOfMemoryError:
        # Says nothing about the kernel: the host may free memory and try again.
        raise
    except (RuntimeError, AttributeError, TypeError):
        return False
    expected = chunked(query.to(working_dtype(like)), key.to(working_dtype(like)), value.to(working_dtype(like)), scale)
    tolerance = PROBE_TOLERANCE.get(like.dtype, 0.0)
    return all(
        one.shape == other.shape and bool(((one - other).abs().max() <= tolerance).item())
        for one, other in zip(found, expected, strict=True)
    )
