"""Beats become segments that cover the video, and the description reports how."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kvshare_core.script.film import Duration, Script, ScriptBeat, Transition
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.fades import fade_of, triangle_weights, window_weights
from kvshare_core.timeline.planning import overridden_inputs, plan_timeline
from kvshare_core.timeline.timeline import Segment, Timeline, TimelineError
from tests.support.timelines import PICTURES, PLAIN_SCRIPTS, SECONDS, timelines


def frames_shown(timeline: Timeline, segment: Segment) -> list[int]:
    """The frames of the video that a segment's weight is not zero in."""
    return [frame % timeline.latent_frames for frame in range(segment.shown_start, segment.shown_stop)]


def total_weights(timeline: Timeline, of: Sequence[torch.Tensor]) -> torch.Tensor:
    """Sum of the segments' weights in every frame of the video."""
    total = torch.zeros(timeline.latent_frames, dtype=torch.float64)
    for segment, weights in zip(timeline.segments, of, strict=True):
        total.index_add_(0, torch.tensor(timeline.frames_of(segment)), weights)
    return total


@given(timelines())
def test_all_segments_have_one_length_and_lie_in_the_video(timeline: Timeline) -> None:
    total = timeline.latent_frames
    assert {segment.length for segment in timeline.segments} == {timeline.window}
    assert timeline.window == min(timeline.native_window, total)
    for segment in timeline.segments:
        assert 0 <= segment.start < total
        assert timeline.script.loop or segment.stop <= total
        assert segment.start <= segment.shown_start < segment.shown_stop <= segment.stop
    assert [segment.index for segment in timeline.segments] == list(range(len(timeline.segments)))


@given(timelines())
@settings(max_examples=700)
def test_beats_follow_each_other_without_a_gap_and_every_frame_is_shown(timeline: Timeline) -> None:
    assert timeline.beats[0].start == 0
    between = {number: 0 for number in range(len(timeline.beats))}
    for segment in timeline.segments:
        if segment.next_beat is not None:
            between[segment.next_beat] += segment.shown_stop - segment.shown_start - segment.rise
    for number, (before, after) in enumerate(itertools.pairwise(timeline.beats), start=1):
        assert before.start < before.stop == after.start - between[number]
    shown = {frame for segment in timeline.segments for frame in frames_shown(timeline, segment)}
    assert shown == set(range(timeline.latent_frames))
    for number, beat in enumerate(timeline.beats):
        own = [segment for segment in timeline.segments if (segment.beat, segment.next_beat) == (number, None)]
        covered = {frame for segment in own for frame in frames_shown(timeline, segment)}
        assert covered >= set(range(beat.start, beat.stop))


@given(timelines())
@settings(max_examples=700)
def test_weights_are_positive_where_a_segment_is_shown_and_add_up_everywhere(timeline: Timeline) -> None:
    for weights_of in (window_weights, triangle_weights):
        weights = [weights_of(fade_of(segment)) for segment in timeline.segments]
        for segment, own in zip(timeline.segments, weights, strict=True):
            places = torch.arange(segment.start, segment.stop)
            assert torch.equal(own > 0, (places >= segment.shown_start) & (places < segment.shown_stop))
        assert bool((total_weights(timeline, weights) > 0).all())


@given(timelines())
def test_linear_weights_sum_to_one_wherever_at_most_two_segments_are_shown(timeline: Timeline) -> None:
    weights = [window_weights(fade_of(segment)) for segment in timeline.segments]
    total = total_weights(timeline, weights)
    count = torch.zeros(timeline.latent_frames)
    for segment in timeline.segments:
        count.index_add_(0, torch.tensor(frames_shown(timeline, segment)), torch.ones(len(range(*segment.shown or ()))))
    torch.testing.assert_close(total[count <= 2], torch.ones_like(total[count <= 2]), rtol=0, atol=1e-12)


