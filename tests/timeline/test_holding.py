"""Existing frames in a timeline: their position, their exact return, and the evaluations that they save."""

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.config import ORDERS, SOURCES, KVShareConfig
from kvshare_core.plan.schedule import needed_evaluations, plain_evaluations, sharing_evaluations
from kvshare_core.script.film import Duration, Script, ScriptBeat
from kvshare_core.timeline.holding import first_frame, hold_frames, hold_original, latent_frames_of, redo_mask
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.support.family_cases import CASES, model_of
from tests.support.segment_counts import counting_segments
from tests.support.windows import share, tiny_timeline
from tests.tiny.models import Sampling


def film(*durations: int | None, overlap: int = 1, loop: bool = False) -> Timeline:
    """Beats of so many latent frames in windows of 3."""
    beats = tuple(
        ScriptBeat("fox runs", None if frames is None else Duration(frames, "latent frames")) for frames in durations
    )
    return plan_timeline(Script(beats, loop=loop), 3, overlap, 8, 4)


# Where frames stand.


@given(st.booleans(), st.sampled_from(["start", "end", "beat"]), st.integers(1, 4))
def test_pictures_are_as_many_latent_frames_as_decode_to_them(loop: bool, place: Any, frames: int) -> None:
    timeline = film(4, 4, 4, loop=loop)
    start = first_frame(timeline, place, 2, frames)
    first, last = timeline.picture_range(start, start + frames)
    assert latent_frames_of(timeline, place, 2, last - first) == frames


@pytest.mark.parametrize(("place", "pictures", "fix"), [("start", 7, "5 or 9"), ("end", 7, "4 or 8")])
def test_pictures_that_are_no_whole_latent_frames_are_refused(place: Any, pictures: int, fix: str) -> None:
    with pytest.raises(ValueError, match=f"images: there are 7; {fix} would"):
        latent_frames_of(film(4, 4, 4), place, 1, pictures)


def test_places_are_the_start_the_end_and_where_a_prompt_begins() -> None:
    timeline = film(4, 3, 5)
    assert [first_frame(timeline, place, 2, 2) for place in ("start", "end", "beat")] == [0, 10, 4]
    with pytest.raises(ValueError, match="existing: it has 4 latent frames, but prompt 2 has 3"):
        first_frame(timeline, "beat", 2, 4)
    with pytest.raises(ValueError, match=r"^hold is 'middle'; choose one of start, end, beat"):
        first_frame(timeline, "middle", 2, 2)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="existing: it has 13 latent frames, but the timeline has 12"):
        first_frame(timeline, "end", 1, 13)
    with pytest.raises(ValueError, match="beat is 4; the timeline has prompts 1 to 3"):
        first_frame(timeline, "beat", 4, 1)


