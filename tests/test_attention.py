"""Attention over parts, groups and shared sources equals a dense float64 reference."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from kvshare_core import attention
from kvshare_core.attention import KeyValuePart, QueryGroup, attend, attend_groups, weighted_attention
from kvshare_core.config import KVShareConfig
from kvshare_core.families.base import AttentionCall
from kvshare_core.kv_bank import BankEntry
from kvshare_core.sharing import sharing_groups, split_tokens
from tests.dense_reference import dense_attention, heads_apart, sharing_bias

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 2e-2}
BIASES = st.sampled_from([0.0, -math.inf, math.log(0.5), -3.0, 1.5])


@dataclass(frozen=True)
class Layout:
    """Sizes and layout of one attention call, and the dtype of its tensors."""

    rows: int
    heads: int
    head_dim: int
    token_dim: int
    dtype: torch.dtype
    seed: int

    def backend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Ordinary attention in the tensors' own precision."""
        q, k, v = (heads_apart(tensor, self.heads, self.token_dim).to(self.dtype) for tensor in (query, key, value))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


LAYOUTS = st.builds(
    Layout,
    rows=st.integers(1, 3),
    heads=st.integers(1, 3),
    head_dim=st.sampled_from([2, 8]),
    token_dim=st.sampled_from([1, 2]),
    dtype=st.sampled_from(list(TOLERANCE)),
    seed=st.integers(0, 10_000),
)


class Random:
    """Seeded tensors in one layout."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self.generator = torch.Generator().manual_seed(layout.seed)

    def tokens(self, count: int) -> torch.Tensor:
        layout = self.layout
        flat = (layout.rows, count, layout.heads * layout.head_dim)
        shape = flat if layout.token_dim == 1 else (layout.rows, layout.heads, count, layout.head_dim)
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(layout.dtype)


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal within the tolerance of `found`'s dtype, relative to the largest expected value."""
    assert found.shape == expected.shape
    error = (found.double() - expected).abs().max() / expected.abs().max().clamp(min=1)
    assert error <= TOLERANCE[found.dtype], f"relative error {error:.2e} in {found.dtype}"


@given(LAYOUTS, st.integers(1, 6), st.lists(st.tuples(st.integers(0, 5), BIASES), min_size=1, max_size=4))
@settings(max_examples=150)
def test_parts_with_any_biases_equal_the_dense_reference(
    layout: Layout, queries: int, described: list[tuple[int, float]]
) -> None:
    random = Random(layout)
    query = random.tokens(queries)
    parts = [KeyValuePart(random.tokens(count), random.tokens(count), bias) for count, bias in described]
    if all(count == 0 or bias == -math.inf for count, bias in described):
        with pytest.raises(ValueError, match="every part is empty or removed"):
            attend(query, parts, layout.backend, layout.heads, layout.token_dim)
        return
    found = attend(query, parts, layout.backend, layout.heads, layout.token_dim)
    key, value = (torch.cat([getattr(p, name) for p in parts], layout.token_dim) for name in ("key", "value"))
    bias = torch.tensor([bias for count, bias in described for _ in range(count)], dtype=torch.float64)
    assert found.dtype == layout.dtype
    assert_close(found, dense_attention(query, key, value, layout.heads, layout.token_dim, bias.expand(queries, -1)))


@given(LAYOUTS, st.integers(1, 9), st.integers(1, 9), st.floats(0.05, 2.0))
@settings(max_examples=60)
def test_weighted_attention_equals_the_dense_reference_at_any_scale(
    layout: Layout, queries: int, keys: int, scale: float
) -> None:
    random = Random(layout)
    query, key, value = random.tokens(queries), random.tokens(keys), random.tokens(keys)
    bias = torch.linspace(-2, 2, keys, dtype=torch.float64)
    found = weighted_attention(query, key, value, bias, layout.heads, layout.token_dim, scale)
    expected = dense_attention(query, key, value, layout.heads, layout.token_dim, bias.expand(queries, -1), scale)
    assert_close(found, expected)


@given(LAYOUTS, st.lists(st.integers(0, 2), min_size=1, max_size=8), BIASES)
@settings(max_examples=80)
def test_groups_equal_the_dense_reference(layout: Layout, owners: list[int], bias: float) -> None:
    random = Random(layout)
    query = random.tokens(len(owners))
    parts = [KeyValuePart(random.tokens(4), random.tokens(4)), KeyValuePart(random.tokens(3), random.tokens(3), bias)]
    sees = [parts[:1], parts, parts[::-1]]
    groups = [
        QueryGroup(torch.tensor([n for n, owner in enumerate(owners) if owner == group]).long(), tuple(sees[group]))
        for group in (2, 0, 1)
    ]
    found = attend_groups(query, groups, layout.backend, layout.heads, layout.token_dim)
    key, value = (torch.cat([getattr(p, name) for p in parts], layout.token_dim) for name in ("key", "value"))
    matrix = torch.zeros(len(owners), 7, dtype=torch.float64)
    matrix[:, 4:] = bias
    matrix[[place for place, owner in enumerate(owners) if owner == 0], 4:] = -math.inf
    assert_close(found, dense_attention(query, key, value, layout.heads, layout.token_dim, matrix))