@given(timelines())
@settings(max_examples=700)
def test_what_neighbours_share_is_what_they_fade_over(timeline: Timeline) -> None:
    total = timeline.latent_frames
    pairs = list(itertools.pairwise(timeline.segments))
    if timeline.script.loop:
        pairs.append((timeline.segments[-1], timeline.segments[0]))
    for before, after in pairs:
        assert before.fall == after.rise
        assert (after.shown_start + after.rise - before.shown_stop) % total == 0
    if not timeline.script.loop:
        assert timeline.segments[0].rise == timeline.segments[-1].fall == 0


@given(timelines())
def test_a_beat_takes_no_more_segments_than_it_needs(timeline: Timeline) -> None:
    overlap = min(timeline.overlap, timeline.window - 1)
    for number, _ in enumerate(timeline.beats):
        own = [segment for segment in timeline.segments if (segment.beat, segment.next_beat) == (number, None)]
        length = sum(segment.shown_stop - segment.shown_start for segment in own) - sum(s.fall for s in own[:-1])
        needed = 1 if length <= timeline.window else -(-(length - overlap) // (timeline.window - overlap))
        assert len(own) == needed


@given(timelines(PLAIN_SCRIPTS), st.integers(0, 4))
def test_beats_without_durations_take_a_segment_each_and_transitions_come_on_top(
    timeline: Timeline, transitions: int
) -> None:
    window, overlap = timeline.window, timeline.overlap
    plain = plan_timeline(timeline.script, window, overlap, 16, 4)
    beats = len(timeline.beats)
    assert [(s.beat, s.start, s.shown) for s in plain.segments] == [
        (number, number * (window - overlap), (number * (window - overlap), number * (window - overlap) + window))
        for number in range(beats)
    ]
    longer = plan_timeline(timeline.script, window, overlap, 16, 4, transitions)
    assert len(longer.segments) == len(plain.segments) + transitions * (beats - 1)
    assert [segment.start for segment in longer.segments] == [
        place * (window - overlap) for place in range(len(longer.segments))
    ]


@given(timelines())
def test_the_shown_text_moves_evenly_from_beat_to_beat(timeline: Timeline) -> None:
    story = [segment.beat + segment.mix for segment in timeline.segments]
    assert story == sorted(story)
    for segment in timeline.segments:
        assert (segment.next_beat is None) == (segment.mix == 0)
        assert segment.next_beat in (None, segment.beat + 1)
        assert 0 <= segment.mix < 1
    for later in range(1, len(timeline.beats)):
        way = [segment.mix for segment in timeline.segments if segment.next_beat == later]
        steps = [after - before for before, after in itertools.pairwise([0.0, *way, 1.0])]
        assert steps == pytest.approx([1 / (len(way) + 1)] * (len(way) + 1))


@pytest.mark.parametrize("beats", range(2, 7))
@pytest.mark.parametrize("longer_mid", [0, 1, 3])
@pytest.mark.parametrize(
    ("overlap", "transitions", "frames_per_beat", "frames_less"), [(9, 2, 48, -1), (6, 1, 56, 7)], ids=["9,2", "6,1"]
)
def test_lengths_are_those_of_the_papers_code(
    beats: int, longer_mid: int, overlap: int, transitions: int, frames_per_beat: int, frames_less: int
) -> None:
    lines = parse_script("p\n" * beats)
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
    timeline = plan_timeline(parse_script("p\n" * beats), 13, overlap, 16, 4, transitions, longer_mid)
    assert (len(timeline.segments), timeline.latent_frames, timeline.frames) == found


def one_beat(frames: int, window: int, overlap: int, loop: bool = False) -> Timeline:
    """A timeline of one prompt that lasts `frames` latent frames."""
    beats = (ScriptBeat("p", Duration(frames, "latent frames")),)
    return plan_timeline(Script(beats, loop=loop), window, overlap, 16, 4)


@pytest.mark.parametrize(
    ("frames", "window", "overlap", "shown", "fades"),
    [
        # Two windows fade over all that they share, however little overlap was asked for.
        (12, 10, 2, [(0, 10), (2, 12)], [8]),
        (12, 10, 8, [(0, 10), (2, 12)], [8]),
        (18, 10, 2, [(0, 10), (8, 18)], [2]),
        # Three fade over the overlap that was asked for, in the middle of what two of them share.
        (15, 10, 6, [(0, 9), (3, 11), (5, 15)], [6, 6]),
        (16, 10, 6, [(0, 9), (3, 12), (6, 16)], [6, 6]),
    ],
)
def test_windows_of_one_beat_fade_into_each_other(
    frames: int, window: int, overlap: int, shown: list[tuple[int, int]], fades: list[int]
) -> None:
    segments = one_beat(frames, window, overlap).segments
    assert [(segment.shown_start, segment.shown_stop) for segment in segments] == shown
    assert [segment.rise for segment in segments] == [0, *fades]
    assert [segment.fall for segment in segments] == [*fades, 0]


@given(timelines())
def test_a_fade_within_a_beat_lies_in_the_middle_of_what_both_windows_have(timeline: Timeline) -> None:
    for earlier, later in itertools.pairwise(timeline.segments):
        same_text = (earlier.beat, earlier.next_beat, earlier.mix) == (later.beat, later.next_beat, later.mix)
        if same_text and earlier.start < later.start:
            before = later.shown_start - later.start
            after = earlier.stop - (later.shown_start + later.rise)
            assert after - before in (0, 1)


@given(st.integers(1, 8), st.integers(1, 8), st.data())
def test_no_two_windows_of_a_short_loop_are_the_same(frames: int, window: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, window - 1))
    starts = [segment.start for segment in one_beat(frames, window, overlap, loop=True).segments]
    assert len(set(starts)) == len(starts) <= frames


