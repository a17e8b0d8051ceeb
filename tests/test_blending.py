"""Overlapping segments blend into one latent without gaps or seams of their own making."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.blending import Fade, OverlapAdd, take_frames, triangle_weights, window_weights


def weights_of_whole(length: int, rise: int, fall: int) -> torch.Tensor:
    """Weights of a window all of whose frames count."""
    return window_weights(Fade(length, 0, length, rise, fall))


@given(st.integers(2, 30), st.data())
def test_weights_of_neighbours_sum_to_one_on_every_shared_frame(length: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, length // 2))
    stride, segments = length - overlap, 4
    total = torch.zeros(stride * (segments - 1) + length, dtype=torch.float64)
    for index in range(segments):
        before, after = overlap * (index > 0), overlap * (index < segments - 1)
        weights = weights_of_whole(length, before, after)
        assert bool(((weights > 0) & (weights <= 1)).all())
        total[index * stride : index * stride + length] += weights
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


@given(st.integers(1, 12), st.integers(0, 12))
def test_weights_rise_and_fall_linearly(length: int, overlap: int) -> None:
    rising, falling = weights_of_whole(length, overlap, 0), weights_of_whole(length, 0, overlap)
    torch.testing.assert_close(rising, falling.flip(0))
    inside = rising[: min(overlap, length)]
    assert bool((inside < 1).all())
    torch.testing.assert_close(inside.diff(), torch.full((max(len(inside) - 1, 0),), 1 / (overlap + 1)).double())


@given(st.integers(1, 8), st.data(), st.integers(1, 5), st.integers(0, 2))
def test_pieces_of_one_tensor_blend_back_into_it(length: int, data: st.DataObject, segments: int, dim: int) -> None:
    overlap = data.draw(st.integers(0, length - 1))
    stride = length - overlap
    shape = [2, 2, 2]
    shape[dim] = stride * (segments - 1) + length
    whole = torch.randn(shape, generator=torch.Generator().manual_seed(length), dtype=torch.float64)
    sums = OverlapAdd(whole, dim)
    for index in range(segments):
        weights = weights_of_whole(length, overlap * (index > 0), overlap * (index < segments - 1))
        sums.add(index * stride, whole.narrow(dim, index * stride, length), weights)
    torch.testing.assert_close(sums.result(), whole, rtol=0, atol=1e-12)


def test_a_single_segment_passes_through_bit_for_bit() -> None:
    whole = torch.randn(1, 2, 5, generator=torch.Generator().manual_seed(0))
    sums = OverlapAdd(whole, 2)
    sums.add(0, whole, weights_of_whole(5, 0, 0))
    assert torch.equal(sums.result(), whole)


def test_an_uncovered_frame_is_an_error() -> None:
    sums = OverlapAdd(torch.zeros(1, 4), 1)
    sums.add(0, torch.ones(1, 3), torch.ones(3).double())
    with pytest.raises(ValueError, match="belong to no segment"):
        sums.result()


@given(st.integers(1, 12), st.data())
@pytest.mark.parametrize("weights_of", [window_weights, triangle_weights])
def test_frames_that_do_not_count_have_no_weight(
    weights_of: Callable[[Fade], torch.Tensor], length: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, length - 1))
    stop = data.draw(st.integers(first + 1, length))
    rise, fall = (data.draw(st.integers(0, stop - first)) for _ in range(2))
    weights = weights_of(Fade(length, first, stop, rise, fall))
    counts = torch.arange(length).ge(first) & torch.arange(length).lt(stop)
    assert torch.equal(weights > 0, counts)
    torch.testing.assert_close(weights[first:stop], weights_of(Fade(stop - first, 0, stop - first, rise, fall)))


@given(st.integers(1, 9), st.data(), st.integers(0, 2))
def test_frames_go_on_at_the_beginning_of_a_loop(total: int, data: st.DataObject, dim: int) -> None:
    start = data.draw(st.integers(0, total - 1))
    length = data.draw(st.integers(1, total))
    shape = [2, 2, 2]
    shape[dim] = total
    whole = torch.randn(shape, generator=torch.Generator().manual_seed(total), dtype=torch.float64)
    piece = take_frames(whole, dim, start, length)
    places = torch.tensor([(start + place) % total for place in range(length)])
    assert torch.equal(piece, whole.index_select(dim, places))
    sums = OverlapAdd(whole, dim)
    sums.add(start, piece, torch.ones(length, dtype=torch.float64))
    sums.add((start + length) % total, take_frames(whole, dim, (start + length) % total, total), torch.ones(total))
    torch.testing.assert_close(sums.result(), whole, rtol=0, atol=1e-12)
