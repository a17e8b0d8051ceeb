"""Recorded masks on a token grid of another size."""

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.record.record import Examples, RecordedMasks, SegmentMasks
from kvshare_core.record.resampling import masks_in_size
from tests.support.windows import tiny_timeline

FRAMES, HEIGHT, WIDTH = 3, 3, 4


def recorded(seed: int = 0) -> RecordedMasks:
    """Masks of two segments, one of which has none, on a grid of 3 x 3 x 4."""
    timeline, generator = tiny_timeline(2), torch.Generator().manual_seed(seed)
    numbers = torch.rand(2, 2, 1, FRAMES * HEIGHT * WIDTH, generator=generator)
    whole = torch.zeros(1, timeline.latent_frames, HEIGHT, WIDTH)
    segments = SegmentMasks(
        ("fox", "dog"),
        (numbers[0] > 0.5, None),
        (Examples(numbers[0] > 0.9, numbers[0] < 0.1), None),
        (None, numbers[1]),
    )
    return RecordedMasks(timeline, whole, whole, segments=segments)


def repeated(values: torch.Tensor, times: int) -> torch.Tensor:
    grid = values.unflatten(-1, (FRAMES, HEIGHT, WIDTH))
    return grid.repeat_interleave(times, -1).repeat_interleave(times, -2).flatten(-3)


def test_masks_in_their_own_size_are_the_recorded_ones() -> None:
    known = recorded()
    assert masks_in_size(known, (HEIGHT, WIDTH)) is known.segments
    assert masks_in_size(replace(known, segments=None), (6, 8)) is None


@given(st.integers(2, 4), st.integers(0, 99))
def test_every_token_becomes_as_many_as_the_video_grew_by(times: int, seed: int) -> None:
    known = recorded(seed)
    found = masks_in_size(known, (times * HEIGHT, times * WIDTH))
    assert found is not None and known.segments is not None
    assert found.names == known.segments.names
    (mask, none), (examples, no_examples), (no_effects, effects) = found.masks, found.examples, found.effects
    assert none is None and no_examples is None and no_effects is None
    assert mask is not None and examples is not None and effects is not None
    expected = known.segments.examples[0]
    assert expected is not None
    assert mask.dtype == torch.bool and torch.equal(mask, repeated(known.segments.masks[0], times))
    assert torch.equal(examples.subject, repeated(expected.subject, times))
    assert torch.equal(examples.rest, repeated(expected.rest, times))
    torch.testing.assert_close(effects, repeated(known.segments.effects[1], times))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_in_any_size_a_token_is_what_half_of_its_part_of_the_picture_is(height: int, width: int, seed: int) -> None:
    """Judged token by token: a token covers the recorded ones that its edges touch."""
    known = recorded(seed)
    found = masks_in_size(known, (height, width))
    assert found is not None and known.segments is not None
    mask, before = found.masks[0], known.segments.masks[0]
    assert mask is not None and before is not None
    grid = before.double().unflatten(-1, (FRAMES, HEIGHT, WIDTH))
    new = mask.unflatten(-1, (FRAMES, height, width))
    for row in range(height):
        for column in range(width):
            rows = slice(row * HEIGHT // height, -(-(row + 1) * HEIGHT // height))
            columns = slice(column * WIDTH // width, -(-(column + 1) * WIDTH // width))
            part = grid[..., rows, columns].mean((-2, -1))
            clear = (part - 0.5).abs() > 1e-6
            assert torch.equal(new[..., row, column][clear], (part >= 0.5)[clear])


def test_examples_do_not_vanish_in_a_smaller_size() -> None:
    known = recorded()
    one = torch.zeros(1, 1, FRAMES * HEIGHT * WIDTH, dtype=torch.bool)
    none = one.clone()
    one[..., 0] = True
    segments = SegmentMasks(("fox",), (one, None), (Examples(one, none), None))
    found = masks_in_size(replace(known, segments=segments), (1, 2))
    assert found is not None and found.examples[0] is not None and found.masks[0] is not None
    assert found.examples[0].subject.flatten().tolist() == [True] + [False] * 5
    assert not found.examples[0].rest.any()
    assert not found.masks[0].any()