@given(st.integers(1, 6), st.integers(0, 5))
def test_only_middle_beats_grow_longer(beats: int, longer_mid: int) -> None:
    script = Script((ScriptBeat("p"),) * beats)
    plain, longer = (plan_timeline(script, 5, 2, 16, 4, longer_mid_segment=number) for number in (0, longer_mid))
    assert len(longer.segments) - len(plain.segments) == longer_mid * max(0, beats - 2)
    timed = Script((ScriptBeat("p", Duration(24, "frames")),) * beats)
    assert plan_timeline(timed, 5, 2, 16, 4, longer_mid_segment=longer_mid) == plan_timeline(timed, 5, 2, 16, 4)


@given(timelines())
def test_picture_ranges_of_latent_frames_partition_the_pictures(timeline: Timeline) -> None:
    pictures = [
        picture
        for frame in range(timeline.latent_frames)
        for picture in range(*timeline.picture_range(frame, frame + 1))
    ]
    assert pictures == list(range(timeline.frames))
    first = 1 if not timeline.script.loop else timeline.temporal_compression
    assert timeline.frames == timeline.temporal_compression * (timeline.latent_frames - 1) + first
    for frame in range(timeline.latent_frames):
        assert {timeline.frame_of(picture) for picture in range(*timeline.picture_range(frame, frame + 1))} == {frame}


@given(st.lists(SECONDS | PICTURES, min_size=1, max_size=8), st.sampled_from([1, 4, 8]), st.booleans())
def test_beats_end_at_the_latent_frame_nearest_to_their_time(
    durations: list[Duration], compression: int, loop: bool
) -> None:
    script = Script(tuple(ScriptBeat("p", duration) for duration in durations), loop=loop)
    timeline = plan_timeline(script, 5, 2, 16, compression)
    exact = 0.0
    for beat, duration in zip(timeline.beats, durations, strict=True):
        exact += duration.value * (16 if duration.unit == "seconds" else 1)
        _, earlier = timeline.picture_range(0, beat.start)
        _, ended = timeline.picture_range(0, beat.stop)
        assume(abs(exact - earlier - compression / 2) > 1e-6)
        if exact - earlier < compression / 2:
            assert beat.stop == beat.start + 1
            exact = ended
        assert abs(ended - exact) <= compression / 2


