"""The table of all methods, with rendered scenes in place of a model."""

import json
import math

import pytest
import torch

from bench.embedder import load_embedder
from bench.form import make_result
from bench.kept import Cell, Seen
from bench.measures import adherence, identity, seam
from bench.methods import METHODS
from bench.quality import (
    BATCH,
    BEATS,
    COMPARED,
    JUDGED,
    LARGE,
    MASKED,
    UNMASKED,
    Share,
    look_at,
    rows_of,
    shares_of,
    tasks_of,
)
from bench.settings import GUIDED, SETTINGS
from bench.side_effects import leaks
from tests.support.measured_beats import beat, measured


def embed(frames: torch.Tensor) -> torch.Tensor:
    return frames.mean((2, 3))


def seen(good: bool) -> Seen:
    shown = [beat(), beat(direction="left"), beat(direction="left", background="sand")]
    wrong = [shown[0], beat(colour="blue", direction="left"), beat(direction="left")]
    return look_at(measured(shown if good else wrong, shown, overlap=2), embed)


def test_every_storyboard_is_made_once_by_every_method_with_the_same_seeds() -> None:
    share = Share(GUIDED, "cross-attention", BATCH + 3, BEATS, tuple(METHODS))
    tasks = tasks_of(share, "overlap", 40)
    cells = {task.cell for task in tasks}
    assert cells == {(GUIDED.name, share.model, beats, "overlap", method) for beats in BEATS for method in METHODS}
    seeds = {cell: [seed for task in tasks if task.cell == cell for seed in task.seeds] for cell in cells}
    assert len({tuple(found) for found in seeds.values()}) == 1
    (first,) = {tuple(found) for found in seeds.values()}
    assert len(set(first)) == BATCH + 3
    assert all(task.making is METHODS[task.method] for task in tasks)


def test_what_is_made_is_less_in_few_steps_on_large_models_and_in_the_quick_form() -> None:
    settings = tuple(SETTINGS.values())
    models = ("cross-attention", "joint-attention", *LARGE, "vit3d")
    full = {(share.setting.name, share.model): share for share in shares_of(settings, models, quick=False)}
    assert {name for name, model in full if model == "vit3d"} == {GUIDED.name}
    for (name, model), share in full.items():
        everything = name == GUIDED.name and model not in LARGE
        assert share.methods == (tuple(METHODS) if everything else COMPARED)
        assert share.lengths == (BEATS[:1] if model in LARGE else BEATS)
        assert f"{share.storyboards} storyboards" in str(share) and share.methods[-1] in str(share)
    for share in shares_of(settings, models, quick=True):
        assert (share.methods, share.lengths) == (COMPARED, BEATS[:1])
    assert {share.storyboards for share in shares_of(settings, models, quick=False, storyboards=64)} == {64}
    assert {MASKED, UNMASKED, "isolated"} <= set(COMPARED) < set(METHODS)


def test_measures_are_those_of_the_detected_scenes() -> None:
    film = measured([beat(), beat(direction="left"), beat(background="sand")], overlap=2)
    found = look_at(film, embed).contributions
    assert found["identity"] == [identity([film])]
    assert found["adherence"] == [adherence([film])]
    assert sum(found["seam"]) / len(found["seam"]) == pytest.approx(seam([film]))
    assert found["leak"] == leaks(film)
    assert found["mask_iou"] == []


def test_rows_have_means_intervals_and_the_difference_that_the_mask_makes() -> None:
    good, bad = seen(True), seen(False)
    cells = {method: Cell("8-steps", "cross-attention", 3, "overlap", method) for method in METHODS}
    found = {cell: [bad] * 4 for cell in cells.values()}
    found[cells[MASKED]] = [good] * 4
    found[cells[UNMASKED]] = [good, bad, bad, bad]
    rows = rows_of(found, 0)
    assert {row["setting"] for row in rows} == {"8-steps"}
    assert [row["method"] for row in rows] == [*METHODS, f"{MASKED} - {UNMASKED}"]
    by_method = {row["method"]: row for row in rows}
    assert by_method[MASKED]["identity"] == 1 and by_method["isolated"]["identity"] == 0
    assert by_method[UNMASKED]["identity"] == 0.25
    assert by_method["isolated"]["motion"] == 1
    gain = by_method[f"{MASKED} - {UNMASKED}"]
    assert gain["identity"] == 0.75
    low, high = gain["identity_ci"]
    assert 0 <= low < 0.75 < high <= 1
    assert gain["leak"] < -0.5
    assert all(f"{name}_ci" in gain for name in JUDGED)
    table = make_result("quality", 0, rows, None)
    assert json.loads(table.as_json())["rows"][0]["identity_ci"] == [0.0, 0.0]
    assert "0.000 to 0.000" in table.as_table()


def test_the_embedder_tells_pictures_apart_and_knows_equal_ones() -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="this environment has no EfficientNet-Lite")
    eye = load_embedder()
    film = measured([beat(), beat(shape="square", colour="white", background="sand")])
    (start, stop), (later, last) = film.spans
    features = torch.nn.functional.normalize(eye(film.frames), dim=1)
    likeness = features @ features.T
    assert torch.allclose(likeness.diagonal(), torch.ones(len(features)), atol=1e-4)
    within = likeness[start:stop, start:stop].mean()
    across = likeness[start:stop, later:last].mean()
    assert float(across) < float(within) - 0.05
    assert math.isfinite(float(features.sum()))
