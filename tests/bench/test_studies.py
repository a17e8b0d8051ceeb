"""Studies of single settings, with rendered scenes in place of a model, and resuming a stopped benchmark."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from bench import kept
from bench.figures import SHOWN, draw_studies
from bench.kept import Kept, Seen, Task
from bench.methods import METHODS
from bench.pipeline import BOTH_KINDS
from bench.quality import BATCH, look_at, parts_of
from bench.settings import GUIDED, SETTINGS
from bench.storyboards import make_storyboard
from bench.studies import BEATS, Variant, rows_of, studies, tasks_of
from tests.support.measured_beats import beat, measured

SEEDS = range(40, 40 + BATCH + 3)


def seen(good: bool) -> Seen:
    shown = [beat(), beat(direction="left"), beat(direction="left", background="sand")]
    wrong = [shown[0], beat(colour="blue", direction="left"), shown[2]]
    return look_at(measured(shown if good else wrong, shown, overlap=2), lambda frames: frames.mean((2, 3)))


@pytest.mark.parametrize("steps", [setting.steps for setting in SETTINGS.values()])
def test_every_variant_differs_from_the_others_of_its_study_and_the_shipped_settings_are_in_each(steps: int) -> None:
    for study, variants in studies(steps).items():
        made = [(variant.method, variant.join) for variant in variants]
        assert len(set(made)) == len(made) > 1, study
        assert len({variant.name for variant in variants}) == len(variants), study
        assert METHODS["kvshare"] in [variant.method for variant in variants], study
        assert all(variant.method.config.end_step <= steps for variant in variants), study


def test_what_studies_have_in_common_is_made_once() -> None:
    tasks = tasks_of(GUIDED, BOTH_KINDS, studies(), SEEDS)
    assert len({repr(task) for task in tasks}) == len(tasks)
    shipped = [task for task in tasks if task.making == METHODS["kvshare"] and task.join == "scenes"]
    assert sorted(seed for task in shipped for seed in task.seeds) == sorted([*SEEDS] * len(BOTH_KINDS))


@pytest.mark.parametrize("beats", [3, 5])
def test_storyboards_that_are_made_together_change_their_scenes_at_the_same_beats(beats: int) -> None:
    parts = parts_of(SEEDS, beats)
    assert sorted(seed for part in parts for seed in part) == list(SEEDS)
    for part in parts:
        assert len(part) <= BATCH
        assert len({make_storyboard(seed, beats).new_scenes for seed in part}) == 1


def small_study() -> tuple[dict[str, Sequence[Variant]], dict[str, list[Seen]]]:
    good, bad = (Variant(name, replace(METHODS["kvshare"], guided=name == "good")) for name in ("good", "bad"))
    return {"mask": (good, bad)}, {"good": [seen(True)] * 3, "bad": [seen(False)] * 3}


def test_rows_tell_the_variants_apart_and_are_drawn(tmp_path: Path) -> None:
    chosen, shown = small_study()
    setting = SETTINGS["8-steps"]
    cells = {
        task.cell: shown["good" if task.making != chosen["mask"][1].method else "bad"]
        for task in tasks_of(setting, BOTH_KINDS, chosen, SEEDS)
    }
    assert len(cells) == len(BOTH_KINDS) * 3
    rows = rows_of(chosen, cells)
    assert [(row["model"], row["variant"]) for row in rows] == [(model, name) for model in BOTH_KINDS for name in shown]
    assert {row["setting"] for row in rows} == {setting.name}
    by_name = {row["variant"]: row for row in rows}
    assert (by_name["good"]["identity"], by_name["bad"]["identity"]) == (1, 0)
    assert by_name["good"]["motion"] == pytest.approx(1)
    assert set(SHOWN) <= set(by_name["good"])
    (file,) = draw_studies(rows, tmp_path / "figures")
    with Image.open(file) as picture:
        assert picture.width > 4 * picture.height
        assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 3


def test_a_stopped_benchmark_resumes_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kept.jsonl"
    monkeypatch.setattr(kept, "pack_version", lambda: "1 (abc)")
    tasks = [Task(GUIDED, model, BEATS, "scenes", "kvshare", METHODS["kvshare"], (1, 2)) for model in BOTH_KINDS]
    first = Kept(file)
    assert tasks[0] not in first
    first.put(tasks[0], [seen(True)])
    first.put(tasks[1], None)
    again = Kept(file)
    assert all(task in again for task in tasks)
    assert again.get(tasks[0]) == [seen(True)] and again.get(tasks[1]) is None
    assert replace(tasks[0], seeds=(1, 3)) not in again
    assert replace(tasks[0], setting=SETTINGS["8-steps"]) not in again
    for other in ("1 (abd)", "1 (abc+)"):
        monkeypatch.setattr(kept, "pack_version", lambda other=other: other)
        fresh = Kept(file)
        assert tasks[0] not in fresh
        fresh.put(tasks[0], [seen(True)])
    assert tasks[0] not in Kept(file)
    Kept(None).put(tasks[0], None)
