"""The table of all methods, with rendered scenes in place of a model."""

import json
import math

import pytest
import torch

from bench.embedder import load_embedder
from bench.form import make_result
from bench.kept import Seen
from bench.measures import adherence, identity, seam
from bench.methods import METHODS
from bench.quality import BATCH, BEATS, JUDGED, MASKED, UNMASKED, look_at, rows_of, tasks_of
from bench.side_effects import leaks
from tests.support.measured_beats import beat, measured


def embed(frames: torch.Tensor) -> torch.Tensor:
    return frames.mean((2, 3))


def seen(good: bool) -> Seen:
    shown = [beat(), beat(direction="left"), beat(direction="left", background="sand")]
    wrong = [shown[0], beat(colour="blue", direction="left"), beat(direction="left")]
    return look_at(measured(shown if good else wrong, shown, overlap=2), embed)


def test_every_storyboard_is_made_once_by_every_method_with_the_same_seeds() -> None:
    tasks = tasks_of(["cross-attention"], BEATS, "overlap", METHODS, range(40, 40 + BATCH + 3))
    cells = {task.cell for task in tasks}
    assert cells == {("cross-attention", beats, "overlap", method) for beats in BEATS for method in METHODS}
    seeds = {cell: [seed for task in tasks if task.cell == cell for seed in task.seeds] for cell in cells}
    assert len({tuple(found) for found in seeds.values()}) == 1
    (first,) = {tuple(found) for found in seeds.values()}
    assert len(set(first)) == BATCH + 3
    assert all(task.making is METHODS[task.method] for task in tasks)


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
    found = {("cross-attention", 3, "overlap", method): [bad] * 4 for method in METHODS}
    found["cross-attention", 3, "overlap", MASKED] = [good] * 4
    found["cross-attention", 3, "overlap", UNMASKED] = [good, bad, bad, bad]
    rows = rows_of(found, 0)
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
