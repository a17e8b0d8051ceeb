"""Maps from video to text tokens and the masks made of them, against plain loops."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from kvshare_core.prompt_words import SubjectTokens
from kvshare_core.subject import maps
from kvshare_core.subject.maps import (
    attention_scores,
    clean_mask,
    divide_claims,
    drop_absent_frames,
    mask_of_queries,
    mask_to_tokens,
    normalise_over_clip,
    normalise_over_frames,
    spread_over_latent_frames,
    standardised,
    subject_score,
    summed_probability,
    text_probabilities,
    threshold_mask,
    with_rim,
)


class Call:
    """One attention call with seeded tensors [rows, heads, tokens, 4], some key heads shared by several query heads."""

    def __init__(self, rows: int, key_heads: int, grouped: int, queries: int, keys: int, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        self.grouped = grouped
        self.query = torch.randn(rows, key_heads * grouped, queries, 4, generator=generator)
        self.key = torch.randn(rows, key_heads, keys, 4, generator=generator)

    def scores(self, scale: float = 0.5) -> torch.Tensor:
        """float64 [rows, heads, queries, keys]."""
        key = self.key.double().repeat_interleave(self.grouped, 1)
        return torch.einsum("bhqd,bhkd->bhqk", self.query.double(), key) * scale


SIZES = st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 3))


@given(SIZES, st.sets(st.integers(0, 6), min_size=1), st.sampled_from([None, 0.3]))
def test_text_probabilities_are_a_softmax_over_the_given_tokens_only(
    sizes: tuple[int, int, int], chosen: set[int], scale: float | None
) -> None:
    call, tokens = Call(*sizes, 5, 7), sorted(chosen)
    found = text_probabilities(call.query, call.key[:, :, tokens], scale)
    expected = call.scores(scale or 0.5)[..., tokens].softmax(-1).mean(1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


@given(SIZES, st.integers(1, 3), st.booleans(), st.sampled_from([None, 0.3]))
def test_probabilities_from_the_log_sum_exp_are_those_of_the_whole_softmax(
    sizes: tuple[int, int, int], text: int, text_first: bool, scale: float | None
) -> None:
    call = Call(*sizes, 6 + text, 6 + text)
    texts = slice(0, text) if text_first else slice(6, 6 + text)
    video = slice(text, 6 + text) if text_first else slice(0, 6)
    scores = call.scores(scale or 0.5)[:, :, video]
    found = text_probabilities(call.query[:, :, video], call.key[:, :, texts], scale, scores.logsumexp(-1).float())
    torch.testing.assert_close(found.double(), scores.softmax(-1)[..., texts].mean(1), rtol=0, atol=1e-6)


class LargestScores(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor of scores [..., words, tokens] that any operation made."""

    def __init__(self, words: int, tokens: int):
        super().__init__()
        self.shape = (words, tokens)
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.shape[-2:] == self.shape:
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize("whole_softmax", [False, True])
@pytest.mark.parametrize(("limit", "heads_at_once"), [(1 << 20, 8), (2 * 3 * 50 * 4 + 1, 2), (1, 1)])
def test_scores_of_as_many_heads_are_held_as_fit_the_limit(
    whole_softmax: bool, limit: int, heads_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, heads, tokens, words = 3, 8, 50, 4
    call = Call(rows, heads, 1, tokens, words)
    scores = call.scores()
    total = scores.logsumexp(-1).float() if whole_softmax else None
    monkeypatch.setattr(maps, "MAP_CHUNK_ELEMENTS", limit)
    with LargestScores(words, tokens) as largest:
        found = text_probabilities(call.query, call.key, None, total)
    assert largest.elements == rows * heads_at_once * tokens * words
    torch.testing.assert_close(found.double(), scores.softmax(-1).mean(1), rtol=0, atol=1e-6)


def test_at_most_16_mib_of_scores_are_held() -> None:
    # Without numbers, so that they cost nothing.
    query, text_key = torch.empty(1, 16, 1 << 18, 4, device="meta"), torch.empty(1, 16, 4, 4, device="meta")
    with LargestScores(4, 1 << 18) as largest:
        text_probabilities(query, text_key)
    assert 4 * largest.elements == 16 << 20


def test_shared_key_heads_are_told_by_their_number_alone() -> None:
    """Also where there are as many queries as key heads, or as many keys as heads."""
    call = Call(1, key_heads=2, grouped=2, queries=2, keys=4)
    torch.testing.assert_close(attention_scores(call.query, call.key).double(), call.scores(), rtol=0, atol=1e-5)


@given(SIZES, st.integers(0, 4), st.sampled_from([None, 0.3]))
def test_scores_of_one_query_are_one_line_of_the_attention(
    sizes: tuple[int, int, int], place: int, scale: float | None
) -> None:
    call = Call(*sizes, 5, 7)
    found = attention_scores(call.query[:, :, place : place + 1], call.key, scale)
    torch.testing.assert_close(found[:, :, 0].double(), call.scores(scale or 0.5)[:, :, place], rtol=0, atol=1e-5)


MASK_SHAPES = [(7,), (1, 7), (5, 7), (1, 5, 7), (3, 1, 7), (3, 5, 7), (1, 1, 1, 7), (3, 1, 1, 7), (3, 2, 5, 7)]


@pytest.mark.parametrize("boolean", [False, True])
@pytest.mark.parametrize("shape", MASK_SHAPES)
def test_a_mask_of_any_shape_is_cut_to_some_rows_and_queries(shape: tuple[int, ...], boolean: bool) -> None:
    call = Call(3, 2, 1, 5, 7)
    mask = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    mask = mask > 0 if boolean else mask
    added = torch.zeros(shape).masked_fill(~mask, -torch.inf) if boolean else mask
    scores = call.scores() + (added[:, None] if added.ndim == 3 else added)
    rows = slice(1, 3)
    for queries in (slice(4, 5), torch.tensor([0, 4])):
        part = mask_of_queries(mask, rows, queries)
        found = attention_scores(call.query[rows, :, queries], call.key[rows], None, part)
        torch.testing.assert_close(found.double(), scores[rows, :, queries], rtol=0, atol=1e-5)


def test_the_subject_is_contrasted_with_the_mean_of_the_other_words() -> None:
    probabilities = torch.tensor([[[0.5, 0.1, 0.1, 0.3], [0.1, 0.2, 0.6, 0.1]]])
    tokens = (2, 4, 5, 9)
    score = subject_score(probabilities, tokens, SubjectTokens((2,), (4, 5)))
    torch.testing.assert_close(score, torch.tensor([[0.4, -0.3]]))
    alone = subject_score(probabilities, tokens, SubjectTokens((4, 9), ()))
    torch.testing.assert_close(alone, torch.tensor([[0.2, 0.15]]))


def test_the_words_of_a_subject_are_added_up() -> None:
    probabilities = torch.tensor([[[0.5, 0.1, 0.1, 0.3], [0.1, 0.2, 0.6, 0.1]]])
    found = summed_probability(probabilities, (2, 4, 5, 9), SubjectTokens((2, 5, 9), (4,)))
    torch.testing.assert_close(found, torch.tensor([[0.9, 0.8]]))


@given(st.integers(2, 200), st.floats(-50, 50), st.floats(0.01, 100), st.integers(0, 99))
def test_normalised_maps_do_not_depend_on_offset_and_scale(count: int, offset: float, scale: float, seed: int) -> None:
    score = torch.randn(2, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    normalised = normalise_over_clip(score)
    assert normalised.min() == 0
    assert normalised.max() == 1
    torch.testing.assert_close(normalise_over_clip(score * scale + offset), normalised, rtol=0, atol=1e-3)


def test_maps_run_from_their_2_to_their_98_percent_quantile() -> None:
    order = torch.randperm(101, generator=torch.Generator().manual_seed(0))
    rows = torch.stack([order, 2 * order - 5]).float()
    expected = [min(1.0, max(0.0, (value - 2) / 96)) for value in order.tolist()]
    for found in normalise_over_clip(rows).tolist():
        assert found == pytest.approx(expected, abs=1e-6)


@given(st.integers(2, 50), st.floats(0.1, 100), st.integers(0, 99))
def test_standardised_maps_have_mean_0_and_spread_1(count: int, scale: float, seed: int) -> None:
    score = torch.randn(2, 3, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = standardised(score * scale + scale)
    torch.testing.assert_close(found.mean(-1), torch.zeros(2, 3, dtype=torch.float64))
    torch.testing.assert_close(found.square().mean(-1), torch.ones(2, 3, dtype=torch.float64))
    torch.testing.assert_close(found, standardised(score))


def test_small_differences_are_not_blown_up() -> None:
    """What differs by less than rounding counts as flat."""
    score = 1e-7 * torch.tensor([[-1.0, 1.0]])
    assert standardised(score)[0].tolist() == pytest.approx([-0.1, 0.1])
    assert normalise_over_clip(torch.tensor([[0.0, 5e-7]], dtype=torch.float64))[0, 1] == pytest.approx(0.49, abs=0.01)
    assert 0.1 < normalise_over_frames(score + 1, (1, 1, 2))[0, 1] < 0.3


def test_a_flat_map_has_no_subject() -> None:
    assert not standardised(torch.full((2, 9), 0.25)).any()
    normalised = normalise_over_clip(torch.full((1, 9), 0.3))
    assert not threshold_mask(normalised, 0.5).any()


GRIDS = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))


def random_score(grid: tuple[int, int, int], seed: int, rows: int = 2) -> torch.Tensor:
    return torch.randn(rows, math.prod(grid), generator=torch.Generator().manual_seed(seed))


def frames_of(row: torch.Tensor, grid: tuple[int, int, int]) -> list[list[float]]:
    size = grid[1] * grid[2]
    return [row[frame * size : (frame + 1) * size].tolist() for frame in range(grid[0])]


@given(GRIDS, st.integers(0, 99))
def test_every_frame_is_scaled_by_its_own_lowest_and_highest(grid: tuple[int, int, int], seed: int) -> None:
    score = random_score(grid, seed)
    for found, row in zip(normalise_over_frames(score, grid), score, strict=True):
        expected = [
            (value - min(frame)) / (max(frame) - min(frame) + 1e-6) for frame in frames_of(row, grid) for value in frame
        ]
        assert found.tolist() == pytest.approx(expected, abs=1e-4)


@given(st.integers(1, 30), st.sampled_from([0.0, 0.1, 0.4]), st.booleans(), st.integers(0, 99))
def test_a_token_enters_at_the_threshold_and_leaves_below_it(
    count: int, hysteresis: float, knows: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    normalised = torch.rand(2, count, generator=generator)
    before = torch.rand(2, count, generator=generator) < 0.5
    found = threshold_mask(normalised, 0.5, before if knows else None, hysteresis)
    for row in range(2):
        for token in range(count):
            stays = knows and hysteresis > 0 and bool(before[row, token])
            lowest = 0.5 - hysteresis if stays else 0.5
            assert bool(found[row, token]) == (float(normalised[row, token]) >= lowest)


def test_a_token_at_the_threshold_belongs_to_the_mask() -> None:
    normalised, before = torch.tensor([0.25, 0.5, 0.25, 0.125]), torch.tensor([False, False, True, True])
    assert threshold_mask(normalised, 0.5).tolist() == [False, True, False, False]
    assert threshold_mask(normalised, 0.5, before).tolist() == [False, True, False, False]
    assert threshold_mask(normalised, 0.5, before, 0.25).tolist() == [False, True, True, False]


def test_a_token_kept_by_hysteresis_is_not_lost_to_a_subject_that_does_not_claim_it() -> None:
    """The first subject's score is below the threshold and below that of the second, which does not claim the token."""
    normalised = torch.tensor([[[0.45]], [[0.48]]])
    claims = threshold_mask(normalised, 0.5, torch.tensor([[[True]], [[False]]]), 0.1)
    assert claims.flatten().tolist() == [True, False]
    assert torch.equal(divide_claims(claims, normalised), claims)


@given(st.integers(1, 3), st.integers(1, 20), st.integers(0, 99))
def test_a_token_goes_to_the_strongest_of_those_that_claim_it(subjects: int, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Few different scores, so that some are equal.
    normalised = torch.randint(0, 4, (subjects, 2, count), generator=generator) / 4
    claims = torch.rand(subjects, 2, count, generator=generator) < 0.6
    found = divide_claims(claims, normalised)
    for row, token in itertools.product(range(2), range(count)):
        claimants = [number for number in range(subjects) if claims[number, row, token]]
        winner = max(claimants, key=lambda number: (float(normalised[number, row, token]), -number), default=None)
        assert [number for number in range(subjects) if found[number, row, token]] == (
            [] if winner is None else [winner]
        )


@given(GRIDS, st.sampled_from([0.2, 0.5, 0.9]), st.integers(0, 99))
def test_frames_without_a_strong_response_have_no_subject(
    grid: tuple[int, int, int], presence: float, seed: int
) -> None:
    score = random_score(grid, seed)
    mask = random_score(grid, seed + 1) > 0
    for found, row, old in zip(drop_absent_frames(mask, score, presence, grid), score, mask, strict=True):
        low, high = float(row.min()), float(row.max())
        expected: list[bool] = []
        for values, was in zip(frames_of(row, grid), frames_of(old, grid), strict=True):
            present = max(values) - low >= presence * (high - low)
            expected += [bool(token) and present for token in was]
        assert found.tolist() == expected


@given(GRIDS, st.integers(0, 999))
def test_single_tokens_go_and_holes_of_one_token_close(grid: tuple[int, int, int], seed: int) -> None:
    mask = random_score(grid, seed) > 0
    frames, height, width = grid
    found = clean_mask(mask, grid).reshape(2, *grid)
    old = mask.reshape(2, *grid)
    around = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right]
    for row, frame, y, x in itertools.product(range(2), range(frames), range(height), range(width)):

        def inside(down: int, right: int) -> bool:
            within = 0 <= y + down < height and 0 <= x + right < width  # noqa: B023
            return within and bool(old[row, frame, y + down, x + right])  # noqa: B023

        keeps = bool(old[row, frame, y, x]) and any(inside(*step) for step in around)
        closes = all(inside(*step) for step in ((-1, 0), (1, 0), (0, -1), (0, 1)))
        assert bool(found[row, frame, y, x]) == (keeps or closes)


def test_a_mask_is_cleaned_on_its_own_device_whatever_the_default() -> None:
    grid = (1, 3, 4)
    mask = random_score(grid, 3) > 0
    expected = clean_mask(mask, grid)
    with torch.device("meta"):
        assert torch.equal(clean_mask(mask, grid), expected)


def pictures_of_frames(start: int, stop: int, scale: int) -> list[tuple[int, int]]:
    """First and stop of the pictures of latent frames [start, stop)."""
    return [(0, 1) if frame == 0 else (scale * (frame - 1) + 1, scale * frame + 1) for frame in range(start, stop)]


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 4), st.integers(1, 3))
def test_a_token_gets_the_mean_of_the_pictures_and_pixels_it_covers(
    scale: int, frames: int, start: int, side: int
) -> None:
    pixels = 4
    stop = start + frames
    pictures = scale * (stop - 1) + 1
    mask = torch.rand(pictures, side * pixels, 2 * pixels, generator=torch.Generator().manual_seed(frames))
    ranges = pictures_of_frames(start, stop, scale)
    found = mask_to_tokens(mask, ranges, (frames, side, 2)).reshape(frames, side, 2)
    for place, covered in enumerate(range(*pair) for pair in ranges):
        for row in range(side):
            for column in range(2):
                cut = mask[list(covered), row * pixels : (row + 1) * pixels, column * pixels : (column + 1) * pixels]
                assert float(found[place, row, column]) == pytest.approx(float(cut.mean()), abs=1e-5)


