"""Query groups of shared attention equal a dense float64 reference that writes out every pair of tokens."""

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from kvshare_core.attention.groups import OwnTokens, sharing_groups
from kvshare_core.attention.log_sum_exp import LogSumExpAttention
from kvshare_core.attention.parts import attend_groups
from kvshare_core.attention.token_split import split_tokens
from kvshare_core.bank.bank import BankEntry, StoredTokens
from kvshare_core.config import KVShareConfig
from tests.oracles.dense_reference import Tokens, dense_attention, heads_together, joint_sharing_bias

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 2e-2}
PARTIAL = LogSumExpAttention()
MASKS = st.sampled_from(["empty", "full", "mixed"])


@dataclass(frozen=True)
class Case:
    """One sharing attention. text, reference: how many tokens outside the video stand before and behind it."""

    rows: int
    key_heads: int
    grouped: int
    frames: int
    frame_tokens: int
    before: int
    behind: int
    own_mask: str | None
    source_masks: tuple[str, ...]
    hides: bool
    soft: bool
    dtype: torch.dtype
    seed: int

    @property
    def video(self) -> range:
        return range(self.before, self.before + self.frames * self.frame_tokens)

    @property
    def length(self) -> int:
        return self.before + len(self.video) + self.behind


CASES = st.builds(
    Case,
    rows=st.integers(1, 3),
    key_heads=st.integers(1, 2),
    grouped=st.integers(1, 2),
    frames=st.integers(1, 3),
    frame_tokens=st.integers(1, 4),
    before=st.integers(0, 3),
    behind=st.integers(0, 3),
    own_mask=MASKS | st.none(),
    source_masks=st.lists(MASKS, max_size=3).map(tuple),
    hides=st.booleans(),
    soft=st.booleans(),
    dtype=st.sampled_from(list(TOLERANCE)),
    seed=st.integers(0, 10_000),
)


def configurations() -> st.SearchStrategy[KVShareConfig]:
    """Every combination that changes who sees what."""
    common: dict[str, Any] = {
        "strength": st.sampled_from([0.3, 1.0, 3.0]),
        "share_background": st.booleans(),
        "position": st.sampled_from(["same", "frame"]),
    }
    return st.builds(KVShareConfig, mode=st.sampled_from(["extend", "swap"]), **common) | st.builds(
        KVShareConfig, mode=st.just("replace"), share_text=st.booleans(), **common
    )


class Scene:
    """Random tensors of a case: an own sequence, sources, and what the reference needs to know of both."""

    def __init__(self, case: Case, config: KVShareConfig):
        self.case = case
        self.config = config
        self.generator = torch.Generator().manual_seed(case.seed)
        self.query = self._draw(case.key_heads * case.grouped)
        # Unguided sharing gets no masks, except in position `frame`, which is given one of all tokens.
        whole = "full" if config.position == "frame" else None
        self.tokens = self._describe(case.own_mask or whole, hides=case.hides, soft=case.soft)
        self.own, self.split = self._own()
        self.keys, self.values = [self.own.key], [self.own.value]
        self.sources: list[Tokens] = []
        self.entries: list[BankEntry] = []
        for kind in case.source_masks:
            self._add_source(kind if case.own_mask else whole)

    def _draw(self, heads: int) -> torch.Tensor:
        shape = (self.case.rows, heads, self.case.length, 4)
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(self.case.dtype)

    def _describe(self, mask: str | None, hides: bool, soft: bool) -> Tokens:
        case = self.case
        chosen = torch.rand(len(case.video), generator=self.generator) < 0.5
        subject = {None: None, "empty": torch.zeros_like(chosen), "full": torch.ones_like(chosen)}.get(mask, chosen)
        hidden = torch.rand(case.length, generator=self.generator) < 0.5
        hidden[case.video.start : case.video.stop] = False
        bias = torch.randn(case.length, generator=self.generator)
        return Tokens(case.length, case.video, subject, hidden if hides else None, bias if soft else None)

    def _own(self) -> tuple[OwnTokens, Any]:
        case, tokens = self.case, self.tokens
        inside = torch.zeros(case.length, dtype=torch.bool)
        inside[case.video.start : case.video.stop] = True
        visible = None if tokens.hidden is None else ~tokens.hidden
        own = OwnTokens(
            self._draw(case.key_heads),
            self._draw(case.key_heads),
            slice(case.video.start, case.video.stop),
            None if inside.all() else (~inside).nonzero().squeeze(1),
            None if visible is None else visible.nonzero().squeeze(1),
            None if visible is None else (visible & ~inside).nonzero().squeeze(1),
            None if tokens.soft is None else tokens.soft[None].expand(case.rows, -1),
        )
        return own, None if tokens.subject is None else split_tokens(tokens.subject)

    def _add_source(self, mask: str | None) -> None:
        case = self.case
        tokens = self._describe(mask, hides=case.hides, soft=False)
        key, value = self._draw(case.key_heads), self._draw(case.key_heads)
        self.keys.append(key)
        self.values.append(value)
        self.sources.append(tokens)

        def stored(places: torch.Tensor, offset: int) -> StoredTokens:
            return StoredTokens(key[:, :, places + offset], value[:, :, places + offset], places)

        everything = torch.ones(len(case.video), dtype=torch.bool)
        subject = everything if tokens.subject is None else tokens.subject
        outside = torch.ones(case.length, dtype=torch.bool) if tokens.hidden is None else ~tokens.hidden
        outside[case.video.start : case.video.stop] = False
        has_outside = case.length > len(case.video)
        self.entries.append(
            BankEntry(
                (stored(subject.nonzero().squeeze(1), case.video.start),),
                stored((~subject).nonzero().squeeze(1), case.video.start)
                if self.config.share_background and tokens.subject is not None
                else None,
                stored(outside.nonzero().squeeze(1), 0) if self.config.share_text and has_outside else None,
            )
        )

    def shared(self, strength: float, scale: float | None = None) -> torch.Tensor | None:
        """What the code under test makes of it, [rows, heads, tokens, head_dim]; None for no sharing."""
        groups = sharing_groups(self.own, self.split, self.entries, self.config.rules(strength), self.case.frame_tokens)

        def backend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=scale, enable_gqa=True)

        return None if groups is None else attend_groups(self.query, groups, backend, PARTIAL, scale)

    def expected(self, bias: torch.Tensor, scale: float | None = None) -> torch.Tensor:
        return dense_attention(self.query, torch.cat(self.keys, 2), torch.cat(self.values, 2), bias=bias, scale=scale)


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal within the tolerance of `found`'s dtype, relative to the largest expected value."""
    error = (heads_together(found).double() - expected).abs().max() / expected.abs().max().clamp(min=1)
    assert error <= TOLERANCE[found.dtype], f"relative error {error:.2e} in {found.dtype}"


