"""Attention over parts and groups equals a dense float64 reference."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from kvshare_core import devices
from kvshare_core.attention import log_sum_exp
from kvshare_core.attention.log_sum_exp import KERNELS, QUERIES_AT_ONCE, LogSumExpAttention, chunked, flash_cpu
from kvshare_core.attention.parts import KeyValuePart, QueryGroup, attend, attend_groups, take_tokens
from tests.oracles.dense_reference import dense_attention, heads_together

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
BIASES = st.sampled_from([0.0, -math.inf, math.log(0.5), -3.0, 1.5])
PARTIALS = {"chosen": LogSumExpAttention(), "chunked": LogSumExpAttention({})}


@dataclass(frozen=True)
class Layout:
    """Sizes of one attention call, and the dtype of its tensors; `groups` query heads share one key head."""

    rows: int
    key_heads: int
    groups: int
    head_dim: int
    dtype: torch.dtype
    seed: int

    @property
    def heads(self) -> int:
        return self.key_heads * self.groups

    def backend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Ordinary attention in the tensors' own precision."""
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)


LAYOUTS = st.builds(
    Layout,
    rows=st.integers(1, 3),
    key_heads=st.integers(1, 2),
    groups=st.integers(1, 3),
    head_dim=st.sampled_from([2, 8]),
    dtype=st.sampled_from(list(TOLERANCE)),
    seed=st.integers(0, 10_000),
)


class Random:
    """Seeded tensors [rows, heads, tokens, head_dim]."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self.generator = torch.Generator().manual_seed(layout.seed)

    def query(self, tokens: int) -> torch.Tensor:
        return self._draw(self.layout.heads, tokens)

    def key(self, tokens: int) -> torch.Tensor:
        return self._draw(self.layout.key_heads, tokens)

    def _draw(self, heads: int, tokens: int) -> torch.Tensor:
        shape = (self.layout.rows, heads, tokens, self.layout.head_dim)
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(self.layout.dtype)


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal within the tolerance of `found`'s dtype, relative to the largest expected value."""
    found_flat = heads_together(found)
    assert found_flat.shape == expected.shape
    error = (found_flat.double() - expected).abs().max() / expected.abs().max().clamp(min=1)
    assert error <= TOLERANCE[found.dtype], f"relative error {error:.2e} in {found.dtype}"


@given(
    LAYOUTS,
    st.integers(1, 6),
    st.lists(st.tuples(st.integers(0, 5), BIASES, st.booleans()), min_size=1, max_size=4),
    st.sampled_from(list(PARTIALS)),
    st.sampled_from([None, 0.3]),
)
@settings(max_examples=250)
def test_parts_with_any_biases_equal_the_dense_reference(
    layout: Layout, queries: int, described: list[tuple[int, float, bool]], partial: str, scale: float | None
) -> None:
    random = Random(layout)
    query = random.query(queries)
    parts: list[KeyValuePart] = []
    bias: list[torch.Tensor] = []
    for count, weight, soft in described:
        key_bias = torch.randn(layout.rows, count, generator=random.generator) if soft else None
        parts.append(KeyValuePart(random.key(count), random.key(count), weight, key_bias))
        bias.append(
            torch.full((layout.rows, count), weight, dtype=torch.float64) + (0 if key_bias is None else key_bias)
        )

    def backend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return PARTIALS[partial](query, key, value, scale)[0]

    if all(count == 0 or weight == -math.inf for count, weight, _ in described):
        with pytest.raises(ValueError, match="every part is empty or removed"):
            attend(query, parts, backend, PARTIALS[partial], scale)
        return
    found = attend(query, parts, backend, PARTIALS[partial], scale)
    key, value = (torch.cat([getattr(part, name) for part in parts], 2) for name in ("key", "value"))
    matrix = torch.cat(bias, 1)[:, None, None].expand(-1, 1, queries, -1)
    assert found.dtype == layout.dtype
    assert_close(found, dense_attention(query, key, value, bias=matrix, scale=scale))


