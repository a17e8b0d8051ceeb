"""Data for the mask viewer: each frame has the map of its own latent frame, and words keep their tokens."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kvshare_core.host.files.viewer import PREFIX, view_of
from kvshare_core.prompt_words import PromptWords, SubjectTokens
from kvshare_core.record import viewing
from kvshare_core.record.look_point import LookPoint
from kvshare_core.record.record import (
    ONLY_SUBJECT,
    KVShareRecord,
    RecordedMasks,
    RecordedPoint,
    RecordedStep,
    RecordedSubject,
    RecordedText,
)
from kvshare_core.record.viewing import (
    LONGEST_SIDE,
    MOST_FRAMES,
    STEP_BITS,
    columns_of,
    described_point,
    naming_words,
    sheet_of,
    shown_frames,
    shown_maps,
    small_frames,
)
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline


def film(beats: int = 2, script: str = "") -> Timeline:
    return plan_timeline(parse_script(script + "a red fox\n" * beats), 4, 1, 8, 4)


def recorded(timeline: Timeline, names: tuple[str, ...] = ("fox",)) -> RecordedMasks:
    """Heat that is the number of the latent frame, of each subject in a column of its own."""
    frames = timeline.latent_frames
    heat = torch.zeros(len(names), 1, frames, 2, 3)
    for number in range(len(names)):
        heat[number, 0, :, :, number] = torch.linspace(0, 1, frames)[:, None]
    mask = (heat > 0.5).float()
    subjects = tuple(map(RecordedSubject, names, heat, mask))
    return RecordedMasks(timeline, heat.amax(0), mask.amax(0), subjects)


def looked(timeline: Timeline, picture: int = 0) -> RecordedPoint:
    """A point of one text whose heat is random and whose look at frames is what it has there."""
    heat = torch.rand(2, timeline.latent_frames, 2, 3, generator=torch.Generator().manual_seed(1))
    frames = heat.sum((2, 3)) / heat.sum((1, 2, 3))[:, None]
    looks, between = torch.tensor([[0.25, 1 / 3], [0.5, 0.5]]), torch.eye(2).expand(2, 2, 2)
    text = RecordedText(0, 0, 1.0, ("red", "fox"), looks, between)
    return RecordedPoint(timeline, LookPoint(0.25, 0.5, picture), heat, frames, (text,))


@given(st.integers(1, 5000))
def test_shown_frames_are_few_even_and_have_both_ends(frames: int) -> None:
    shown = shown_frames(frames)
    assert len(shown) == min(frames, MOST_FRAMES) and shown[0] == 0 and shown[-1] == frames - 1
    steps = {later - one for one, later in pairwise(shown)}
    assert not steps or max(steps) - min(steps) <= 1


@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 4))
def test_every_tile_is_found_on_its_sheet(tiles: int, height: int, width: int) -> None:
    values = torch.rand(tiles, height, width, 3)
    sheet = sheet_of(values)
    columns = columns_of(tiles)
    for tile in range(tiles):
        top, left = tile // columns * height, tile % columns * width
        assert torch.equal(sheet[top : top + height, left : left + width], values[tile])


def test_an_only_subject_still_answers_to_the_name_that_it_had_before_it_had_one() -> None:
    alone = recorded(film(), ("fox",))
    assert torch.equal(alone.of(ONLY_SUBJECT).mask, alone.of("fox").mask)
    for masks, name in ((alone, "dog"), (recorded(film(), ("fox", "dog")), ONLY_SUBJECT)):
        with pytest.raises(ValueError, match=f"^subject: the run followed no '{name}', but fox"):
            masks.of(name)


@pytest.mark.parametrize("shape", [(3, 48, 96), (2, 720, 1280), (1, 1, 2000)])
def test_frames_are_made_small_but_never_large(shape: tuple[int, int, int]) -> None:
    count, height, width = shape
    small = small_frames(torch.full((*shape, 3), 0.25), list(range(count)))
    assert max(small.shape[1:3]) <= min(LONGEST_SIDE, max(height, width))
    torch.testing.assert_close(small, torch.full_like(small, 0.25))


def test_all_shown_frames_together_fit_into_a_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewing, "SHEET_PIXELS", 1000)
    small = small_frames(torch.zeros(9, 40, 60, 3), [0, 3, 6, 8])
    assert small.shape[0] == 4 and 500 < 4 * small.shape[1] * small.shape[2] <= 1000


@pytest.mark.parametrize("script", ["", "loop: yes\n"])
def test_every_shown_frame_has_the_map_of_its_latent_frame(script: str) -> None:
    timeline = film(script=script)
    frames = shown_frames(timeline.frames)
    everything, fox, dog = shown_maps(recorded(timeline, ("fox", "dog")), None, frames)
    assert [shown.kind for shown in (everything, fox, dog)] == ["all", "subject", "subject"]
    height, width = fox.grid
    columns = columns_of(len(frames))
    for place, frame in enumerate(frames):
        top, left = place // columns * height, place % columns * width
        heat = timeline.frame_of(frame) / (timeline.latent_frames - 1)
        for shown, column in ((fox, 0), (dog, 1), (everything, 0), (everything, 1)):
            assert float(shown.sheet[top, left + column, 0]) == pytest.approx(heat)
            assert float(shown.sheet[top, left + column, 1]) == float(heat > 0.5)
        assert float(fox.sheet[top, left + 1, 0]) == 0


def test_masks_of_steps_on_the_way_survive_the_picture() -> None:
    import folder_paths

    timeline = film()
    masks = recorded(timeline)
    random = torch.Generator().manual_seed(0)
    course = tuple(
        RecordedStep(3 * step, torch.rand(1, *masks.mask.shape, generator=random) > 0.5) for step in range(STEP_BITS)
    )
    record = KVShareRecord()
    record.put(replace(masks, course=course), None)
    (told,) = view_of(record.findings(), torch.zeros(timeline.frames, 16, 24, 3))[PREFIX]
    (shown,) = told["maps"]
    assert shown["steps"] == tuple(3 * step for step in range(STEP_BITS))
    path = Path(folder_paths.get_temp_directory()) / shown["picture"]["subfolder"] / shown["picture"]["filename"]
    with Image.open(path) as picture:
        blue = torch.tensor(np.asarray(picture)[..., 2])
    (width, height), columns = shown["size"], told["columns"]
    for place, frame in enumerate(told["frames"]):
        top, left = place // columns * height, place % columns * width
        tile = blue[top : top + height, left : left + width]
        for bit, step in enumerate(course):
            assert torch.equal((tile >> bit & 1).bool(), step.masks[0, 0, timeline.frame_of(frame)])


def test_words_come_with_the_places_of_their_tokens() -> None:
    timeline = film()
    words = PromptWords(("a", "red", "fox", "runs"), ((0,), (1,), (2, 3), (4,)))
    known = replace(timeline, beats=tuple(replace(beat, words=words) for beat in timeline.beats))
    named = naming_words(known, (SubjectTokens((2, 3, 9), (1, 4)), None))
    assert named == (
        {"subject": [("fox", (2, 3)), ("", (9,))], "others": [("red", (1,)), ("runs", (4,))]},
        None,
    )
    assert naming_words(timeline, (SubjectTokens((7,), ()), None))[0] == {"subject": [("", (7,))], "others": []}


@pytest.mark.parametrize("script", ["", "loop: yes\n"])
def test_a_point_s_sheet_has_its_own_frame_alone_beside_all(script: str) -> None:
    timeline = film(script=script)
    point = looked(timeline, picture=6)
    own = timeline.frame_of(6)
    frames = shown_frames(timeline.frames)
    (shown,) = shown_maps(None, point, frames)
    height, width = shown.grid
    columns = columns_of(len(frames))
    for place, frame in enumerate(frames):
        top, left = place // columns * height, place % columns * width
        tile = shown.sheet[top : top + height, left : left + width]
        heat = point.heat[0, timeline.frame_of(frame)]
        torch.testing.assert_close(tile[..., 0], heat)
        torch.testing.assert_close(tile[..., 1], heat / heat.max() if timeline.frame_of(frame) == own else 0 * heat)


@pytest.mark.parametrize("script", ["", "loop: yes\n"])
def test_the_viewer_gets_the_numbers_of_the_first_video_of_a_batch(script: str) -> None:
    timeline = film(script=script)
    told = described_point(looked(timeline, picture=3))
    assert (told["x"], told["y"], told["frame"]) == (0.25, 0.5, 3)
    assert sum(told["frames"]) == pytest.approx(1, abs=1e-4)
    assert [first for first, _ in told["spans"]] == [0, *(stop for _, stop in told["spans"][:-1])]
    assert len(told["spans"]) == len(told["frames"]) and told["spans"][-1][1] == timeline.frames
    assert told["segments"] == [one.index for one in timeline.segments_at(timeline.frame_of(3))]
    (text,) = told["texts"]
    assert text["looks"] == [0.25, 0.333333] and text["between"] == [[1, 0], [0, 1]]
    json.dumps(told, allow_nan=False)


def test_what_overflowed_is_shown_as_nothing() -> None:
    """A run in float16 may end in numbers that JSON does not have, and that no picture shows."""
    timeline = film()
    point = looked(timeline, picture=3)
    for name in ("frames", "heat", "own_heat"):
        getattr(point, name)[:] = float("nan")
    for text in point.texts:
        text.looks[:] = float("inf")
    told = described_point(point)
    json.dumps(told, allow_nan=False)
    assert set(told["frames"]) == set(told["texts"][0]["looks"]) == {0}
    masks = recorded(timeline)
    masks.heat[:] = float("nan")
    for shown in shown_maps(masks, point, shown_frames(timeline.frames)):
        assert shown.sheet.isfinite().all()


def test_answer_is_plain_and_its_pictures_are_where_it_says() -> None:
    import folder_paths

    timeline = film()
    record = KVShareRecord()
    record.put(recorded(timeline), looked(timeline), notices=["nothing was shared: why"])
    (told,) = view_of(record.findings(), torch.rand(2 * timeline.frames, 16, 24, 3), opacity=0.5)[PREFIX]
    assert json.loads(json.dumps(told))["opacity"] == 0.5 and told["videos"] == 2
    assert told["notices"] == ("nothing was shared: why",)
    assert [shown["kind"] for shown in told["maps"]] == ["all", "point"]
    assert told["point"]["texts"][0]["words"] == ("red", "fox")
    columns = told["columns"]
    for file, (width, height) in [(told["picture"], told["size"])] + [(m["picture"], m["size"]) for m in told["maps"]]:
        assert file["type"] == "temp"
        with Image.open(Path(folder_paths.get_temp_directory()) / file["subfolder"] / file["filename"]) as picture:
            assert picture.size == (columns * width, -(-len(told["frames"]) // columns) * height)


def test_an_empty_record_has_no_answer() -> None:
    assert view_of(KVShareRecord().findings(), torch.zeros(1, 8, 8, 3)) == {}