VIDEO_ALONE = Case(1, 1, 1, 2, 3, 0, 0, None, ("mixed",), False, False, torch.float64, 0)
TWO_KINDS = Case(1, 1, 1, 2, 4, 0, 2, "mixed", ("mixed",), False, False, torch.float64, 1)


@given(CASES, configurations(), st.sampled_from([None, 0.3]))
@example(VIDEO_ALONE, KVShareConfig(mode="swap", strength=0.3), None)
@example(TWO_KINDS, KVShareConfig(mode="swap", strength=0.3, position="frame", share_background=True), None)
@settings(max_examples=250)
def test_sharing_equals_the_dense_reference(case: Case, config: KVShareConfig, scale: float | None) -> None:
    scene = Scene(case, config)
    bias = joint_sharing_bias(config, config.strength, scene.tokens, scene.sources, case.frame_tokens)
    found = scene.shared(config.strength, scale)
    if found is None:
        assert bias[:, case.length :].isneginf().all(), "something foreign should be seen"
        return
    assert found.dtype == case.dtype
    assert_close(found, scene.expected(bias, scale))


@given(CASES, configurations())
@settings(max_examples=80)
def test_a_vanishing_strength_approaches_attention_without_sharing(case: Case, config: KVShareConfig) -> None:
    scene = Scene(replace(case, dtype=torch.float64), config)
    found = scene.shared(strength=1e-15)
    assume(found is not None)
    alone = joint_sharing_bias(config, 1.0, scene.tokens, [])
    foreign = torch.full((case.length, case.length * len(scene.sources)), -math.inf)
    assert_close(found, scene.expected(torch.cat([alone, foreign], 1)))


@given(CASES, configurations())
@settings(max_examples=80)
def test_every_query_belongs_to_exactly_one_group(case: Case, config: KVShareConfig) -> None:
    scene = Scene(case, config)
    groups = sharing_groups(scene.own, scene.split, scene.entries, config.rules(config.strength), case.frame_tokens)
    assume(groups is not None)
    groups = list(groups)
    if any(group.tokens is None for group in groups):
        assert len(groups) == 1
        return
    assert sorted(torch.cat([group.tokens for group in groups]).tolist()) == list(range(case.length))


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("mode", ["extend", "replace"])
def test_full_strength_goes_through_the_users_backend_alone(mode: Any, guided: bool) -> None:
    case = Case(1, 1, 1, 2, 3, 0, 2, "mixed" if guided else None, ("mixed", "mixed"), True, False, torch.float32, 3)
    config = KVShareConfig(mode=mode, share_background=True)
    scene = Scene(case, config)
    groups = sharing_groups(scene.own, scene.split, scene.entries, config.rules(1.0))
    assert groups is not None
    calls: list[int] = []

    def backend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        calls.append(key.shape[2])
        return torch.nn.functional.scaled_dot_product_attention(query, key, value)

    def unwanted(*arguments: Any) -> Any:
        raise AssertionError("a partial result was computed where one call would do")

    attend_groups(scene.query, groups, backend, unwanted)  # type: ignore[arg-type]
    assert len(calls) == (3 if guided else 2)


def test_a_sequence_of_video_alone_has_no_keys_outside() -> None:
    key = torch.zeros(1, 1, 4, 2)
    own = OwnTokens(key, key, slice(0, 4))
    assert own.outside_keys is None and own.outside_part() is None


def test_a_split_follows_the_call_to_its_device() -> None:
    split = split_tokens(torch.tensor([True, False, True]))
    assert split.on(torch.device("cpu")) is split
    moved = split.on(torch.device("meta"))
    for places, expected in ((moved.subjects[0], [0, 2]), (moved.background, [1])):
        assert places.on_device.device.type == "meta"
        assert places.on_cpu.tolist() == expected