@given(LAYOUTS, st.lists(st.integers(0, 2), min_size=1, max_size=8), BIASES)
@settings(max_examples=80)
def test_groups_equal_the_dense_reference(layout: Layout, owners: list[int], bias: float) -> None:
    random = Random(layout)
    query = random.query(len(owners))
    parts = [KeyValuePart(random.key(4), random.key(4)), KeyValuePart(random.key(3), random.key(3), bias)]
    sees = [parts[:1], parts, parts[::-1]]
    groups = [
        QueryGroup(torch.tensor([n for n, owner in enumerate(owners) if owner == group]).long(), tuple(sees[group]))
        for group in (2, 0, 1)
    ]
    found = attend_groups(query, groups, layout.backend, PARTIALS["chosen"])
    key, value = (torch.cat([getattr(part, name) for part in parts], 2) for name in ("key", "value"))
    matrix = torch.zeros(len(owners), 7, dtype=torch.float64)
    matrix[:, 4:] = bias
    matrix[[place for place, owner in enumerate(owners) if owner == 0], 4:] = -math.inf
    assert_close(found, dense_attention(query, key, value, bias=matrix))


@given(LAYOUTS, st.integers(1, 4), st.sampled_from([None, 0.3]))
@settings(max_examples=60)
def test_a_weight_counts_as_so_many_copies(layout: Layout, weight: int, scale: float | None) -> None:
    random = Random(layout)
    query, part, other = random.query(3), *(KeyValuePart(random.key(n), random.key(n), -0.7) for n in (2, 3))

    def attention(*parts: KeyValuePart) -> torch.Tensor:
        everyone = [QueryGroup(None, parts)]
        return attend_groups(query, everyone, backend, PARTIALS["chosen"], scale)

    def backend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return PARTIALS["chosen"](query, key, value, scale)[0]

    copies = attention(*[part] * weight, other)
    assert_close(attention(part.weighed(weight), other), heads_together(copies).double())
    assert_close(attention(part.weighed(0.5).weighed(2 * weight), other), heads_together(copies).double())
    assert part.weighed(1) is part


def test_equal_weights_go_through_the_users_backend_in_one_call() -> None:
    layout = Layout(1, 1, 1, 4, torch.float32, 0)
    random = Random(layout)
    seen: list[int] = []

    def backend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        seen.append(key.shape[2])
        return layout.backend(query, key, value)

    parts = [KeyValuePart(random.key(n), random.key(n), bias) for n, bias in ((3, 0.0), (2, 0.0), (9, -math.inf))]
    attend(random.query(4), parts, backend, PARTIALS["chosen"])
    assert seen == [5]


def test_groups_without_any_query_are_an_error() -> None:
    layout = Layout(1, 1, 1, 4, torch.float32, 0)
    part = KeyValuePart(Random(layout).key(2), Random(layout).key(2))
    nobody = QueryGroup(torch.zeros(0, dtype=torch.long), (part,))
    with pytest.raises(ValueError, match="no group has queries"):
        attend_groups(Random(layout).query(1), [nobody], layout.backend, PARTIALS["chosen"])


