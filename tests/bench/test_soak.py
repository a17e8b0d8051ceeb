"""The soak sees what is lost, doubled or another's, and its films are such as a user could queue."""

import random
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from bench import soak
from bench.soak import Load, Tally, batches, digest_of, measure_soak, named, random_film, slope
from tests.support.graph_runs import refusals

DONE = {"status": {"messages": [["execution_success", {}]]}}
INTERRUPTED = {"status": {"messages": [["execution_interrupted", {}]]}}
FAILED = {"status": {"messages": [["execution_error", {"node_type": "KSampler", "exception_message": "no "}]]}}


def saved(folder: Path, name: str, value: float) -> Path:
    file = folder / f"{name}.safetensors"
    safetensors.torch.save_file({"latent": torch.full((2, 3), value)}, str(file))
    return file


@pytest.mark.parametrize("seed", range(20))
def test_the_host_takes_every_film(seed: int) -> None:
    assert not refusals(named(random_film(random.Random(seed)), "film"))


def test_what_is_lost_doubled_or_anothers_is_counted(tmp_path: Path) -> None:
    tally = Tally()
    tally.take(0, DONE, [saved(tmp_path, "a", 1.0)])
    tally.take(0, DONE, [saved(tmp_path, "b", 1.0)])
    assert sum(tally.counts.values()) == 0
    assert not list(tmp_path.iterdir())
    tally.take(0, DONE, [saved(tmp_path, "c", 2.0)])
    assert tally.counts["swapped"] == 1
    tally.take(1, DONE, [])
    tally.take(1, None, [])
    assert tally.counts["lost"] == 2
    tally.take(1, DONE, [saved(tmp_path, "d", 3.0), saved(tmp_path, "e", 3.0)])
    assert tally.counts["duplicated"] == 1
    tally.take(1, INTERRUPTED, [saved(tmp_path, "f", 3.0)])
    tally.take(1, INTERRUPTED, [])
    assert (tally.counts["duplicated"], tally.counts["interrupted"], tally.counts["lost"]) == (1, 2, 2)
    tally.take(1, FAILED, [])
    assert (tally.counts["failed"], tally.reasons) == (1, ["KSampler: no"])


def test_digests_are_of_the_bits(tmp_path: Path) -> None:
    files = [saved(tmp_path, str(number), value) for number, value in enumerate((1.0, 1.0, 1.0000001))]
    one, same, other = map(digest_of, files)
    assert one == same != other


def test_growth_is_that_of_the_second_half() -> None:
    resident: Any = [0, 500, 900, 1000, 1010, 1020, 1030]
    loads = [Load(10 * number, mib, 7, 0) for number, mib in enumerate(resident)]
    assert slope(loads, "resident_mib") == pytest.approx(100)
    assert slope(loads, "handles") == pytest.approx(0)


def test_every_prompt_has_a_name_of_its_own() -> None:
    draw = random.Random(1)
    films = [random_film(draw) for _ in range(3)]
    found = {name: pair for batch in batches(45, films, draw) for name, pair in batch.items()}
    assert len(found) == 45
    for name, (number, film) in found.items():
        assert film == named(films[number], name)


def test_a_short_soak_on_a_real_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "CHECKED_APART", 1)
    row, tally = measure_soak(6, 5)
    assert not tally.reasons
    assert [row[name] for name in ("prompts", "failed", "lost", "duplicated", "swapped", "differ_apart")] == [
        6,
        *[0] * 5,
    ]
    assert row["checked_apart"] == 1
