"""Overlapping segments blend into one latent without gaps or visible seams."""

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest
import torch
from comfy.context_windows import create_weights_pyramid
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kvshare_core.config import KVShareConfig, Order
from kvshare_core.timeline.fades import (
    WEIGHTS,
    Fade,
    OverlapAdd,
    fade_of,
    hann_weights,
    pyramid_weights,
    take_frames,
    weights_over_time,
    window_weights,
)
from kvshare_core.timeline.timeline import BlendWeights, Timeline
from tests.support.family_cases import CASES, model_of
from tests.support.family_contracts import sample
from tests.support.timelines import timelines
from tests.support.windows import share, tiny_timeline

KINDS = pytest.mark.parametrize("weights_of", WEIGHTS.values(), ids=WEIGHTS.keys())


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


def test_the_blended_tensor_takes_the_memory_of_the_sums() -> None:
    sums = OverlapAdd(torch.zeros(1, 2, 5), 2)
    sums.add(0, torch.ones(1, 2, 5), torch.full((5,), 2.0, dtype=torch.float64))
    memory = sums.total.data_ptr()
    blended = sums.result()
    assert torch.equal(blended, torch.ones(1, 2, 5))
    assert blended.data_ptr() == memory


def test_an_uncovered_frame_is_an_error() -> None:
    sums = OverlapAdd(torch.zeros(1, 4), 1)
    sums.add(0, torch.ones(1, 3), torch.ones(3).double())
    with pytest.raises(ValueError, match="belong to no segment"):
        sums.result()


@given(st.integers(1, 3), st.integers(0, 3))
def test_frames_of_no_segment_are_what_they_are_elsewhere(covered: int, start: int) -> None:
    generator = torch.Generator().manual_seed(covered)
    piece, elsewhere = torch.randn(2, covered, 3, generator=generator), torch.randn(2, 6, 3, generator=generator)
    sums = OverlapAdd(elsewhere, 1)
    sums.add(start, piece, torch.full((covered,), 0.5, dtype=torch.float64))
    expected = elsewhere.clone()
    expected[:, start : start + covered] = piece
    torch.testing.assert_close(sums.result(elsewhere), expected)


def test_segments_are_added_and_divided_on_the_device_of_the_latent() -> None:
    """A device that has no numbers refuses to be mixed with the CPU, as a GPU does."""
    latent = torch.empty(1, 2, 5, device="meta", dtype=torch.float16)
    sums = OverlapAdd(latent, 2)
    sums.add(0, latent[..., :3], weights_of_whole(3, 0, 1))
    assert sums.result(latent).device == latent.device
    sums = OverlapAdd(latent, 2)
    sums.add(0, latent[..., :3], weights_of_whole(3, 0, 1))
    sums.add(2, latent[..., 2:], weights_of_whole(3, 1, 0))
    assert (sums.result().device, sums.result().dtype) == (latent.device, latent.dtype)


@given(st.integers(1, 9), st.data())
def test_frames_that_do_not_run_over_the_end_are_a_view(total: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, total - 1))
    whole = torch.zeros(2, total)
    piece = take_frames(whole, 1, start, data.draw(st.integers(1, total - start)))
    assert piece.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()


@given(st.integers(1, 12), st.data())
@KINDS
def test_frames_that_do_not_count_have_no_weight(
    weights_of: Callable[[Fade], torch.Tensor], length: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, length - 1))
    stop = data.draw(st.integers(first + 1, length))
    rise, fall = (data.draw(st.integers(0, stop - first)) for _ in range(2))
    weights = weights_of(Fade(length, first, stop, rise, fall))
    counts = torch.arange(length).ge(first) & torch.arange(length).lt(stop)
    assert torch.equal(weights > 0, counts)
    alone = weights_of(Fade(stop - first, 0, stop - first, rise, fall))
    torch.testing.assert_close(weights[first:stop] / weights.max(), alone / alone.max())


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


# Weights of every kind.


@st.composite
def fades(draw: st.DrawFn) -> Fade:
    length = draw(st.integers(1, 12))
    first = draw(st.integers(0, length - 1))
    stop = draw(st.integers(first + 1, length))
    return Fade(length, first, stop, *(draw(st.integers(0, stop - first)) for _ in range(2)))


def shown_at_once(timeline: Timeline) -> int:
    """The most segments that count in one frame."""
    shown = [weights > 0 for weights in over_time(timeline, window_weights)]
    return int(torch.stack(shown).sum(0).max())


def over_time(timeline: Timeline, weights_of: Callable[[Fade], torch.Tensor]) -> torch.Tensor:
    return weights_over_time(timeline, [weights_of(fade_of(segment)) for segment in timeline.segments])


