"""Prompts and durations become segments that cover the video, and the user is told what became of them."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.timeline import PromptLine, Timeline, TimelineError, parse_prompts, plan_timeline

LINES = st.lists(
    st.one_of(
        st.just(PromptLine("p")),
        st.builds(lambda seconds: PromptLine("p", seconds=seconds), st.floats(0.01, 30)),
        st.builds(lambda frames: PromptLine("p", frames=frames), st.integers(1, 400)),
    ),
    min_size=1,
    max_size=5,
).map(tuple)


@st.composite
def plans(draw: st.DrawFn) -> tuple[tuple[PromptLine, ...], Timeline]:
    """Lines, and the timeline that they become with some window, overlap, speed and compression."""
    lines = draw(LINES)
    window = draw(st.integers(1, 25))
    overlap = draw(st.integers(0, window - 1))
    fps = draw(st.sampled_from([8.0, 16.0, 23.976]))
    compression = draw(st.sampled_from([1, 4, 8]))
    extra = draw(st.integers(0, 4)), draw(st.integers(0, 3))
    return lines, plan_timeline(lines, window, overlap, fps, compression, *extra)


@given(plans())
def test_segments_cover_the_video_in_order_with_the_planned_overlap(
    planned: tuple[tuple[PromptLine, ...], Timeline],
) -> None:
    _, timeline = planned
    assert timeline.segments[0].start == 0
    assert {segment.length for segment in timeline.segments} == {timeline.window}
    for before, after in zip(timeline.segments, timeline.segments[1:], strict=False):
        assert before.stop - after.start == timeline.overlap
    assert [segment.index for segment in timeline.segments] == list(range(len(timeline.segments)))
    owners = [segment.beat for segment in timeline.segments if segment.next_beat is None]
    assert owners == [number for number, beat in enumerate(timeline.beats) for _ in range(beat.segments)]
    assert set(owners) == set(range(len(timeline.beats)))


@given(plans())
def test_the_shown_text_moves_evenly_from_beat_to_beat(planned: tuple[tuple[PromptLine, ...], Timeline]) -> None:
    _, timeline = planned
    story = [segment.beat + segment.mix for segment in timeline.segments]
    assert story == sorted(story)
    for segment in timeline.segments:
        assert (segment.next_beat is None) == (segment.mix == 0)
        assert segment.next_beat in (None, segment.beat + 1)
        assert 0 <= segment.mix < 1
    ways = [[s.mix for s in timeline.segments if s.next_beat == later] for later in range(1, len(timeline.beats))]
    for way in ways:
        assert way == ways[0]
        steps = [after - before for before, after in itertools.pairwise([0.0, *way, 1.0])]
        assert steps == pytest.approx([1 / (len(way) + 1)] * (len(way) + 1))


@given(plans(), st.integers(0, 4))
def test_transitions_add_their_segments_and_change_no_beat(
    planned: tuple[tuple[PromptLine, ...], Timeline], transitions: int
) -> None:
    lines, _ = planned
    plain = plan_timeline(lines, 5, 2, 16, 4)
    timeline = plan_timeline(lines, 5, 2, 16, 4, transitions)
    assert timeline.beats == plain.beats
    assert len(timeline.segments) == len(plain.segments) + transitions * (len(lines) - 1)


@pytest.mark.parametrize("beats", range(2, 7))
@pytest.mark.parametrize("longer_mid", [0, 1, 3])
@pytest.mark.parametrize(
    ("overlap", "transitions", "frames_per_beat", "frames_less"), [(9, 2, 48, -1), (6, 1, 56, 7)], ids=["9,2", "6,1"]
)
def test_lengths_are_those_of_the_papers_code(
    beats: int, longer_mid: int, overlap: int, transitions: int, frames_per_beat: int, frames_less: int
) -> None:
    lines = parse_prompts("p\n" * beats)
    timeline = plan_timeline(lines, 13, overlap, 16, 4, transitions, longer_mid)
    segments = beats + transitions * (beats - 1) + longer_mid * (beats - 2)
    assert len(timeline.segments) == segments
    assert timeline.latent_frames == 13 + (segments - 1) * (13 - overlap)
    if longer_mid == 0:
        assert timeline.frames == frames_per_beat * beats - frames_less


@pytest.mark.parametrize(
    ("overlap", "transitions", "longer_mid", "beats", "found"),
    [
        (9, 2, 0, 2, (4, 25, 97)),
        (9, 2, 0, 3, (7, 37, 145)),
        (9, 2, 0, 4, (10, 49, 193)),
        (9, 2, 0, 5, (13, 61, 241)),
        (9, 2, 0, 6, (16, 73, 289)),
        (6, 1, 0, 2, (3, 27, 105)),
        (6, 1, 0, 3, (5, 41, 161)),
        (6, 1, 0, 4, (7, 55, 217)),
        (6, 1, 0, 5, (9, 69, 273)),
        (6, 1, 0, 6, (11, 83, 329)),
        (6, 1, 1, 3, (6, 48, 189)),
        (6, 1, 9, 2, (3, 27, 105)),
    ],
)
def test_segments_latent_frames_and_pictures_of_known_plans(
    overlap: int, transitions: int, longer_mid: int, beats: int, found: tuple[int, int, int]
) -> None:
    timeline = plan_timeline(parse_prompts("p\n" * beats), 13, overlap, 16, 4, transitions, longer_mid)
    assert (len(timeline.segments), timeline.latent_frames, timeline.frames) == found


@given(plans(), st.integers(0, 5))
def test_only_middle_beats_without_a_duration_grow_longer(
    planned: tuple[tuple[PromptLine, ...], Timeline], longer_mid: int
) -> None:
    lines, _ = planned
    plain = plan_timeline(lines, 5, 2, 16, 4)
    longer = plan_timeline(lines, 5, 2, 16, 4, longer_mid_segment=longer_mid)
    for number, (line, before, after) in enumerate(zip(lines, plain.beats, longer.beats, strict=True)):
        grows = line == PromptLine("p") and 0 < number < len(lines) - 1
        assert after.segments - before.segments == (longer_mid if grows else 0)


@given(plans())
def test_picture_ranges_of_latent_frames_partition_the_pictures(
    planned: tuple[tuple[PromptLine, ...], Timeline],
) -> None:
    _, timeline = planned
    pictures = [
        picture
        for frame in range(timeline.latent_frames)
        for picture in range(*timeline.picture_range(frame, frame + 1))
    ]
    assert pictures == list(range(timeline.frames))
    assert timeline.frames == timeline.temporal_compression * (timeline.latent_frames - 1) + 1


@given(plans())
def test_a_duration_takes_the_number_of_segments_that_comes_closest(
    planned: tuple[tuple[PromptLine, ...], Timeline],
) -> None:
    lines, timeline = planned
    for number, (line, beat) in enumerate(zip(lines, timeline.beats, strict=True)):
        if line.seconds is None and line.frames is None:
            assert beat.segments == 1 or 0 < number < len(lines) - 1
            continue
        wanted = line.frames if line.frames is not None else (line.seconds or 0) * timeline.fps

        def error(segments: int, first: bool = number == 0, wanted: float = wanted) -> float:
            latent_frames = segments * (timeline.window - timeline.overlap)
            if first:
                latent_frames += timeline.overlap
            pictures = timeline.temporal_compression * latent_frames
            return abs(pictures - (timeline.temporal_compression - 1 if first else 0) - wanted)

        assert all(error(beat.segments) <= error(other) + 1e-9 for other in range(1, beat.segments + 20))


@given(plans())
def test_description_tells_every_beat_and_transition_its_pictures(
    planned: tuple[tuple[PromptLine, ...], Timeline],
) -> None:
    _, timeline = planned
    *told, total = timeline.describe().splitlines()
    transitions = sum(segment.next_beat == 1 for segment in timeline.segments)
    expected: list[tuple[int, str]] = []
    for number, beat in enumerate(timeline.beats):
        if number > 0 and transitions > 0:
            expected.append((transitions, f"transition from prompt {number} to prompt {number + 1}"))
        expected.append((beat.segments, beat.prompt))
    spans: list[tuple[int, int]] = []
    for text, (segments, shown) in zip(told, expected, strict=True):
        match = re.match(r"([\d.]+)-([\d.]+) s, frames (\d+)-(\d+), (\d+) segments?: (.*)", text)
        assert match is not None
        first, last = int(match[3]), int(match[4])
        assert float(match[1]) == pytest.approx(first / timeline.fps, abs=0.006)
        assert float(match[2]) == pytest.approx((last + 1) / timeline.fps, abs=0.006)
        assert (int(match[5]), match[6]) == (segments, shown)
        spans.append((first, last))
    assert spans[0][0] == 0
    assert all(after[0] == before[1] + 1 for before, after in itertools.pairwise(spans))
    assert spans[-1][1] == timeline.frames - 1
    assert total.startswith(f"{timeline.frames} frames")


def test_prompts_are_read_with_and_without_durations() -> None:
    text = "a fox\n\n  [3s] a fox runs \n[ 2.5 seconds ]a fox sleeps\n[24f] a fox [sits]\n[1 frame] a fox"
    assert parse_prompts(text) == (
        PromptLine("a fox"),
        PromptLine("a fox runs", seconds=3.0),
        PromptLine("a fox sleeps", seconds=2.5),
        PromptLine("a fox [sits]", frames=24),
        PromptLine("a fox", frames=1),
    )


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ("[3 m] a fox", "not with a duration"),
        ("[3s a fox", "not with a duration"),
        ("[-3s] a fox", "not with a duration"),
        ("[0s] a fox", "longer than zero"),
        ("[0f] a fox", "longer than zero"),
        ("[2.5f] a fox", "whole numbers"),
        ("[3s]", "without a prompt"),
    ],
)
@given(st.integers(0, 4), st.integers(0, 3))
def test_a_broken_line_is_named_by_its_number(broken: str, complaint: str, before: int, empty: int) -> None:
    with pytest.raises(TimelineError, match=rf"prompts, line {before + empty + 1}: .*{complaint}"):
        parse_prompts("\n".join(["a fox"] * before + [""] * empty + [broken, "a fox"]))


@pytest.mark.parametrize("text", ["", "  \n \n"])
def test_no_prompt_is_an_error(text: str) -> None:
    with pytest.raises(TimelineError, match="there is no prompt"):
        parse_prompts(text)


@pytest.mark.parametrize(
    ("window", "overlap", "fps", "named"),
    [(0, 0, 8, "sampling_num_frames"), (4, 4, 8, "overlap_size"), (4, -1, 8, "overlap_size"), (4, 1, 0, "fps")],
)
def test_impossible_plans_name_their_input(window: int, overlap: int, fps: float, named: str) -> None:
    with pytest.raises(TimelineError, match=rf"^{named}: "):
        plan_timeline(parse_prompts("a fox"), window, overlap, fps, 4)


@pytest.mark.parametrize("name", ["num_transition_blocks", "longer_mid_segment"])
def test_negative_numbers_of_segments_name_their_input(name: str) -> None:
    with pytest.raises(TimelineError, match=rf"^{name}: -1 segments; it must be at least 0"):
        plan_timeline(parse_prompts("a fox"), 4, 1, 8, 4, **{name: -1})