@given(
    st.lists(PICTURES, min_size=1, max_size=8), st.integers(1, 9), st.sampled_from([1, 4, 8]), st.booleans(), st.data()
)
def test_a_beat_longer_by_whole_latent_frames_moves_those_behind_it_by_as_many(
    durations: list[Duration], longer: int, compression: int, loop: bool, data: st.DataObject
) -> None:
    chosen = data.draw(st.integers(0, len(durations) - 1))
    before = plan_timeline(Script(tuple(ScriptBeat("p", one) for one in durations), loop=loop), 5, 2, 16, compression)
    # A beat of one latent frame may have been asked to be less.
    assume(before.beats[chosen].stop - before.beats[chosen].start > 1)
    durations[chosen] = replace(durations[chosen], value=durations[chosen].value + longer * compression)
    after = plan_timeline(Script(tuple(ScriptBeat("p", one) for one in durations), loop=loop), 5, 2, 16, compression)
    moved = [later.stop - beat.stop for later, beat in zip(after.beats, before.beats, strict=True)]
    assert moved == [0] * chosen + [longer] * (len(durations) - chosen)


def test_latent_frames_are_taken_as_they_are() -> None:
    script = Script(tuple(ScriptBeat("p", Duration(value, "latent frames")) for value in (3, 1, 7)))
    timeline = plan_timeline(script, 4, 1, 16, 4)
    assert [(beat.start, beat.stop) for beat in timeline.beats] == [(0, 3), (3, 4), (4, 11)]


@pytest.mark.parametrize(("pictures", "stop"), [(2, 1), (3, 2), (6, 2), (7, 3), (11, 4)])
@pytest.mark.parametrize("fps", [16, 23.976, 29.97])
def test_half_a_latent_frame_is_rounded_up_whether_it_is_given_in_frames_or_seconds(
    pictures: int, stop: int, fps: float
) -> None:
    for duration in (Duration(pictures, "frames"), Duration(pictures / fps)):
        timeline = plan_timeline(Script((ScriptBeat("p", duration),)), 9, 2, fps, 4)
        assert timeline.beats[0].stop == stop


def test_a_short_beat_has_a_whole_window_that_counts_in_its_own_time_only() -> None:
    script = Script((ScriptBeat("a"), ScriptBeat("b", Duration(2, "latent frames")), ScriptBeat("c")))
    timeline = plan_timeline(script, 6, 1, 16, 4)
    short = timeline.segments[1]
    assert (short.start, short.stop, short.shown, short.rise, short.fall) == (3, 9, (5, 8), 1, 1)
    assert window_weights(fade_of(short)).tolist() == [0, 0, 0.5, 1, 0.5, 0]


def test_a_window_reaches_across_a_cut_only_where_it_must() -> None:
    cut = Transition("cut")
    two = Duration(2, "latent frames")
    script = Script((ScriptBeat("a"), ScriptBeat("b", two, cut), ScriptBeat("c")))
    assert plan_timeline(script, 6, 1, 16, 4).segments[1].start == 6
    script = Script((ScriptBeat("a"), ScriptBeat("b", two), ScriptBeat("c", None, cut)))
    assert plan_timeline(script, 6, 1, 16, 4).segments[1].stop == 8
    script = Script((ScriptBeat("a"), ScriptBeat("b", two, cut), ScriptBeat("c", None, cut)))
    assert plan_timeline(script, 6, 1, 16, 4).segments[1].start == 4


