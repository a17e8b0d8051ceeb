"""The benchmark of workers: real processes, the same film, and what each evaluates."""

from collections.abc import Iterator
from typing import Any

import pytest

from bench.workers import SEGMENTS, measure_workers
from tests.support.worker_films import start_ray, stop_ray


@pytest.fixture(scope="module")
def rows() -> Iterator[list[dict[str, Any]]]:
    ray = start_ray()
    yield measure_workers(rounds=1, steps=1)
    stop_ray(ray)


def test_both_rows_are_of_one_film(rows: list[dict[str, Any]]) -> None:
    assert [row["workers"] for row in rows] == [1, 2]
    assert {row["segments"] for row in rows} == {SEGMENTS}
    assert all(row["equal"] for row in rows)


def test_two_workers_evaluate_one_segment_more(rows: list[dict[str, Any]]) -> None:
    assert [row["evaluations"] for row in rows] == [SEGMENTS, SEGMENTS + 1]
    assert rows[0]["wire_mib_per_call"] == 0 < rows[1]["wire_mib_per_call"]
    assert rows[0]["speedup"] == 1 and rows[1]["speedup"] == rows[0]["seconds_per_call"] / rows[1]["seconds_per_call"]
