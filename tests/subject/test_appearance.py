"""Similarity of tokens to examples, against plain loops, and masks that follow a subject by its appearance."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvshare_core.record.record import Examples
from kvshare_core.subject import appearance, maps
from kvshare_core.subject.appearance import (
    EXAMPLE_PART,
    REST_PART,
    choose_examples,
    contrasts,
    example_weights,
    likeness,
)


def random_tensor(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def looks_like(value: torch.Tensor, examples: Examples, subject: int, row: int) -> list[float]:
    """The likeness of every token of one row to one subject."""
    features = value[row].transpose(0, 1).flatten(1).double()
    features = features - features.mean(0)
    features = features / features.norm(dim=1, keepdim=True)

    def mean(chosen: torch.Tensor) -> torch.Tensor:
        return features[chosen[row].nonzero()[:, 0]].mean(0)

    others = [mean(mask) for number, mask in enumerate(examples.subject) if number != subject]
    rest = torch.stack([*others, mean(examples.rest[subject])]).mean(0)
    direction = mean(examples.subject[subject]) - rest
    return [float(token @ direction) for token in features]


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(5, 40), st.integers(0, 99))
@settings(max_examples=40)
def test_likeness_is_that_of_plain_loops(subjects: int, rows: int, heads: int, tokens: int, seed: int) -> None:
    value = random_tensor(seed, rows, heads, tokens, 6)
    examples = choose_examples(random_tensor(seed + 1, subjects, rows, tokens))
    found = likeness(value, contrasts(example_weights(examples)))
    for subject in range(subjects):
        for row in range(rows):
            expected = looks_like(value, examples, subject, row)
            assert found[subject, row].tolist() == pytest.approx(expected, abs=1e-4)


def test_likeness_does_not_depend_on_the_size_of_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    value = random_tensor(0, 2, 2, 50, 4)
    examples = choose_examples(random_tensor(1, 2, 2, 50))
    whole = likeness(value, contrasts(example_weights(examples)))
    monkeypatch.setattr(appearance, "MAP_CHUNK_ELEMENTS", 7 * 2 * 8)
    torch.testing.assert_close(likeness(value, contrasts(example_weights(examples))), whole, rtol=0, atol=1e-5)


@given(st.integers(3, 60), st.integers(0, 99))
@settings(max_examples=40)
def test_examples_are_the_surest_tokens_at_both_ends(tokens: int, seed: int) -> None:
    belief = random_tensor(seed, 2, 3, tokens)
    examples = choose_examples(belief)
    assert bool((examples.subject.sum(-1) == max(1, round(EXAMPLE_PART * tokens))).all())
    assert bool((examples.rest.sum(-1) == max(1, round(REST_PART * tokens))).all())
    assert not bool((examples.subject & examples.rest).any())
    inner = ~examples.subject & ~examples.rest
    top = belief.masked_fill(~examples.subject, torch.inf).amin(-1)
    low = belief.masked_fill(~examples.rest, -torch.inf).amax(-1)
    assert bool((belief.masked_fill(~inner, -torch.inf).amax(-1) <= top).all())
    assert bool((belief.masked_fill(~inner, torch.inf).amin(-1) >= low).all())


def test_a_subject_is_found_whole_from_a_few_of_its_tokens() -> None:
    subject = torch.zeros(200, dtype=torch.bool)
    subject[:30] = True
    value = 0.5 * random_tensor(2, 1, 1, 200, 16) + torch.where(subject[:, None], 1.0, -1.0) * random_tensor(3, 16)
    vague = torch.zeros(1, 1, 200)
    vague[..., 20:40] = 1.0
    score = likeness(value, contrasts(example_weights(choose_examples(vague))))[0, 0]
    assert score[subject].min() > score[~subject].max()


@given(st.integers(2, 50), st.floats(0.1, 100), st.floats(-50, 50), st.integers(0, 99))
def test_standardised_scores_have_neither_size_nor_offset(tokens: int, size: float, offset: float, seed: int) -> None:
    score = random_tensor(seed, 2, 3, tokens).double()
    found = maps.standardised(score)
    torch.testing.assert_close(found.mean(-1), torch.zeros(2, 3).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(found.square().mean(-1), torch.ones(2, 3).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(maps.standardised(score * size + offset), found, rtol=0, atol=1e-6)


def test_a_flat_map_counts_for_nothing() -> None:
    assert torch.equal(maps.standardised(torch.full((2, 5), 3.0)), torch.zeros(2, 5))
