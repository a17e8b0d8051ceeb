"""The contrast of a source subject's keys."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.attention.contrast import with_contrast
from kvshare_core.bank.bank import BankEntry, StoredTokens

pytestmark = pytest.mark.oldest


def stored(tokens: int, seed: int, rows: int = 1) -> StoredTokens:
    key, value = torch.randn(2, rows, 2, tokens, 8, generator=torch.Generator().manual_seed(seed)).double()
    return StoredTokens(key, value, torch.arange(tokens))


@given(st.integers(1, 9), st.floats(0, 2), st.integers(0, 99))
def test_keys_stand_as_many_times_as_far_from_their_mean(tokens: int, contrast: float, seed: int) -> None:
    entry = BankEntry((stored(tokens, seed), None), stored(3, seed + 1), stored(2, seed + 2))
    before = entry.subjects[0].key.clone()
    found = with_contrast(entry, contrast, entry)
    mean = before.mean(2, keepdim=True)
    torch.testing.assert_close(found.subjects[0].key, mean + contrast * (before - mean))
    assert torch.equal(entry.subjects[0].key, before)
    assert found.subjects[0].value is entry.subjects[0].value
    assert found.subjects[1] is None and found.background is entry.background and found.text is entry.text


def test_a_contrast_of_one_is_nothing() -> None:
    entry = BankEntry((stored(4, 0),))
    assert with_contrast(entry, 1.0, entry) is entry


def test_keys_of_its_own_are_changed_in_place_and_give_the_same() -> None:
    entry = BankEntry((stored(5, 1),))
    copy = replace(entry, subjects=(replace(entry.subjects[0], key=entry.subjects[0].key.clone()),))
    found = with_contrast(copy, 1.4, entry)
    assert found.subjects[0].key is copy.subjects[0].key
    torch.testing.assert_close(found.subjects[0].key, with_contrast(entry, 1.4, entry).subjects[0].key)
    assert not torch.equal(found.subjects[0].key, entry.subjects[0].key)


def test_a_subject_without_tokens_has_nothing_to_change() -> None:
    entry = BankEntry((stored(0, 2),))
    assert with_contrast(entry, 1.5, entry).subjects[0].key.shape == (1, 2, 0, 8)
