"""Side effects of sharing: each measure on a rendered video that has the effect and on one that has not."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.confidence import interval, interval_of_difference, mean
from bench.side_effects import cscv_lite, drift, frozen, in_tokens, leaks, mask_overlap, repeated
from tests.support.measured_beats import beat, measured

WATER, SAND = beat(background="water"), beat(background="sand")


def test_a_background_that_stays_though_the_prompt_changes_is_a_leak() -> None:
    said = [SAND, WATER, SAND]
    assert leaks(measured(said)) == pytest.approx([0.0], abs=0.02)
    assert leaks(measured([SAND, SAND, SAND], said)) == pytest.approx([1.0], abs=0.02)
    assert leaks(measured([SAND, SAND])) == []


def test_half_of_the_way_is_half_a_leak() -> None:
    said = [SAND, WATER]
    clean, leaking = measured(said), measured([SAND, SAND], said)
    half = replace(clean, frames=(clean.frames + leaking.frames) / 2)
    assert leaks(half) == pytest.approx([0.5], abs=0.03)


def test_drift_is_the_change_of_the_backgrounds_error() -> None:
    plain = measured([SAND, SAND, SAND])
    assert drift(plain) == pytest.approx([0.0], abs=0.01)
    start, stop = plain.spans[-1]
    darker = plain.frames.clone()
    darker[start:stop] *= 0.8
    (found,) = drift(replace(plain, frames=darker))
    assert found == pytest.approx(0.2 * float(torch.tensor([0.72, 0.60, 0.40]).norm()), abs=0.02)
    worse_at_first = plain.frames.clone()
    worse_at_first[slice(*plain.spans[0])] *= 0.8
    assert drift(replace(plain, frames=worse_at_first))[0] < 0


def test_a_subject_that_stands_still_or_is_missing_is_frozen() -> None:
    assert frozen(measured([beat(), beat(travel=0.0), beat(radius=0.01)])) == [0.0, 1.0, 1.0]


def test_moving_as_the_first_segment_against_the_prompt_is_a_repetition() -> None:
    right, left = beat(direction="right"), beat(direction="left")
    assert repeated(measured([right, left, right])) == [0.0]
    assert repeated(measured([right, right, right], [right, left, right])) == [1.0]
    assert repeated(measured([right, right])) == []


def test_the_found_mask_is_compared_with_the_one_that_is_seen() -> None:
    plain = measured([beat(), beat(direction="down")])
    assert mask_overlap(plain) == []
    true = torch.cat([seen.masks for seen in plain.detections]).float()
    assert mask_overlap(replace(plain, attention=true)) == [1.0]
    assert mask_overlap(replace(plain, attention=1 - true))[0] < 0.05
    everything = mask_overlap(replace(plain, attention=torch.ones_like(true)))[0]
    tokens = torch.stack([in_tokens(true[first:last]) for first, last in plain.latents])
    assert everything == pytest.approx(float(tokens.float().mean()))


def test_the_mask_of_a_latent_frame_is_compared_with_the_mean_of_its_pictures() -> None:
    moving = torch.zeros(4, 96, 96)
    moving[0, :16] = 1
    moving[1:, 16:32] = 1
    assert in_tokens(moving)[0].nonzero()[:, 0].unique().tolist() == [1]
    plain = measured([beat()])
    where = torch.ones_like(plain.frames[:, 0])
    inner = replace(plain, attention=where, latents=((0, 4), (4, 8)), spans=((2, len(where)),))
    cut = replace(inner, detections=(replace(plain.detections[0], masks=plain.detections[0].masks[2:]),))
    assert mask_overlap(cut) == mask_overlap(replace(cut, latents=((4, 8),)))


def test_cscv_lite_is_one_for_a_still_picture_and_less_at_a_cut() -> None:
    def embed(frames: torch.Tensor) -> torch.Tensor:
        return frames.mean((2, 3))

    calm = measured([beat(), beat()])
    still = replace(calm, frames=calm.frames[:1].expand(len(calm.frames), -1, -1, -1))
    assert cscv_lite(still, embed) == pytest.approx([1.0], abs=1e-5)
    cut = measured([SAND, WATER])
    assert cscv_lite(cut, embed)[0] < cscv_lite(calm, embed)[0] < 1


@given(st.lists(st.lists(st.floats(0, 1), max_size=4), min_size=1, max_size=20), st.integers(0, 5))
def test_an_interval_lies_around_the_mean_and_within_the_values(contributions: list[list[float]], seed: int) -> None:
    values = [value for some in contributions for value in some]
    found = interval(contributions, seed)
    if not values:
        assert found is None and mean(contributions) is None
        return
    assert found is not None and mean(contributions) == pytest.approx(sum(values) / len(values))
    low, high = found
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert found == interval(contributions, seed)


def test_the_interval_of_a_mean_has_the_width_that_is_known() -> None:
    contributions = [[float(index % 2)] for index in range(400)]
    found = interval(contributions, 0)
    assert found is not None
    assert found == pytest.approx([0.5 - 1.96 * 0.025, 0.5 + 1.96 * 0.025], abs=0.012)


def test_a_difference_of_the_same_storyboards_is_surer_than_that_of_others() -> None:
    values = torch.rand(60, generator=torch.Generator().manual_seed(0)).tolist()
    first, second = [[value + 0.05] for value in values], [[value] for value in values]
    paired = interval_of_difference(first, second, 0)
    assert paired == pytest.approx([0.05, 0.05])
    assert interval_of_difference(first, [[] for _ in second], 0) is None