def test_a_video_shorter_than_a_segment_is_reported() -> None:
    script = Script((ScriptBeat("a", Duration(3, "latent frames")), ScriptBeat("b", Duration(2, "latent frames"))))
    timeline = plan_timeline(script, 21, 2, 16, 4)
    assert (timeline.window, timeline.latent_frames) == (5, 5)
    assert "shorter than the 21 latent frames" in timeline.describe()
    assert "shorter than" not in plan_timeline(script, 5, 2, 16, 4).describe()


@given(timelines())
def test_routed_text_adds_up_in_every_frame_and_follows_the_beats(timeline: Timeline) -> None:
    for segment in timeline.segments:
        if not segment.texts:
            continue
        assert segment.next_beat is None
        sums = [sum(parts) for parts in zip(*(text.weights for text in segment.texts), strict=True)]
        assert sums == pytest.approx([1.0] * segment.length)
        leading = [
            max(segment.texts, key=lambda text, place=place: text.weights[place]).beat
            for place in range(segment.length)
        ]
        assert leading == sorted(leading)


def test_routed_text_turns_over_what_two_windows_share() -> None:
    route = Transition("route", Duration(2, "latent frames"))
    timeline = plan_timeline(Script((ScriptBeat("a"), ScriptBeat("b", None, route))), 5, 1, 16, 4)
    third = pytest.approx(1 / 3)
    two_thirds = pytest.approx(2 / 3)
    shown = [[(text.beat, list(text.weights)) for text in segment.texts] for segment in timeline.segments]
    assert shown == [
        [(0, [1, 1, 1, two_thirds, third]), (1, [0, 0, 0, third, two_thirds])],
        [(0, [two_thirds, third, 0, 0, 0]), (1, [third, two_thirds, 1, 1, 1])],
    ]


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=5), st.integers(2, 12), st.data())
def test_the_text_of_a_frame_is_the_same_in_every_window_where_all_beats_are_routed(
    lengths: list[tuple[int, int]], window: int, data: st.DataObject
) -> None:
    """A window may reach across several beats, each shorter than it."""
    beats, before = [ScriptBeat("p", Duration(6, "latent frames"))], 6
    for frames, ramp in lengths:
        turns = Duration(min(ramp, before, window - 1), "latent frames")
        beats.append(ScriptBeat("p", Duration(frames, "latent frames"), Transition("route", turns)))
        before = frames
    timeline = plan_timeline(Script(tuple(beats)), window, data.draw(st.integers(0, window - 1)), 16, 4)

    def expected(frame: int) -> dict[int, float]:
        for number, beat in enumerate(timeline.beats[1:], start=1):
            ramp = int(beat.script.transition.duration.value)  # type: ignore[union-attr]
            if beat.start - ramp <= frame < beat.start:
                part = (frame - beat.start + ramp + 1) / (ramp + 1)
                return {number - 1: 1 - part, number: part}
        return {max(number for number, beat in enumerate(timeline.beats) if beat.start <= frame): 1.0}

    for segment in timeline.segments:
        for place, frame in enumerate(range(segment.start, segment.stop)):
            found = {text.beat: text.weights[place] for text in segment.texts if text.weights[place] > 0}
            assert (found or {segment.beat: 1.0}) == pytest.approx(expected(frame))


def test_segments_between_two_prompts_have_no_texts_of_their_own_beside_a_route() -> None:
    route, between = Transition("route", Duration(2, "latent frames")), Transition("segments", segments=1)
    script = Script((ScriptBeat("a"), ScriptBeat("b", None, route), ScriptBeat("c", None, between)))
    timeline = plan_timeline(script, 6, 5, 16, 4)
    mixed = [segment for segment in timeline.segments if segment.next_beat is not None]
    assert len(mixed) == 1
    # It reaches back to where the text is still turning into that of its beat.
    assert mixed[0].start < timeline.beats[1].start
    assert mixed[0].texts == ()


def test_only_a_routed_transition_gives_frames_texts_of_their_own() -> None:
    timeline = plan_timeline(Script((ScriptBeat("a"), ScriptBeat("b"))), 5, 2, 16, 4)
    assert all(segment.texts == () for segment in timeline.segments)


