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
    return lines, plan_timeline(lines, window, overlap, fps, draw(st.sampled_from([1, 4, 8])))


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
    owners = [segment.beat for segment in timeline.segments]
    assert owners == [number for number, beat in enumerate(timeline.beats) for _ in range(beat.segments)]
    assert set(owners) == set(range(len(timeline.beats)))


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
            assert beat.segments == 1
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
def test_description_tells_every_beat_its_pictures(planned: tuple[tuple[PromptLine, ...], Timeline]) -> None:
    _, timeline = planned
    *beats, total = timeline.describe().splitlines()
    spans: list[tuple[int, int]] = []
    for text, beat in zip(beats, timeline.beats, strict=True):
        match = re.match(r"([\d.]+)-([\d.]+) s, frames (\d+)-(\d+), (\d+) segments?: (.*)", text)
        assert match is not None
        first, last = int(match[3]), int(match[4])
        assert float(match[1]) == pytest.approx(first / timeline.fps, abs=0.006)
        assert float(match[2]) == pytest.approx((last + 1) / timeline.fps, abs=0.006)
        assert (int(match[5]), match[6]) == (beat.segments, beat.prompt)
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