MASKS = st.sampled_from(["none", "empty", "full", "mixed"])


@given(
    LAYOUTS,
    MASKS,
    MASKS,
    st.integers(0, 2),
    st.sampled_from(["replace", "extend"]),
    st.sampled_from([0.3, 0.5, 1.0, 3.0]),
    st.booleans(),
)
@settings(max_examples=150)
def test_sharing_equals_the_dense_reference(
    layout: Layout, own_kind: str, source_kind: str, sources: int, mode: Any, strength: float, share_background: bool
) -> None:
    tokens = 5
    config = KVShareConfig(mode=mode, strength=strength, share_background=share_background)
    layout = Layout(1, layout.heads, layout.head_dim, layout.token_dim, layout.dtype, layout.seed)
    random = Random(layout)
    guided = "none" not in (own_kind, source_kind)

    def mask_of(kind: str) -> torch.Tensor | None:
        if not guided:
            return None
        chosen = torch.rand(tokens, generator=random.generator) < 0.5
        return {"empty": torch.zeros_like(chosen), "full": torch.ones_like(chosen)}.get(kind, chosen)

    own_mask = mask_of(own_kind)
    own = AttentionCall(
        random.tokens(tokens), random.tokens(tokens), random.tokens(tokens), layout.heads, layout.token_dim, False
    )
    entries: list[BankEntry] = []
    keys, values, source_masks = [own.key], [own.value], list[torch.Tensor | None]()
    for _ in range(sources):
        key, value, mask = random.tokens(tokens), random.tokens(tokens), mask_of(source_kind)
        keys.append(key)
        values.append(value)
        source_masks.append(mask)
        if mask is None:
            entries.append(BankEntry(key, value))
            continue
        inside, outside = (chosen.nonzero()[:, 0] for chosen in (mask, ~mask))
        pieces = [
            tensor.index_select(layout.token_dim, chosen) for chosen in (inside, outside) for tensor in (key, value)
        ]
        entries.append(BankEntry(*pieces) if share_background else BankEntry(*pieces[:2]))
    groups = sharing_groups(own, None if own_mask is None else split_tokens(own_mask), entries, config)
    bias = sharing_bias(config, tokens, own_mask, source_masks)
    if groups is None:
        # Nothing foreign is visible to any query: every query keeps its own keys alone.
        assert bias[:, tokens:].isneginf().all()
        assert (bias[:, :tokens] == 0).all()
        return
    found = attend_groups(own.query, groups, layout.backend, layout.heads, layout.token_dim)
    key, value = torch.cat(keys, layout.token_dim), torch.cat(values, layout.token_dim)
    assert_close(found, dense_attention(own.query, key, value, layout.heads, layout.token_dim, bias))


def test_equal_weights_go_through_the_users_backend_in_one_call() -> None:
    layout = Layout(1, 1, 4, 1, torch.float32, 0)
    random = Random(layout)
    seen: list[int] = []

    def backend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        seen.append(key.shape[1])
        return layout.backend(query, key, value)

    parts = [KeyValuePart(random.tokens(n), random.tokens(n), bias) for n, bias in ((3, 0.0), (2, 0.0), (9, -math.inf))]
    attend(random.tokens(4), parts, backend, 1, 1)
    assert seen == [5]


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation made."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_weighted_attention_never_holds_all_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "CHUNK_ELEMENTS", 3000)
    layout = Layout(1, 2, 4, 1, torch.float64, 0)
    random = Random(layout)
    query, key, value = random.tokens(100), random.tokens(150), random.tokens(150)
    bias = torch.linspace(-1, 1, 150, dtype=torch.float64)
    with LargestTensor() as largest:
        found = weighted_attention(query, key, value, bias, 2, 1)
    assert largest.elements <= 3000
    assert_close(found, dense_attention(query, key, value, 2, 1, bias.expand(100, -1)))


def test_groups_without_any_query_are_an_error() -> None:
    layout = Layout(1, 1, 4, 1, torch.float32, 0)
    part = KeyValuePart(Random(layout).tokens(2), Random(layout).tokens(2))
    with pytest.raises(ValueError, match="no group has queries"):
        attend_groups(
            Random(layout).tokens(1), [QueryGroup(torch.zeros(0, dtype=torch.long), (part,))], layout.backend, 1, 1
        )