@given(st.integers(1, 5), st.integers(0, 3))
def test_the_end_of_a_loop_fades_into_its_beginning(beats: int, overlap: int) -> None:
    script = Script((ScriptBeat("p"),) * beats, loop=True)
    timeline = plan_timeline(script, 5, overlap, 16, 4)
    first, last = timeline.segments[0], timeline.segments[-1]
    assert first.rise == last.fall == overlap
    shared = {frame % timeline.latent_frames for frame in range(first.shown_start, first.shown_start + overlap)}
    assert shared == set(range(timeline.latent_frames - overlap, timeline.latent_frames))
    assert timeline.frames == 4 * timeline.latent_frames


def test_a_loop_fades_no_longer_than_its_last_beat() -> None:
    short = ScriptBeat("b", Duration(1, "latent frames"))
    timeline = plan_timeline(Script((ScriptBeat("a"), short), loop=True), 6, 3, 16, 4)
    assert timeline.segments[0].rise == timeline.segments[-1].fall == 1


def test_a_cut_without_a_gap_has_none() -> None:
    gap = Transition("cut", gap=Duration(8, "frames"))
    beats = (ScriptBeat("a"), ScriptBeat("b", None, Transition("cut")), ScriptBeat("c", None, gap), ScriptBeat("d"))
    assert [beat.gap for beat in plan_timeline(Script(beats), 6, 3, 16, 4).beats] == [0, 0, 2, 0]


@given(timelines())
def test_the_description_has_the_pictures_of_every_beat_and_transition(timeline: Timeline) -> None:
    told = [line for line in timeline.describe().splitlines() if " s, frames " in line]
    expected: list[tuple[int, str]] = []
    for (beat, next_beat), group in itertools.groupby(timeline.segments, lambda s: (s.beat, s.next_beat)):
        shown = "p" if next_beat is None else f"transition from prompt {beat + 1} to prompt {beat + 2}"
        expected.append((len(list(group)), shown))
    spans: list[tuple[int, int]] = []
    for text, (segments, shown) in zip(told, expected, strict=True):
        match = re.match(r"([\d.]+)-([\d.]+) s, frames (\d+)-(\d+), (\d+) segments?: (.*)", text)
        assert match is not None
        first, last = int(match[3]), int(match[4])
        assert float(match[1]) == pytest.approx(first / timeline.fps, abs=0.006)
        assert float(match[2]) == pytest.approx((last + 1) / timeline.fps, abs=0.006)
        assert int(match[5]) == segments and match[6].startswith(shown)
        spans.append((first, last))
    assert spans[0][0] == 0
    assert all(after[0] == before[1] + 1 for before, after in itertools.pairwise(spans))
    assert spans[-1][1] == timeline.frames - 1
    assert f"{timeline.frames} frames" in timeline.describe()


def test_rounded_durations_are_reported() -> None:
    timeline = plan_timeline(parse_script("[1s] a fox\n[17f] a fox"), 5, 2, 16, 4)
    first, second = timeline.describe().splitlines()[:2]
    assert first == "0.00-1.06 s, frames 0-16, 1 segment: a fox (asked for 1 seconds)"
    assert second == "1.06-2.06 s, frames 17-32, 2 segments: a fox (asked for 17 frames)"


def test_rounded_fades_and_gaps_are_reported() -> None:
    beats = (
        ScriptBeat("a"),
        ScriptBeat("b", None, Transition("blend", Duration(0.4))),
        ScriptBeat("c", None, Transition("cut", gap=Duration(9, "frames"))),
        ScriptBeat("d", None, Transition("blend", Duration(8, "frames"))),
    )
    lines = plan_timeline(Script(beats), 9, 2, 16, 4).describe().splitlines()
    assert [line for line in lines if line.startswith("The ")] == [
        "The blend before prompt 2 takes 2 latent frames (asked for 0.4 seconds).",
        "The gap before prompt 3 takes 2 latent frames (asked for 9 frames).",
    ]


