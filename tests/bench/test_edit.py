"""The benchmark of edits, with rendered scenes in place of a model, and one real clip."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench import edit as bench_edit
from bench.edit import BATCH, COLUMNS, SCENES, WEIGHED, WEIGHTS, Cell, Found, Kept, batches, jobs, rows_of, ways
from bench.edit_runs import Given, Way, edit_clips, weighed_clips
from bench.edit_scenes import SAID, look_at, look_at_weighed, make_edits, originals, weighed_prompt
from bench.pipeline import load_pipeline
from kvshare_core.embedded.scenes import COLOUR_VALUES, render
from kvshare_core.embedded.vocabulary import COLOURS, SHAPES
from kvshare_core.script.parsing import parse_script


def test_an_edit_changes_one_word_and_both_kinds_alike_often() -> None:
    edits, scenes = make_edits(SCENES)
    assert [edit.swapped for edit in edits].count("colour") == len(edits) / 2 == len(scenes) / 2
    for edit in edits:
        before, after = (prompt.split() for prompt in edit.prompts)
        changed = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
        assert changed == [(edit.words[edit.swapped], edit.wanted)]
        for guided in (False, True):
            script = parse_script(edit.script(guided))
            assert [beat.prompt for beat in script.beats] == list(edit.prompts)
            assert all((beat.subjects is not None) == guided for beat in script.beats)
            weighed = parse_script(edit.script(guided, 2.0)).beats
            assert [[(one.words, one.weight) for one in beat.weights] for beat in weighed] == [[], [(edit.wanted, 2.0)]]
    for batch in batches(edits, lambda edit: edit.swapped):
        assert len(batch) <= BATCH and len({edit.swapped for edit in batch}) == 1


def test_what_an_edit_shows_is_measured_beside_the_original() -> None:
    edits, scenes = make_edits(4)
    videos, _ = originals(scenes)
    for edit in edits:
        choices = COLOURS if edit.swapped == "colour" else SHAPES
        changed = getattr(scenes, edit.swapped).clone()
        changed[edit.place] = choices.index(edit.wanted)
        right = look_at(edit, videos[edit.place], render(replace(scenes, **{edit.swapped: changed}))[0][edit.place])
        assert (right.done, right.kept) == ([1.0], [1.0])
        assert right.moved[0] < 0.03 and right.background[0] < 0.002
        same = look_at(edit, videos[edit.place], videos[edit.place])
        assert (same.done, same.kept, same.moved, same.background) == ([0.0], [1.0], [0.0], [0.0])
        away = replace(scenes, centre=scenes.centre + 0.1, background=(scenes.background + 1) % 4)
        moved = look_at(edit, videos[edit.place], render(away)[0][edit.place])
        assert moved.moved[0] == pytest.approx(0.1 * 2**0.5, abs=0.03)
        assert moved.background[0] > 0.05 and moved.kept[0] < 1


def test_a_video_without_a_subject_gives_nothing_to_its_distance() -> None:
    (edit, *_), scenes = make_edits(1)
    videos, _ = originals(scenes)
    empty = torch.full_like(videos[0], 0.3)
    assert look_at(edit, videos[0], empty).moved == []
    for attribute, word in (("colour", "red"), ("size", "large")):
        assert look_at_weighed(empty, attribute, word) == {"done": [0.0], "far": [], "side": []}


def test_how_far_a_subject_is_from_a_colour() -> None:
    edits, scenes = make_edits(4)
    videos, _ = originals(scenes)
    for edit, video in zip(edits, videos, strict=True):
        own, others = edit.words["colour"], [colour for colour in COLOURS if colour != edit.words["colour"]]
        assert look_at_weighed(video, "colour", own)["far"][0] < 0.05
        for other in others:
            apart = (COLOUR_VALUES[COLOURS.index(own)] - COLOUR_VALUES[COLOURS.index(other)]).norm()
            assert look_at_weighed(video, "colour", other)["far"][0] == pytest.approx(float(apart), abs=0.05)
        for attribute in WEIGHED:
            script = parse_script(weighed_prompt(edit, attribute, 1.5))
            assert [(one.words, one.weight) for one in script.beats[0].weights] == [(edit.words[attribute], 1.5)]


def test_how_large_a_subject_is() -> None:
    edits, scenes = make_edits(4)
    videos, masks = render(scenes)
    for edit, video, mask in zip(edits, videos, masks, strict=True):
        seen = look_at_weighed(video, "size", edit.words["size"])
        assert seen["done"] == [1.0]
        assert seen["side"][0] == pytest.approx(float((mask > 0.5).float().mean((1, 2)).sqrt().mean()), abs=0.02)


def test_every_way_is_made_of_every_scene_once() -> None:
    assert len({(way.name, way.given) for way in ways()}) == len(ways())
    found = jobs("cross-attention", 6)
    assert len({(job.cell, job.first) for job in found}) == len(found)
    weighed = {"weighed colour", "weighed large", "weighed small"}
    assert {job.cell.clips for job in found} == {"generated", "given"} | weighed
    assert len(found) == 2 * len(ways()) + 3 * len(WEIGHTS)
    assert {job.cell.clips for job in jobs("cross-attention", 6, ["reweight"])} == weighed


def test_rows_have_means_and_intervals_and_finished_batches_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Found] = [{name: [float(number)] for name in COLUMNS} for number in range(3)]
    seen[0]["far"] = []
    (row,) = rows_of({Cell("cross-attention", "given", "ours"): seen})
    assert (row["scenes"], row["done"], row["far"]) == (3, 1.0, 1.5)
    monkeypatch.setattr(bench_edit, "pack_version", lambda: "1 (abc)")
    cell, file = Cell("cross-attention", "given", "ours"), tmp_path / "kept"
    assert Kept(file).get(cell, 0, lambda: seen) == seen
    assert Kept(file).get(cell, 0, list) == seen
    assert Kept(file).get(cell, 1, list) == []
    monkeypatch.setattr(bench_edit, "pack_version", lambda: "1 (abd)")
    assert Kept(file).get(cell, 0, list) == []


def test_clips_of_the_real_model_are_edited_and_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.edit_runs.STEPS", 2)
    pipeline = load_pipeline("cross-attention")
    edits, scenes = make_edits(2)
    videos, subjects = originals(scenes)
    colour = edits[0]
    given = Given(videos[:1], subjects[:1])
    way = Way("held", bench_edit.OURS, given=True, masked=True)
    ((original, edited),) = edit_clips(pipeline, way, [colour.script(False)], [1], given)
    assert original.shape == edited.shape == videos[0].shape
    beside = subjects[0] == 0
    assert (original - videos[0]).abs().mean() < 0.05
    assert (edited - original).abs().mean(1)[beside].mean() < (edited - original).abs().mean(1)[~beside].mean()
    plain, heavy = weighed_clips(pipeline, [weighed_prompt(colour, "colour", weight) for weight in (4.0, 4.0)], [1, 2])
    assert plain.shape == heavy.shape and set(SAID) == set(colour.words) - {"pattern"}
