"""Several subjects in one attention call, and the small print of query groups: what is copied, and on which device."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvshare_core.attention.groups import OwnTokens, sharing_groups
from kvshare_core.attention.log_sum_exp import LogSumExpAttention
from kvshare_core.attention.parts import QueryGroup, attend_groups
from kvshare_core.attention.token_split import TokenPlaces, TokenSplit, split_tokens
from kvshare_core.bank.bank import BankEntry, StoredTokens
from kvshare_core.config import KVShareConfig
from tests.oracles.dense_reference import dense_attention, heads_together

TEXT = 2
BACKGROUND = 2
OWNERS = st.lists(st.integers(0, 2), min_size=1, max_size=8)
"""To whom each video token belongs: one of two subjects, or the background."""


def groups_of(
    own: OwnTokens, split: TokenSplit | None, sources: list[BankEntry], config: KVShareConfig
) -> list[QueryGroup] | None:
    groups = sharing_groups(own, split, sources, config.rules(config.strength))
    return None if groups is None else list(groups)


def split_of(owners: list[int], subjects: int = 2) -> TokenSplit:
    return split_tokens(torch.tensor([[owner == number for owner in owners] for number in range(subjects)]))


def random_tokens(count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(1, 2, count, 4, generator=generator, dtype=torch.float64)


def own_of(generator: torch.Generator, video: int, text: int = TEXT) -> OwnTokens:
    """The text stands before the video."""
    key, value = (random_tokens(text + video, generator) for _ in range(2))
    return OwnTokens(key, value, slice(text, text + video), torch.arange(text) if text else None)


def exported(key: torch.Tensor, value: torch.Tensor, owners: list[int]) -> BankEntry:
    """What a segment without text leaves whose tokens belong to `owners`: everything, whatever the target may use."""

    def part(kind: int) -> StoredTokens:
        places = torch.tensor([place for place, owner in enumerate(owners) if owner == kind], dtype=torch.int64)
        return StoredTokens(key[:, :, places], value[:, :, places], places)

    return BankEntry((part(0), part(1)), part(BACKGROUND))


def expected_bias(config: KVShareConfig, owners: list[int], source: list[int]) -> torch.Tensor:
    """What is added to the scores of [text, own video, source] for each query, written out pair by pair."""
    bias = torch.full((TEXT + len(owners), TEXT + len(owners) + len(source)), -math.inf, dtype=torch.float64)
    bias[:, : TEXT + len(owners)] = 0.0
    for query, kind in enumerate(owners):
        attends = kind != BACKGROUND or config.share_background
        count = source.count(kind) if attends else 0
        if not count:
            continue
        own_weight = 0.0 if config.mode == "extend" else math.log(1 - config.strength)
        for key, other in enumerate(owners):
            # Only `swap` spares the own tokens of other kinds.
            if config.mode == "replace" or other == kind:
                bias[TEXT + query, TEXT + key] = own_weight
        weight = config.strength * (owners.count(kind) / count if config.mode == "swap" else 1)
        for key, other in enumerate(source):
            if other == kind:
                bias[TEXT + query, TEXT + len(owners) + key] = math.log(weight)
    return bias


@given(OWNERS, OWNERS, st.sampled_from(["extend", "replace", "swap"]), st.booleans(), st.integers(0, 1000))
@settings(max_examples=150)
def test_each_subject_attends_to_its_own_tokens_in_the_source(
    owners: list[int], source: list[int], mode: Any, share_background: bool, seed: int
) -> None:
    config = KVShareConfig(mode=mode, share_background=share_background, strength=0.4)
    generator = torch.Generator().manual_seed(seed)
    own, query = own_of(generator, len(owners)), random_tokens(TEXT + len(owners), generator)
    key, value = (random_tokens(len(source), generator) for _ in range(2))
    bias = expected_bias(config, owners, source)
    groups = groups_of(own, split_of(owners), [exported(key, value, source)], config)
    if groups is None:
        assert not set(owners) & set(source) or bias[:, TEXT + len(owners) :].isneginf().all()
        return
    found = attend_groups(query, groups, torch.nn.functional.scaled_dot_product_attention, LogSumExpAttention())
    expected = dense_attention(query, torch.cat([own.key, key], 2), torch.cat([own.value, value], 2), bias=bias)
    torch.testing.assert_close(heads_together(found), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("mode", ["extend", "replace", "swap"])
@pytest.mark.parametrize("owners", [[0, 0, 0], [0, 1, 2]])
def test_a_sequence_of_video_alone_shares_too(mode: Any, owners: list[int]) -> None:
    generator = torch.Generator().manual_seed(3)
    own = own_of(generator, 3, text=0)
    key, value = (random_tokens(3, generator) for _ in range(2))
    config = KVShareConfig(mode=mode, strength=0.4)
    groups = groups_of(own, split_of(owners), [exported(key, value, owners)], config)
    assert groups is not None
    assert sorted(torch.cat([group.tokens for group in groups if group.tokens is not None]).tolist()) == [0, 1, 2]
    assert own.outside_part() is None


def test_groups_that_add_to_all_own_keys_use_one_copy_of_them() -> None:
    generator = torch.Generator().manual_seed(0)
    owners = [0, 1, 2, 0]
    own = own_of(generator, 4)
    key, value = (random_tokens(4, generator) for _ in range(2))
    groups = groups_of(own, split_of(owners), [exported(key, value, owners)], KVShareConfig(mode="extend"))
    assert groups is not None
    assert all(group.parts[0] is own.everything() for group in groups)
    assert own.everything().key is own.key
    assert own.everything().key_bias is None


@given(OWNERS)
def test_every_token_is_one_subject_s_or_the_background_s(owners: list[int]) -> None:
    split = split_of(owners)
    found = [*split.subjects, split.background]
    for kind, places in enumerate(found):
        assert places.on_cpu.tolist() == [place for place, owner in enumerate(owners) if owner == kind]
        assert torch.equal(places.on_device, places.on_cpu)


def test_places_of_all_subjects_follow_the_call_to_its_device() -> None:
    masks = torch.tensor([[True, False, False], [False, True, False]])
    moved = split_tokens(masks).on(torch.device("meta"))
    for split in (moved, split_tokens(masks, "meta")):
        assert [places.on_device.device.type for places in (*split.subjects, split.background)] == ["meta"] * 3
        assert [places.on_cpu.tolist() for places in (*split.subjects, split.background)] == [[0], [1], [2]]


def test_groups_lie_on_the_device_of_the_call() -> None:
    """A device that has no numbers refuses to be mixed with the CPU, as a GPU does."""
    tokens = torch.empty(1, 2, 5, 4, device="meta")
    own = OwnTokens(tokens, tokens, slice(2, 5), torch.empty(2, dtype=torch.int64, device="meta"))
    stored = StoredTokens(tokens, tokens, torch.arange(5))
    groups = groups_of(own, None, [BankEntry((stored,))], KVShareConfig(mode="replace"))
    assert groups is not None
    assert [(group.tokens.device.type, len(group.tokens)) for group in groups if group.tokens is not None] == [
        ("meta", 3),
        ("meta", 2),
    ]


def test_stored_tokens_are_those_of_the_video_at_their_places() -> None:
    own = own_of(torch.Generator().manual_seed(1), 4)
    stored = own.stored(TokenPlaces.of(torch.tensor([0, 3]), torch.device("cpu")))
    assert stored.tokens.tolist() == [0, 3]
    assert torch.equal(stored.key, own.key[:, :, [TEXT, TEXT + 3]])
    assert torch.equal(stored.value, own.value[:, :, [TEXT, TEXT + 3]])
    # The indices on the device are those that it gathers with.
    chosen = own.stored(TokenPlaces(torch.tensor([0, 3]), torch.tensor([1, 2])))
    assert torch.equal(chosen.key, own.key[:, :, [TEXT + 1, TEXT + 2]])
