"""The four measures on rendered scenes, each on a storyboard that must score well and on one that must not."""

import math

import pytest

from bench.measures import (
    Measured,
    adherence,
    identity,
    keeps_appearance,
    keeps_size,
    motion,
    seam,
    seam_ratios,
    summary,
)
from bench.spans import own_pictures, seam_pictures
from tests.support.measured_beats import beat, measured, render_beat, timeline_of

EMPTY = beat(radius=0.01)


def test_identity_needs_one_colour_and_one_size() -> None:
    turns = ("right", "down", "left")
    assert identity([measured([beat(direction=turn) for turn in turns])]) == 1
    assert identity([measured([beat(), beat(colour="blue"), beat()])]) == 0
    assert identity([measured([beat(), beat(radius=0.22), beat()])]) == 1
    assert identity([measured([beat(), beat(radius=0.24), beat()])]) == 0


def test_appearance_is_colour_and_pattern_and_not_size() -> None:
    striped = beat(pattern="striped")
    kept, resized = measured([striped] * 3), measured([striped, beat(pattern="striped", radius=0.24), striped])
    mixed = measured([striped, beat(pattern="spotted"), striped])
    recoloured = measured([striped, beat(pattern="striped", colour="blue"), striped])
    assert [keeps_appearance(film.detections) for film in (kept, resized, mixed, recoloured)] == [
        True,
        True,
        False,
        False,
    ]
    assert [keeps_size(film.detections) for film in (kept, resized, mixed, recoloured)] == [True, False, True, True]
    assert [identity([film]) for film in (kept, resized, mixed, recoloured)] == [1, 0, 0, 0]
    assert not keeps_appearance(measured([EMPTY, EMPTY]).detections)


def test_identity_compares_every_pair_of_segments() -> None:
    assert identity([measured([beat(radius=0.18), beat(radius=0.20), beat(radius=0.22)])]) == 0


def test_identity_is_a_share_of_storyboards() -> None:
    good, bad = measured([beat(), beat()]), measured([beat(), beat(colour="white")])
    assert identity([good, bad, bad, good, good]) == 0.6


def test_a_segment_without_subject_is_wrong_everywhere() -> None:
    lost = measured([beat(), EMPTY, beat()], said=[beat()] * 3)
    whole = measured([beat()] * 3)
    assert not lost.detections[1].found
    assert identity([lost]) == 0
    assert adherence([lost]) == pytest.approx(2 / 3)
    assert motion([lost], [whole]) == pytest.approx(2 / 3, abs=0.02)
    assert identity([measured([EMPTY, EMPTY])]) == 0


def test_adherence_counts_the_said_attributes_of_every_segment() -> None:
    said = [beat(), beat(direction="down", background="sand"), beat(shape="square")]
    assert adherence([measured(said)]) == 1
    assert adherence([measured([beat()] * 3, said)]) == pytest.approx(6 / 9)
    assert adherence([measured(said), measured([beat()] * 3, said)]) == pytest.approx(15 / 18)
    assert adherence([measured([beat(colour="blue")] * 3, [beat()] * 3)]) == 1


def test_seam_is_one_where_the_subject_moves_on_and_large_where_it_jumps() -> None:
    calm = measured([beat(travel=0.0)] * 3, overlap=2)
    frames = render_beat(beat(travel=0.5), len(calm.frames))
    smooth = Measured(calm.said, calm.detections, frames, calm.seams, calm.spans)
    assert seam([smooth]) == pytest.approx(1, abs=0.1)
    jump = frames.clone()
    jump[calm.seams[0] :] = frames.flip(0)[calm.seams[0] :]
    first, second = seam_ratios(Measured(calm.said, calm.detections, jump, calm.seams, calm.spans))
    assert first > 5
    assert second == pytest.approx(1, abs=0.1)


def test_seam_looks_at_the_picture_where_the_weight_passes_one_half() -> None:
    calm = measured([beat(travel=0.0)] * 2, overlap=2)
    frames = render_beat(beat(travel=0.5), len(calm.frames))
    place = calm.seams[0]
    assert place == 13
    for shift, expected in ((0, True), (1, False), (-1, False)):
        jump = frames.clone()
        jump[place + shift :] = frames.flip(0)[place + shift :] * 0.8
        assert (seam([Measured(calm.said, calm.detections, jump, calm.seams, calm.spans)]) > 3) is expected


def test_seam_leaves_out_cuts_and_changes_of_background() -> None:
    assert seam([measured([beat(), beat(), beat()], overlap=0)]) is None
    assert seam([measured([beat(), beat(background="sand")], overlap=2)]) is None
    both = measured([beat(), beat(background="sand"), beat(background="sand")], overlap=2)
    assert len(seam_ratios(both)) == 1


def test_seam_of_a_still_video() -> None:
    still = measured([beat(travel=0.0)] * 2, overlap=2)
    assert seam([still]) == 1
    frames = still.frames.clone()
    frames[still.seams[0] :] *= 0.5
    assert 1000 < seam([Measured(still.said, still.detections, frames, still.seams, still.spans)]) < math.inf


def test_motion_is_relative_to_isolated_segments() -> None:
    whole = [measured([beat(travel=0.4)] * 2)]
    assert motion(whole, whole) == 1
    assert motion([measured([beat(travel=0.2)] * 2)], whole) == pytest.approx(0.5, abs=0.03)
    assert motion([measured([beat(travel=0.0)] * 2)], whole) == pytest.approx(0, abs=0.02)
    assert motion(whole, [measured([EMPTY, EMPTY])]) is None


def test_motion_of_the_same_speed_in_shorter_segments_is_one() -> None:
    cut = measured([beat(travel=0.4)] * 3)
    overlapping = measured([beat(travel=0.4 * frames / 20) for frames in (13, 12, 16)], overlap=2)
    speeds = [0.4 / 17, 0.4 / 20, 0.4 / 20]
    assert motion([overlapping], [cut]) == pytest.approx(0.02 / (sum(speeds) / 3), rel=0.05)


def test_own_pictures_of_cuts_are_whole_segments() -> None:
    timeline = timeline_of(3, overlap=0)
    assert own_pictures(timeline) == ((0, 17), (17, 37), (37, 57))
    assert seam_pictures(timeline) == (None, None)


def test_own_pictures_of_overlaps_cover_the_video_once() -> None:
    timeline = timeline_of(3, overlap=2)
    assert own_pictures(timeline) == ((0, 13), (13, 25), (25, 41))
    assert seam_pictures(timeline) == (13, 25)
    assert timeline.frames == 41


def test_a_shared_frame_of_equal_weights_belongs_to_both() -> None:
    timeline = timeline_of(2, overlap=1)
    assert own_pictures(timeline) == ((0, 17), (13, 33))
    assert seam_pictures(timeline) == (13,)


def test_storyboards_must_fit_together() -> None:
    whole = measured([beat(), beat()])
    with pytest.raises(ValueError, match="2 segments has 2 detections and 0 seams"):
        Measured(whole.said, whole.detections, whole.frames, (), whole.spans)
    with pytest.raises(ValueError, match="at least one storyboard"):
        summary([], [whole])


def test_summary_has_the_four_measures() -> None:
    whole = [measured([beat(), beat()], overlap=2)]
    assert set(summary(whole, whole)) == {"identity", "adherence", "seam", "motion"}
