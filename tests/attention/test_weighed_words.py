"""Weighed words equal a dense float64 reference that writes out every pair of tokens."""

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvshare_core.attention.groups import OwnTokens, outside_groups, sharing_groups
from kvshare_core.attention.key_masks import KeyMask, weigh_words
from kvshare_core.attention.log_sum_exp import LogSumExpAttention
from kvshare_core.attention.parts import KeyValuePart, QueryGroup, attend, attend_groups
from kvshare_core.attention.token_split import split_tokens
from kvshare_core.bank.bank import BankEntry, StoredTokens
from kvshare_core.config import KVShareConfig
from tests.oracles.dense_reference import Tokens, dense_attention, heads_together, joint_sharing_bias
from tests.oracles.word_weights import weighed_attention

VIDEO, TEXT = range(3, 11), (0, 1, 2, 11)
LENGTH, FRAME_TOKENS = 12, 4
LSE = LogSumExpAttention()
WEIGHTS = st.dictionaries(st.sampled_from(TEXT), st.sampled_from([0.0, 0.3, 1.5, 4.0]), max_size=3)


@dataclass(frozen=True)
class Joint:
    """A joint sequence of text before and behind the video, one source, and their tensors."""

    seed: int
    config: KVShareConfig
    guided: bool
    hidden: bool

    def own(self, weights: dict[int, float], normalised: bool) -> OwnTokens:
        key, value = self.draw(1), self.draw(2)
        hidden = (2,) if self.hidden else ()
        shown = torch.tensor([place for place in range(LENGTH) if place not in hidden])
        outside = torch.tensor([place for place in TEXT if place not in hidden])
        mask = KeyMask(hidden, (), torch.tensor(TEXT), *((shown, outside) if hidden else (None, None)))
        found = weigh_words(mask, weights, normalised, LENGTH, slice(VIDEO.start, VIDEO.stop), key.device)
        assert found is not None
        words = found.words if weights else None
        return OwnTokens(
            key, value, slice(VIDEO.start, VIDEO.stop), mask.outside, mask.visible, mask.visible_outside, words=words
        )

    def draw(self, number: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(10 * self.seed + number)
        return torch.randn(2, 2, LENGTH, 8, generator=generator, dtype=torch.float64)

    def tokens(self, number: int) -> Tokens:
        subject = None
        if self.guided:
            generator = torch.Generator().manual_seed(10 * self.seed + number)
            subject = torch.rand(len(VIDEO), generator=generator) < 0.5
        hidden = None
        if self.hidden and number == 3:
            hidden = torch.arange(LENGTH) == 2
        return Tokens(LENGTH, VIDEO, subject, hidden)

    def entry(self) -> BankEntry:
        key, value, subject = self.draw(4), self.draw(5), self.tokens(6).subject

        def stored(places: torch.Tensor, offset: int) -> StoredTokens:
            return StoredTokens(key[:, :, places + offset], value[:, :, places + offset], places)

        text = stored(torch.tensor(TEXT), 0) if self.config.share_text else None
        if subject is None:
            return BankEntry((stored(torch.arange(len(VIDEO)), VIDEO.start),), None, text)
        background = stored((~subject).nonzero().squeeze(1), VIDEO.start) if self.config.share_background else None
        return BankEntry((stored(subject.nonzero().squeeze(1), VIDEO.start),), background, text)


def shown(weights: dict[int, float], hidden: bool) -> dict[int, float]:
    """The weights of words that the call's own mask does not hide."""
    return {place: weight for place, weight in weights.items() if not (hidden and place == 2)}


def backend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.scaled_dot_product_attention(query, key, value)


CONFIGS = st.builds(
    KVShareConfig,
    mode=st.sampled_from(["extend", "swap"]),
    strength=st.sampled_from([0.3, 1.0]),
    share_background=st.booleans(),
    position=st.sampled_from(["same", "frame"]),
) | st.builds(
    KVShareConfig,
    mode=st.just("replace"),
    strength=st.sampled_from([0.3, 1.0]),
    share_text=st.booleans(),
    share_background=st.booleans(),
)


@given(st.builds(Joint, st.integers(0, 999), CONFIGS, st.booleans(), st.booleans()), WEIGHTS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_words_are_weighed_in_rows_that_share(joint: Joint, weights: dict[int, float], normalised: bool) -> None:
    if joint.config.position == "frame" and not joint.guided:
        joint = replace(joint, guided=True)
    own = joint.own(weights, normalised)
    split = split_tokens(joint.tokens(3).subject) if joint.guided else None
    rules = joint.config.rules(joint.config.strength)
    groups = sharing_groups(own, split, [joint.entry()], rules, FRAME_TOKENS)
    query, keys, values = (
        joint.draw(0),
        torch.cat([joint.draw(1), joint.draw(4)], 2),
        torch.cat([joint.draw(2), joint.draw(5)], 2),
    )
    if groups is None:
        return
    bias = joint_sharing_bias(joint.config, joint.config.strength, joint.tokens(3), [joint.tokens(6)], FRAME_TOKENS)
    found = attend_groups(query, groups, backend, LSE)
    expected = weighed_attention(query, keys, values, bias, VIDEO, shown(weights, joint.hidden), normalised)
    assert (heads_together(found) - expected).abs().max() < 1e-10


@given(st.integers(0, 999), WEIGHTS, st.booleans(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_words_are_weighed_both_ways_in_joint_attention(
    seed: int, weights: dict[int, float], normalised: bool, hidden: bool
) -> None:
    joint = Joint(seed, KVShareConfig(), False, hidden)
    own = joint.own(weights, normalised)
    groups = [QueryGroup(own.video_queries, own.seen_by_video()), *outside_groups(own)]
    bias = torch.zeros(LENGTH, LENGTH, dtype=torch.float64)
    if hidden:
        bias[:, 2] = -math.inf
    query = joint.draw(0)
    found = attend_groups(query, groups, backend, LSE)
    expected = weighed_attention(query, own.key, own.value, bias, VIDEO, shown(weights, hidden), normalised)
    assert (heads_together(found) - expected).abs().max() < 1e-10


def test_weight_0_is_hiding_the_words_from_the_video() -> None:
    own = Joint(1, KVShareConfig(), False, False).own({1: 0.0}, True)
    query = Joint(1, KVShareConfig(), False, False).draw(0)[:, :, VIDEO.start : VIDEO.stop]
    kept = [place for place in range(LENGTH) if place != 1]
    expected = dense_attention(query, own.key[:, :, kept], own.value[:, :, kept])
    assert (heads_together(attend(query, own.seen_by_video(), backend, LSE)) - expected).abs().max() < 1e-12


def test_the_rest_and_the_words_each_take_one_fused_call() -> None:
    own = Joint(1, KVShareConfig(), False, False).own({0: 1.5, 1: 1.5}, True)
    calls: list[tuple[int, Any]] = []

    def watched(query: Any, key: Any, value: Any, scale: Any = None, key_bias: Any = None) -> Any:
        calls.append((key.shape[2], key_bias))
        return LSE(query, key, value, scale, key_bias)

    attend(Joint(1, KVShareConfig(), False, False).draw(0), own.seen_by_video(), backend, watched)  # type: ignore[arg-type]
    assert calls == [(LENGTH - 2, None), (2, None)]


def test_a_prompt_of_weight_0_words_alone_is_refused() -> None:
    mask = KeyMask(outside=torch.arange(2))
    nothing = slice(0, 0)
    assert weigh_words(mask, {0: 0.0, 1: 0.0}, True, 2, nothing, torch.device("cpu")) is None
    assert weigh_words(mask, {0: 0.5, 1: 0.0}, True, 2, nothing, torch.device("cpu")) is not None


@pytest.mark.parametrize("gain", [0.0, 0.5, 3.0])
def test_a_gain_scales_the_only_part(gain: float) -> None:
    query = torch.randn(1, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    part = KeyValuePart(query, query)
    expected = backend(query, query, query) * gain
    assert torch.equal(attend(query, [part.amplified(gain)], backend, LSE), expected)