@settings(max_examples=30)
@given(timelines())
@KINDS
def test_parts_of_segments_sum_to_one_and_lie_where_they_are_shown(
    weights_of: Callable[[Fade], torch.Tensor], timeline: Timeline
) -> None:
    parts = over_time(timeline, weights_of)
    torch.testing.assert_close(parts.sum(0), torch.ones(timeline.latent_frames).double(), rtol=0, atol=1e-12)
    for segment, own in zip(timeline.segments, parts, strict=True):
        shown = torch.zeros(timeline.latent_frames, dtype=torch.bool)
        shown[[frame % timeline.latent_frames for frame in range(segment.shown_start, segment.shown_stop)]] = True
        assert torch.equal(own > 0, shown)


@given(fades())
@KINDS
def test_a_fade_run_backwards_has_its_weights_backwards(weights_of: Callable[[Fade], torch.Tensor], fade: Fade) -> None:
    backwards = Fade(fade.length, fade.length - fade.stop, fade.length - fade.first, fade.fall, fade.rise)
    torch.testing.assert_close(weights_of(backwards), weights_of(fade).flip(0), rtol=0, atol=1e-12)


@settings(max_examples=30)
@given(timelines())
@pytest.mark.parametrize(("kind", "steepest"), [("linear", 1.0), ("hann", torch.pi / 2)])
def test_parts_change_over_time_no_faster_than_their_fades(
    kind: BlendWeights, steepest: float, timeline: Timeline
) -> None:
    """Half a sine wave is steepest in its middle."""
    assume(shown_at_once(timeline) <= 2)
    parts = over_time(timeline, WEIGHTS[kind])
    for segment, own in zip(timeline.segments, parts, strict=True):
        shown = own.roll(-segment.shown_start)[: segment.shown_stop - segment.shown_start]
        nothing = torch.zeros(1, dtype=torch.float64)
        # A cut is allowed to jump.
        edges = [nothing] * (segment.rise > 0), [nothing] * (segment.fall > 0)
        change = torch.cat([*edges[0], shown, *edges[1]]).diff().abs()
        shortest = min((fade for fade in (segment.rise, segment.fall) if fade), default=0)
        assert bool((change <= steepest / (shortest + 1) + 1e-12).all())


@given(fades())
def test_hann_starts_later_and_ends_earlier_than_linear(fade: Fade) -> None:
    linear, hann = window_weights(fade), hann_weights(fade)
    assert bool(torch.where(linear < 0.5, hann <= linear, hann >= linear - 1e-12).all())
    torch.testing.assert_close(hann[linear == 0.5], linear[linear == 0.5])


@given(st.integers(1, 40))
def test_pyramid_weights_are_the_hosts(length: int) -> None:
    hosts = torch.tensor(create_weights_pyramid(length)).double()
    torch.testing.assert_close(pyramid_weights(Fade(length, 0, length, 3, 2)), hosts / hosts.max())


@given(st.integers(2, 20), st.data())
def test_a_pyramid_is_a_linear_fade_where_at_most_half_a_window_is_shared(length: int, data: st.DataObject) -> None:
    shared = data.draw(st.integers(0, length // 2))
    rising, falling = (
        pyramid_weights(Fade(length, 0, length, shared, 0)),
        pyramid_weights(Fade(length, 0, length, 0, 0)),
    )
    falling = falling[length - shared :]
    expected = window_weights(Fade(length, 0, length, shared, 0))[:shared]
    torch.testing.assert_close(rising[:shared] / (rising[:shared] + falling), expected)


@pytest.mark.parametrize("kind", get_args(BlendWeights))
def test_the_timelines_weights_blend_its_segments_and_nothing_else(kind: BlendWeights) -> None:
    """After one step, frames of one segment alone are the same and shared ones lie between both segments'."""
    case, timeline = CASES["wan t2v"], tiny_timeline(2, window=5, overlap=3)
    model, off = model_of(case.name), KVShareConfig(mode="off")
    plain = sample(case, share(model, timeline, off)[0], timeline, steps=1)
    found = sample(case, share(model, replace(timeline, blend_weights=kind), off)[0], timeline, steps=1)
    torch.testing.assert_close(found[:, :, [0, 1, 5, 6]], plain[:, :, [0, 1, 5, 6]])
    assert torch.equal(found, plain) == (kind == "linear")
    linear, chosen = (over_time(timeline, weights_of)[1, 2:5] for weights_of in (window_weights, WEIGHTS[kind]))
    changed = (found - plain)[:, :, 2:5].abs().amax((0, 1, 3, 4)) > 1e-4
    assert torch.equal(changed, (chosen - linear).abs() > 1e-9)


@pytest.mark.parametrize(("order", "kind"), [("lockstep", "linear"), ("ditctrl", "triangle")])
def test_the_papers_order_keeps_its_triangle(order: Order, kind: BlendWeights) -> None:
    case, timeline = CASES["wan t2v"], tiny_timeline(3, window=5, overlap=3)
    found, expected = (
        sample(case, share(model_of(case.name), plan, KVShareConfig(mode="off", order=order))[0], plan, steps=1)
        for plan in (replace(timeline, blend_weights="hann"), replace(timeline, blend_weights=kind))
    )
    assert torch.equal(found, expected) == (order == "ditctrl")