def test_the_output_of_groups_joins_its_heads_without_a_copy() -> None:
    layout = Layout(2, 3, 1, 4, torch.float32, 0)
    part = KeyValuePart(Random(layout).key(2), Random(layout).key(2))
    groups = [QueryGroup(torch.tensor([1, 3]), (part,)), QueryGroup(torch.tensor([0, 2]), (part,))]
    found = attend_groups(Random(layout).query(4), groups, layout.backend, PARTIALS["chosen"])
    assert found.transpose(1, 2).flatten(2).data_ptr() == found.data_ptr()


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation made."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("rows", "heads"), [(1, 1), (1, 4), (3, 1), (3, 4)])
def test_the_chunked_kernel_never_holds_all_scores(
    rows: int, heads: int, biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, keys, at_once = 100, 150, 20
    limit = at_once * rows * heads * keys
    monkeypatch.setattr(devices, "CHUNK_ELEMENTS", limit)
    random = Random(Layout(rows, heads, 1, 4, torch.float64, 0))
    query, key, value = random.query(queries), random.key(keys), random.key(keys)
    bias = torch.randn(rows, keys, generator=random.generator, dtype=torch.float64) if biased else None
    with LargestTensor() as largest:
        found, total = chunked(query, key, value, 0.5, bias)
    assert largest.elements == limit
    matrix = None if bias is None else bias[:, None, None].expand(-1, 1, queries, -1)
    assert_close(found, dense_attention(query, key, value, bias=matrix))
    scores = query @ key.transpose(-1, -2) * 0.5 + (0 if matrix is None else matrix)
    torch.testing.assert_close(total, scores.logsumexp(-1))


class Products(TorchDispatchMode):
    """Remembers how many rows the left side of every matrix product has, and how many columns the right side."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: set[tuple[int, int]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name() == "aten::bmm":
            self.sizes.add((args[0].shape[-2], args[1].shape[-1]))
        return func(*args, **(kwargs or {}))


def test_the_chunked_kernel_takes_many_queries_at_once_however_many_keys_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "CHUNK_ELEMENTS", 5 * 7)
    random = Random(Layout(1, 2, 1, 4, torch.float64, 0))
    query, key, value = random.query(5), random.key(30), random.key(30)
    with Products() as products:
        found, total = chunked(query, key, value, 0.5)
    assert products.sizes == {(5, 7), (5, 2), (5, 4)}
    assert_close(found, dense_attention(query, key, value))
    torch.testing.assert_close(total, (query @ key.transpose(-1, -2) * 0.5).logsumexp(-1))
    monkeypatch.setattr(log_sum_exp, "QUERIES_AT_ONCE", 4)
    again, _ = chunked(query, key, value, 0.5)
    torch.testing.assert_close(again, found)


@pytest.mark.parametrize(("rows", "heads"), [(1, 1), (1, 40), (2, 40), (21, 5)])
def test_the_chunked_kernel_takes_as_many_queries_at_full_size(rows: int, heads: int) -> None:
    """75,600 keys are those of 81 frames in 720p."""
    query, key = (torch.empty(rows, heads, tokens, 128, device="meta") for tokens in (1500, 75_600))
    with Products() as products:
        chunked(query, key, key, 0.1, torch.empty(rows, 75_600, device="meta"))
    assert {queries for queries, _ in products.sizes} == {QUERIES_AT_ONCE, 1500 - QUERIES_AT_ONCE}
    assert QUERIES_AT_ONCE >= 64


def test_the_chunked_kernel_copes_with_keys_that_a_bias_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "CHUNK_ELEMENTS", 4)
    random = Random(Layout(1, 1, 1, 4, torch.float64, 0))
    query, key, value = random.query(2), random.key(6), random.key(6)
    bias = torch.full((1, 6), -math.inf, dtype=torch.float64)
    bias[:, 4:] = 0.5
    found, total = chunked(query, key, value, 0.5, bias)
    assert_close(found, dense_attention(query, key[:, :, 4:], value[:, :, 4:]))
    torch.testing.assert_close(total, (query @ key[:, :, 4:].transpose(-1, -2) * 0.5 + 0.5).logsumexp(-1))


@pytest.mark.parametrize("tokens", [1, 31, 64, 100])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_every_kernel_for_this_device_gives_the_log_sum_exp(tokens: int, dtype: torch.dtype) -> None:
    random = Random(Layout(2, 2, 1, 8, dtype, tokens))
    query, key, value = random.query(tokens), random.key(tokens + 7), random.key(tokens + 7)
    expected = (query.double() @ key.double().transpose(-1, -2) * 0.2).logsumexp(-1)
    for kernel in (*KERNELS["cpu"], chunked):
        _, total = kernel(query, key, value, 0.2)
        assert (total.double() - expected).abs().max() <= TOLERANCE[dtype] * expected.abs().max()


def test_a_kernel_that_fails_or_lies_is_not_used() -> None:
    def fails(*arguments: Any) -> Any:
        raise RuntimeError("not on this machine")

    def misplaces_the_logarithm(query: Any, key: Any, value: Any, scale: float) -> Any:
        output, total = flash_cpu(query, key, value, scale)
        return output, total * math.log2(math.e)

    def forgets_the_scale(query: Any, key: Any, value: Any, scale: float) -> Any:
        return flash_cpu(query, key, value, 1.0)

    query = torch.randn(1, 1, 3, 8)
    for wrong in (fails, misplaces_the_logarithm, forgets_the_scale):
        assert LogSumExpAttention({"cpu": (wrong, flash_cpu)}).kernel_for(query) is flash_cpu
        assert LogSumExpAttention({"cpu": (wrong,)}).kernel_for(query) is chunked


def test_a_kernel_is_probed_once_per_kind_of_tensor() -> None:
    probes: list[tuple[torch.dtype, int]] = []

    def kernel(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> Any:
        probes.append((query.dtype, query.shape[-1]))
        return flash_cpu(query, key, value, scale)

    attention = LogSumExpAttention({"cpu": (kernel,)})
    for dtype, head_dim in [(torch.float32, 8), (torch.bfloat16, 8), (torch.float32, 16)] * 2:
        attention.kernel_for(torch.randn(1, 1, 3, head_dim, dtype=dtype))
    assert probes == [(torch.float32, 8), (torch.bfloat16, 8), (torch.float32, 16)]


def test_a_kernel_is_used_only_for_the_head_dims_that_it_takes() -> None:
    """Fused kernels refuse some; what was chosen for one head_dim must not serve another."""

    def up_to_8(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> Any:
        if query.shape[-1] > 8:
            raise RuntimeError("head_dim must be at most 8")
        return flash_cpu(query, key, value, scale)

    attention = LogSumExpAttention({"cpu": (up_to_8,)})
    for head_dim, kernel in [(8, up_to_8), (16, chunked), (8, up_to_8)]:
        query = torch.randn(1, 2, 3, head_dim, generator=torch.Generator().manual_seed(0))
        assert attention.kernel_for(query) is kernel
        output, _ = attention(query, query, query)
        assert_close(output, dense_attention(query, query, query))


def test_memory_that_runs_out_while_a_kernel_is_tried_says_nothing_about_the_kernel() -> None:
    tried: list[int] = []

    def short_of_memory(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> Any:
        tried.append(1)
        if len(tried) == 1:
            raise torch.OutOfMemoryError("out of memory on purpose")
        return flash_cpu(query, key, value, scale)

    attention = LogSumExpAttention({"cpu": (short_of_memory,)})
    query = torch.randn(1, 1, 8, 16)
    with pytest.raises(torch.OutOfMemoryError):
        attention.kernel_for(query)
    assert attention.kernel_for(query) is short_of_memory


@pytest.mark.parametrize("heads_together", [True, False])
def test_chosen_tokens_keep_the_layout_in_memory(heads_together: bool) -> None:
    tensor = torch.arange(2 * 3 * 7 * 4.0).view(2, 3, 7, 4)
    if heads_together:
        tensor = tensor.transpose(1, 2).contiguous().transpose(1, 2)
    index = torch.tensor([0, 3, 6])
    found = take_tokens(tensor, index)
    assert torch.equal(found, tensor[:, :, [0, 3, 6]])
    assert found.transpose(1, 2).is_contiguous() == heads_together
    assert found.untyped_storage().nbytes() == found.nbytes