def test_inputs_that_the_script_overrides_are_reported() -> None:
    said = ScriptBeat("b", Duration(2), Transition("cut"), negative="")
    script = Script((ScriptBeat("a"), said, ScriptBeat("c", Duration(3))))
    assert overridden_inputs(script, "") == []
    assert overridden_inputs(script, "grass", 1, 1) == [
        f"{name} is not used for prompt 2: the script sets its own."
        for name in ("negative_prompt", "num_transition_blocks", "longer_mid_segment")
    ]
    assert overridden_inputs(replace(script, negative="sand"), "grass") == [
        "negative_prompt is not used for prompt 1, 2, 3: the script sets its own."
    ]
    assert overridden_inputs(Script((ScriptBeat("a"), ScriptBeat("b"))), "grass", 1, 1) == []
    # No input acts on the duration of the first beat or of the last.
    timed = ScriptBeat("a", Duration(3))
    assert overridden_inputs(Script((timed, ScriptBeat("b"), timed)), "grass", 1, 1) == []


@pytest.mark.parametrize(("name", "choices"), [("blend_weights", "linear, hann"), ("noise", "plain, freenoise")])
def test_choices_that_a_timeline_does_not_have_are_named(name: str, choices: str) -> None:
    timeline = plan_timeline(parse_script("a fox"), 5, 2, 16, 4)
    with pytest.raises(TimelineError, match=rf"^{name} is 'best'; choose one of {choices}"):
        replace(timeline, **{name: "best"})


def test_the_common_part_of_the_prompt_stands_in_front_of_every_beat() -> None:
    script = replace(parse_script("runs\nsleeps"), prompt="a fox")
    assert [beat.prompt for beat in plan_timeline(script, 5, 2, 16, 4).beats] == ["a fox runs", "a fox sleeps"]


def test_a_transition_that_does_not_fit_is_an_error() -> None:
    wide = Transition("blend", Duration(5, "latent frames"))
    with pytest.raises(TimelineError, match=r"^prompt 2: its blend takes 5 latent frames; it must be shorter than"):
        plan_timeline(Script((ScriptBeat("a"), ScriptBeat("b", None, wide))), 5, 2, 16, 4)
    short = ScriptBeat("a", Duration(2, "latent frames"))
    with pytest.raises(TimelineError, match=r"^prompt 2: its blend takes 5 latent frames, but the previous prompt"):
        plan_timeline(Script((short, ScriptBeat("b", None, wide), ScriptBeat("c"))), 9, 2, 16, 4)
    all_of_it = Transition("blend", Duration(2, "latent frames"))
    assert plan_timeline(Script((short, ScriptBeat("b", None, all_of_it))), 9, 2, 16, 4).segments[1].rise == 2


@pytest.mark.parametrize(
    ("window", "overlap", "fps", "named"),
    [(0, 0, 8, "sampling_num_frames"), (4, 4, 8, "overlap_size"), (4, -1, 8, "overlap_size"), (4, 1, 0, "fps")],
)
def test_impossible_plans_name_their_input(window: int, overlap: int, fps: float, named: str) -> None:
    with pytest.raises(TimelineError, match=rf"^{named}: "):
        plan_timeline(parse_script("a fox"), window, overlap, fps, 4)


def test_a_film_may_be_slower_than_a_frame_a_second() -> None:
    assert plan_timeline(parse_script("[6s] a fox"), 9, 1, 0.5, 1).latent_frames == 3


@pytest.mark.parametrize("name", ["num_transition_blocks", "longer_mid_segment"])
def test_negative_numbers_of_segments_name_their_input(name: str) -> None:
    with pytest.raises(TimelineError, match=rf"^{name}: -1 segments; it must be at least 0"):
        plan_timeline(parse_script("a fox"), 4, 1, 8, 4, **{name: -1})
