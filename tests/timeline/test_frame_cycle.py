"""Latent frames that come in groups: their pictures, and where windows and beats may begin."""

import json
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.plain_values import from_plain, to_plain
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.fades import fade_of, weights_over_time, window_weights
from kvshare_core.timeline.frame_cycle import FrameCycle
from kvshare_core.timeline.holding import latent_frames_of
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline, TimelineError

CYCLE = FrameCycle((1, 4, 4, 4, 4), rest=2)


def film(script: str, window: int = 7, overlap: int = 2, fps: float = 24, **options: int) -> Timeline:
    return plan_timeline(parse_script(script), window, overlap, fps, 4, frame_cycle=CYCLE, **options)


def test_frames_and_pictures_are_counted_in_groups() -> None:
    expected = [0, 1, 5, 9, 13, 17, 18, 22, 26, 30, 34, 35, 39]
    assert [CYCLE.before(frame) for frame in range(13)] == expected
    for picture in range(39):
        assert expected[CYCLE.frame_of(picture)] <= picture < expected[CYCLE.frame_of(picture) + 1]
    assert [frames for frames in range(14) if CYCLE.fits(frames)] == [2, 7, 12]
    assert (CYCLE.near(9), CYCLE.near(1)) == ([7, 12], [2])


@given(st.floats(0, 400), st.integers(0, 4) | st.none())
def test_the_nearest_number_of_frames_is_the_nearest(pictures: float, place: int | None) -> None:
    numbers = [number for number in range(200) if place is None or number % 5 == place]
    found = CYCLE.nearest(pictures, place)
    assert found in numbers
    best = min(abs(CYCLE.before(number) - pictures) for number in numbers)
    assert abs(CYCLE.before(found) - pictures) <= best + 1e-4


@given(
    st.lists(st.sampled_from(["", "[2s] ", "[0.7s] ", "[40f] ", "[9l] "]), min_size=1, max_size=4),
    st.sampled_from([7, 12, 37]),
    st.integers(0, 7),
    st.integers(0, 2),
    st.integers(0, 2),
)
def test_every_window_begins_with_a_group_and_is_as_long_as_a_video_may_be(
    durations: list[str], window: int, overlap: int, transitions: int, longer: int
) -> None:
    if window - overlap < 5:
        overlap = 2
    timeline = film(
        "\n".join(f"{duration}fox runs" for duration in durations),
        window,
        overlap,
        num_transition_blocks=transitions,
        longer_mid_segment=longer,
    )
    assert CYCLE.fits(timeline.latent_frames)
    assert timeline.frames == CYCLE.before(timeline.latent_frames) and timeline.frames % 17 == 5
    for segment in timeline.segments:
        assert segment.start % 5 == 0 and CYCLE.fits(segment.length)
        assert segment.start <= segment.shown_start < segment.shown_stop <= segment.stop <= timeline.latent_frames
    parts = weights_over_time(timeline, [window_weights(fade_of(segment)) for segment in timeline.segments])
    assert ((parts.sum(0) - 1).abs() < 1e-9).all()
    for earlier, later in pairwise(timeline.segments):
        if earlier.beat == later.beat and earlier.next_beat is None and later.next_beat is None:
            assert earlier.stop - later.start >= min(overlap, window - 5)


def test_beats_begin_with_a_group_at_cuts_and_where_they_fade_in() -> None:
    cuts = film("fox runs\nfox runs\nfox runs", overlap=0)
    assert [beat.start for beat in cuts.beats] == [0, 5, 10] and cuts.latent_frames == 17
    assert [(segment.start, segment.shown_start, segment.shown_stop) for segment in cuts.segments] == [
        (0, 0, 5),
        (5, 5, 10),
        (10, 10, 17),
    ]
    fades = film("fox runs\nfox runs\nfox runs")
    assert [(segment.start, segment.shown_start, segment.shown_stop) for segment in fades.segments] == [
        (0, 0, 7),
        (5, 5, 12),
        (10, 10, 17),
    ]


def test_durations_become_the_nearest_number_of_groups_and_do_not_drift() -> None:
    timeline = film("\n".join(["[1s] fox runs"] * 8))
    for number, beat in enumerate(timeline.beats, start=1):
        assert abs(timeline.picture_range(0, beat.stop)[1] - 24 * number) <= 17 / 2
    assert "asked for 1 seconds" in timeline.describe()


def test_a_saved_timeline_keeps_its_groups() -> None:
    timeline = film("[2s] fox runs\nfox sleeps")
    timeline.picture_range(0, 7)
    tensors: dict[str, torch.Tensor] = {}
    saved = json.loads(json.dumps(to_plain(timeline, tensors)))
    assert from_plain(Timeline, saved, tensors) == timeline
    # Files of before there were such models.
    del saved["frame_cycle"]
    assert from_plain(Timeline, saved, tensors).frame_cycle is None


def test_held_pictures_are_whole_groups() -> None:
    timeline = film("[4s] fox runs")
    assert (latent_frames_of(timeline, "start", 1, 22), latent_frames_of(timeline, "end", 1, 22)) == (7, 7)
    with pytest.raises(ValueError, match="images: there are 24"):
        latent_frames_of(timeline, "start", 1, 24)


@pytest.mark.parametrize(
    ("script", "window", "overlap", "message"),
    [
        ("fox", 8, 2, "^sampling_num_frames: 8 latent frames; videos of this model have 7 or 12"),
        ("fox", 7, 3, "^overlap_size: 3 latent frames; segments of 7 begin 5 or more after each other"),
        ("loop: yes\nfox", 7, 2, "^loop: this model encodes its video in groups of 5 latent frames"),
    ],
)
def test_what_cannot_be_in_groups_is_refused(script: str, window: int, overlap: int, message: str) -> None:
    with pytest.raises(TimelineError, match=message):
        film(script, window, overlap)
