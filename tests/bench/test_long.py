"""The benchmark of long films: its scripts are such as the pack takes, and every figure is there."""

from pathlib import Path

import pytest

from bench import long as long_films
from bench.form import make_result
from bench.long import FILMS, Films, measure_planning, measure_sampling, script_of
from kvshare_core.plan.forecast import ModelFacts
from kvshare_core.script.parsing import parse_script

BEATS = 10


@pytest.fixture(scope="module")
def films(host: Path) -> Films:
    return Films()


@pytest.mark.parametrize("film", FILMS)
def test_a_script_has_its_beats_and_is_planned(film: str, films: Films) -> None:
    script = parse_script(script_of(film, BEATS))
    assert len(script.beats) == BEATS
    assert script.loop == (film == "loop")
    row = measure_planning(film, BEATS, ModelFacts(films.info, 4), 1)
    for figure in ("plan_ms", "editor_ms"):
        assert isinstance(row[figure], float) and float(str(row[figure])) > 0
    assert row["over_short"] is None


def test_a_long_film_is_sampled_saved_and_resumed(films: Films, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_films, "SHORT", 2)
    rows = measure_sampling(films, 4, 1)
    make_result("long", 1, rows, None)
    assert [row["beats"] for row in rows] == [2, 4]
    long = rows[-1]
    for figure in ("sampled_ms", "over_short", "kib", "kib_stock", "kib_latent", "resumed_over"):
        assert isinstance(long[figure], float) and float(str(long[figure])) > 0
    assert float(str(long["resumed_error"])) < 1e-3
    # Masks and records, which a run keeps for every beat, but no copy of the latent beside the sampler's own.
    assert float(str(long["kib"])) < float(str(long["kib_stock"])) + float(str(long["kib_latent"]))