def test_held_frames_soften_only_where_they_meet_new_ones() -> None:
    timeline = film(4, 4)
    latent, existing = torch.zeros(2, 16, 8, 6, 6), torch.ones(1, 16, 4, 6, 6)
    for start, expected in ((0, [0, 0, 1 / 3, 2 / 3, 1, 1, 1, 1]), (4, [1, 1, 1, 1, 2 / 3, 1 / 3, 0, 0])):
        samples, mask = hold_frames(timeline, latent, None, existing, start, 2)
        assert torch.equal(samples[:, :, start : start + 4], existing.expand(2, -1, -1, -1, -1))
        torch.testing.assert_close(mask[0, 0, :, 3, 3], torch.tensor(expected))
    _, both = hold_frames(timeline, samples, mask, existing, 0)
    torch.testing.assert_close(both[0, 0, :, 0, 0], torch.tensor([0, 0, 0, 0, 2 / 3, 1 / 3, 0, 0]))
    assert int(latent.count_nonzero()) == 0


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 8, 2, 6, 6), "existing: it has 8 channels, but the latent has 16"),
        ((1, 16, 2, 6, 8), "existing: it is 8 x 6 in latent pixels, but the timeline's latent is 6 x 6"),
        ((3, 16, 2, 6, 6), "existing: it has 3 videos, but the latent has 2"),
        ((1, 16, 6, 6), "existing: it has the shape .* not a video"),
    ],
)
def test_what_does_not_fit_is_named(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hold_frames(film(4, 4), torch.zeros(2, 16, 8, 6, 6), None, torch.zeros(shape), 0)


def test_a_latent_of_another_timeline_is_refused() -> None:
    with pytest.raises(ValueError, match="latent: it has 7 latent frames, but the timeline has 8 latent frames"):
        redo_mask(film(4, 4), torch.zeros(1, 16, 7, 6, 6), 1)


@given(st.booleans(), st.integers(0, 2))
def test_a_beat_is_made_again_where_it_shows(loop: bool, beat: int) -> None:
    timeline = film(3, 4, 3, loop=loop)
    mask = redo_mask(timeline, torch.zeros(1, 16, 10, 6, 6), beat + 1)
    free = {frame for frame in range(10) if bool(mask[0, 0, frame].any())}
    own = timeline.beats[beat]
    assert set(range(own.start, own.stop)) <= free
    # One frame of overlap: it fades in over the last of the beat before.
    fade = {(own.start - 1) % 10} if beat > 0 or loop else set[int]()
    assert free == set(range(own.start, own.stop)) | fade


# What is computed.


@given(st.sampled_from(ORDERS), st.booleans(), st.sampled_from(SOURCES), st.sets(st.integers(0, 4)))
def test_evaluations_are_left_out_only_if_neither_wanted_nor_sources(
    order: Any, shared: bool, chosen: str, wanted: set[int]
) -> None:
    def sources(index: int) -> set[int]:
        first, previous = {0} if index else set[int](), {index - 1} if index else set[int]()
        return {"first": first, "previous": previous}.get(chosen, first | previous)

    planned = (sharing_evaluations if shared else plain_evaluations)(tiny_timeline(5), order)
    kept = needed_evaluations(planned, wanted, sources)
    assert [one for one in planned if one in kept] == kept
    assert {one.segment.index for one in kept} >= wanted
    for one in kept:
        if one.role in ("both", "target"):
            writers = {kept_one.segment.index for kept_one in kept if kept_one.role in ("both", "source")}
            assert sources(one.segment.index) <= writers
        if one.segment.index not in wanted:
            later = kept[kept.index(one) + 1 :]
            readers = [reader.segment.index for reader in later if reader.role != "source"]
            assert one.role != "target"
            assert any(one.segment.index in sources(reader) for reader in readers)
    for one in planned:
        if one not in kept:
            assert one.segment.index not in wanted
            readers = (reader for reader in kept if reader.role in ("both", "target"))
            looked = one.role != "target" and any(
                one.segment.index in sources(reader.segment.index) for reader in readers
            )
            assert not looked


@pytest.mark.parametrize("name", ["wan t2v", "wan ti2v 5b", "ltxv", "hunyuan video"])
@pytest.mark.parametrize("order", ORDERS)
def test_held_frames_come_out_bit_for_bit_and_cost_only_evaluations_that_share(name: str, order: Any) -> None:
    case, timeline = CASES[name], tiny_timeline(4)
    shape, steps = case.shape(timeline), 3
    existing = torch.randn(shape, generator=torch.Generator().manual_seed(7))
    mask = redo_mask(timeline, existing, 3)
    held = mask.expand(shape) == 0
    outputs: list[torch.Tensor] = []
    forwards: list[Counter[int]] = []
    for skipping in (True, False):
        forwards.append(Counter())
        config = KVShareConfig(sources="first", order=order, step_idx=(1,), strength=0.7)
        # Words tell the subject in every step; a mask needs maps in none.
        pictures = torch.zeros(1, 6, 6)
        pictures[:, :3] = 1
        model = share(counting_segments(model_of(name), forwards[-1]), timeline, config, mask=pictures)[0]
        if not skipping:
            model.model_options["sampler_pre_cfg_function"] = [lambda args: args["conds_out"]]
        outputs.append(
            case.run(
                Sampling(steps=steps),
                model,
                case.positive(timeline),
                case.negative(timeline),
                shape,
                latent=existing,
                noise_mask=mask,
            )
        )
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0][held], existing[held])
    assert not torch.equal(outputs[0][~held], existing[~held])
    # The frame over which prompts 2 and 3 fade, and that of 3 and 4, is made by both.
    rows = 2 * steps
    assert [forwards[0][index] for index in (1, 2, 3)] >= [rows, rows, rows]
    # The first segment only in the one step that shares, or once before the others.
    assert forwards[0][0] == (rows if order in ("sources_first", "chain") else 2)
    assert forwards[1][0] >= rows


