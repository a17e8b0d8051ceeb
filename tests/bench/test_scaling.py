"""The table of GPUs follows from the split of the segments, and the page shows what the results file has."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench.scaling import FILMS, MACHINES, MODELS, measure_scaling
from devtools.environment import ROOT

PAGE = ROOT / "docs" / "scaling.md"
RESULTS = ROOT / "bench" / "results" / "scaling.json"


def kept(file: Path) -> list[dict[str, Any]]:
    return json.loads(file.read_text(encoding="utf-8"))["rows"]


@pytest.fixture(scope="module")
def rows() -> list[Any]:
    return measure_scaling()


def test_the_results_file_is_what_the_benchmark_finds(rows: list[Any]) -> None:
    assert [dict(row) for row in rows] == [pytest.approx(row) for row in kept(RESULTS)]


def test_a_span_costs_its_segments_and_the_source(rows: list[Any]) -> None:
    for row in rows:
        segments, used = row["segments"], row["workers_used"]
        # All but the worker that has the source evaluate it again.
        assert row["evaluations"] == segments + used - 1
        assert used <= row["gpus"] and row["slowest"] >= (2 if row["gpus"] > 1 else segments)
        assert row["speedup"] <= segments / row["slowest"]
        assert row["speedup"] <= max(1.0, segments / 2)


def test_the_wire_is_a_small_part_of_a_step(rows: list[Any]) -> None:
    shares = [row["wire_seconds"] / row["seconds_per_call"] for row in rows]
    told = re.search(r"under (\d+) % of a step", " ".join(PAGE.read_text(encoding="utf-8").split()))
    assert told is not None
    assert max(shares) < int(told[1]) / 100


def test_the_page_has_the_rows_of_the_results_file() -> None:
    of_film = kept(RESULTS)[: len(MODELS) * len(MACHINES)]
    told = re.findall(
        r"^\| ([^|]+) \| (\d+) x (\d+) \| (\d+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \|$",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert told == [
        (
            row["model"],
            str(row["machines"]),
            str(row["gpus"] // row["machines"]),
            str(row["slowest"]),
            f"{row['wire_mib_per_call']:.0f}",
            f"{row['seconds_per_call']:.1f}",
            f"{row['speedup']:.2f}",
        )
        for row in of_film
    ]


def test_the_page_has_the_curve_of_the_results_file() -> None:
    of_curve = kept(RESULTS)[len(MODELS) * len(MACHINES) :]
    text = PAGE.read_text(encoding="utf-8")
    for segments in FILMS:
        told = re.search(rf"^\| {segments} \|(( [\d.]+ \|){{6}})$", text, re.MULTILINE)
        assert told is not None, segments
        curve = [f"{row['speedup']:.2f}" for row in of_curve if row["segments"] == segments and row["gpus"] > 1]
        assert re.findall(r"[\d.]+", told[1]) == curve