@given(st.integers(1, 3), st.integers(1, 7), st.integers(0, 4), st.integers(1, 4))
def test_a_token_of_several_latent_frames_gets_their_mean(scale: int, length: int, start: int, patch: int) -> None:
    stop = start + length
    mask = torch.rand(scale * (stop - 1) + 1, 4, 4, generator=torch.Generator().manual_seed(length))
    frames = -(-length // patch)
    ranges = pictures_of_frames(start, stop, scale)
    each = mask_to_tokens(mask, ranges, (length, 2, 2)).reshape(length, 4)
    found = mask_to_tokens(mask, ranges, (frames, 2, 2), patch).reshape(frames, 4)
    for place in range(frames):
        torch.testing.assert_close(found[place], each[patch * place : patch * (place + 1)].mean(0))
    spread = spread_over_latent_frames(found.reshape(frames, 2, 2), length, patch)
    assert torch.equal(spread.reshape(length, 4), torch.stack([found[frame // patch] for frame in range(length)]))


def test_one_picture_stands_for_every_frame() -> None:
    mask = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    assert mask_to_tokens(mask, pictures_of_frames(3, 5, 4), (2, 2, 2)).tolist() == [1, 0, 0, 0] * 2


def test_a_mask_with_too_few_pictures_is_an_error() -> None:
    with pytest.raises(ValueError, match="mask: 8 pictures, but the video has 9"):
        mask_to_tokens(torch.zeros(8, 4, 4), pictures_of_frames(0, 3, 4), (3, 2, 2))


@given(st.integers(1, 3), st.integers(0, 3), st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=40)
def test_a_rim_grows_step_by_step_and_the_first_subject_takes_what_two_reach(
    subjects: int, rim: int, width: int, seed: int
) -> None:
    grid = (2, 4, width)
    generator = torch.Generator().manual_seed(seed)
    nobody = -1
    drawn = torch.randint(-6, subjects, grid, generator=generator).clamp(min=nobody)
    masks = torch.stack([drawn == number for number in range(subjects)])[:, None]
    found = with_rim(masks.flatten(2), rim, grid).reshape(subjects, *grid)
    owner = {place: int(drawn[place]) for place in itertools.product(*map(range, grid))}
    for _ in range(rim):
        before = dict(owner)
        for (frame, y, x), own in before.items():
            sides = [(frame, y + 1, x), (frame, y - 1, x), (frame, y, x + 1), (frame, y, x - 1)]
            reach = [before[side] for side in sides if before.get(side, nobody) != nobody]
            if own == nobody and reach:
                owner[frame, y, x] = min(reach)
    for place, own in owner.items():
        assert [number for number in range(subjects) if found[number][place]] == ([] if own == nobody else [own])


@given(st.integers(1, 3), st.integers(0, 3), st.integers(0, 99))
@settings(max_examples=30)
def test_a_rim_grows_a_mask_by_its_width_but_never_into_another_subject(subjects: int, rim: int, seed: int) -> None:
    grid = (2, 5, 4)
    generator = torch.Generator().manual_seed(seed)
    owner = torch.randint(-6, subjects, (2, *grid), generator=generator)
    masks = torch.stack([owner == number for number in range(subjects)])
    found = with_rim(masks.flatten(2), rim, grid).reshape(subjects, 2, *grid)
    assert not bool((found.sum(0) > 1).any())
    for row, frame, y, x in itertools.product(range(2), *map(range, grid)):
        near = {
            int(owner[row, frame, v, u])
            for v, u in itertools.product(range(grid[1]), range(grid[2]))
            if abs(v - y) + abs(u - x) <= rim
        } - set(range(-6, 0))
        mine = [number for number in range(subjects) if found[number, row, frame, y, x]]
        if owner[row, frame, y, x] >= 0:
            assert mine == [int(owner[row, frame, y, x])]
        elif not near:
            assert mine == []
        elif subjects == 1:
            assert mine == [0]


def test_maps_and_masks_lie_on_the_device_of_the_call() -> None:
    """A device that has no numbers refuses to be mixed with the CPU, as a GPU does."""
    grid = (2, 3, 3)
    query, key = torch.empty(1, 2, 18, 4, device="meta"), torch.empty(1, 2, 3, 4, device="meta")
    score = subject_score(text_probabilities(query, key), (4, 5, 6), SubjectTokens((4,), (5, 6)))
    normalised = normalise_over_clip(standardised(score))
    mask = drop_absent_frames(threshold_mask(normalised, 0.5), score, 0.5, grid)
    masks = divide_claims(torch.stack([clean_mask(mask, grid)] * 2), torch.stack([normalised] * 2))
    grown = with_rim(masks, 1, grid)
    assert (grown.device.type, grown.shape, grown.dtype) == ("meta", (2, 1, 18), torch.bool)