def test_a_run_that_reads_maps_finds_the_masks_of_sources_too() -> None:
    case, timeline = CASES["wan t2v"], tiny_timeline(4)
    existing = torch.randn(case.shape(timeline), generator=torch.Generator().manual_seed(7))
    mask = torch.zeros(1, 1, *existing.shape[2:])
    mask[:, :, -1] = 1
    outputs: list[torch.Tensor] = []
    for skipping in (True, False):
        forwards = Counter[int]()
        model, record = share(
            counting_segments(model_of(case.name), forwards), timeline, KVShareConfig(sources="first", start_step=2)
        )
        if not skipping:
            model.model_options["sampler_pre_cfg_function"] = [lambda args: args["conds_out"]]
        outputs.append(
            Sampling(steps=4).run(
                model,
                case.positive(timeline),
                case.negative(timeline),
                case.shape(timeline),
                latent=existing,
                noise_mask=mask,
            )
        )
        assert record.latest() is not None
        assert bool(forwards[1]) != skipping
    assert torch.equal(*outputs)


def test_frames_are_not_put_back_while_noise_is_left_in_them() -> None:
    case, timeline = CASES["wan t2v"], tiny_timeline(2)
    existing = torch.randn(case.shape(timeline), generator=torch.Generator().manual_seed(7))
    mask = redo_mask(timeline, existing, 2)
    model = share(model_of(case.name), timeline, KVShareConfig(mode="off"))[0]
    output = Sampling(steps=4).run(
        model,
        case.positive(timeline),
        case.negative(timeline),
        case.shape(timeline),
        latent=existing,
        noise_mask=mask,
        last_step=2,
    )
    assert (output[:, :, 0] - existing[:, :, 0]).abs().max() > 0.1


def test_a_mask_that_another_node_changes_in_every_step_is_left_to_it() -> None:
    case, timeline = CASES["wan t2v"], tiny_timeline(3)
    existing = torch.randn(case.shape(timeline), generator=torch.Generator().manual_seed(7))
    forwards = Counter[int]()
    model = share(counting_segments(model_of(case.name), forwards), timeline, KVShareConfig(mode="off"), subject="")[0]
    model.set_model_denoise_mask_function(lambda sigma, mask, extra_options: torch.ones_like(mask))
    output = Sampling(steps=2).run(
        model,
        case.positive(timeline),
        case.negative(timeline),
        case.shape(timeline),
        latent=existing,
        noise_mask=redo_mask(timeline, existing, 3),
    )
    assert min(forwards[index] for index in range(3)) == 4
    assert (output[:, :, 0] - existing[:, :, 0]).abs().max() > 0.1


# Edits of an existing video.


def edit_film(*durations: int | None) -> Timeline:
    return film(*durations, overlap=0)


def test_an_existing_video_is_the_first_beats_and_what_its_edits_begin_with() -> None:
    timeline = edit_film(3, 3, 2)
    existing = torch.randn(1, 4, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    samples, mask = hold_original(timeline, torch.zeros(2, 4, 8, 6, 6), None, existing)
    for row in samples:
        assert torch.equal(row[:, :3], existing[0]) and torch.equal(row[:, 3:6], existing[0])
        assert torch.equal(row[:, 6:], existing[0, :, :2])
    assert mask[:, :, :3].eq(0).all() and mask[:, :, 3:].eq(1).all()


def test_an_edit_may_change_what_a_pixel_of_the_mask_says() -> None:
    timeline = edit_film(3, 3)
    existing = torch.zeros(1, 4, 3, 6, 6)
    change = torch.zeros(9, 48, 48)
    change[0, 0, 0] = 1
    change[4, 47, 47] = 0.5
    _, mask = hold_original(timeline, torch.zeros(1, 4, 6, 6, 6), None, existing, change)
    expected = torch.zeros(3, 6, 6)
    expected[0, 0, 0], expected[1, 5, 5] = 1, 0.5
    assert torch.equal(mask[0, 0, 3:], expected)
    _, mask = hold_original(timeline, torch.zeros(1, 4, 6, 6, 6), None, existing, change[:1])
    assert torch.equal(mask[0, 0, 3:].amax((1, 2)), torch.ones(3))


@pytest.mark.parametrize(
    ("durations", "frames", "pictures", "message"),
    [
        ((3,), 3, 1, "an edit needs a second prompt"),
        ((3, 3), 2, 1, r"prompt 1 has 3. Write \[2l\]"),
        ((3, 3), 3, 5, "mask: it has 5 pictures; give 1 for all frames, or one for each of the 9"),
    ],
)
def test_edits_that_do_not_fit_are_refused(
    durations: tuple[int, ...], frames: int, pictures: int, message: str
) -> None:
    timeline = edit_film(*durations)
    latent = torch.zeros(1, 4, timeline.latent_frames, 6, 6)
    with pytest.raises(ValueError, match=message):
        hold_original(timeline, latent, None, torch.zeros(1, 4, frames, 6, 6), torch.ones(pictures, 48, 48))
