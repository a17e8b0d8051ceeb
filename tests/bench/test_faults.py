"""Faults are injected where they are said to be, and what they leave behind is seen."""

from collections.abc import Callable

import pytest
import torch

from bench import fault_runs
from bench.faults import BOUNDARIES, Boundary, injected, keys_may_leave_the_cpu, measure_boundary
from bench.form import Row

SHARED_CALL = next(boundary for boundary in BOUNDARIES if boundary.where == "grouping queries")


def expected_of(name: str) -> str:
    return fault_runs.digest(fault_runs.RUNS[name]()())


@pytest.mark.parametrize("name", sorted({boundary.run for boundary in BOUNDARIES}))
def test_every_boundary_is_reached_by_its_run(name: str) -> None:
    run = fault_runs.RUNS[name]()
    with keys_may_leave_the_cpu():
        for boundary in BOUNDARIES:
            if boundary.run == name:
                with injected(boundary) as function:
                    run()
                assert function.calls > 0, boundary.where


def test_a_fault_in_a_run_leaves_nothing_and_names_the_node() -> None:
    rows = measure_boundary(SHARED_CALL, expected_of(SHARED_CALL.run))
    assert [row["fault"] for row in rows] == ["exception", "interrupt", "out of memory"]
    assert all(row["freed"] and row["next_run_equal"] for row in rows)
    assert [row["error_names_node"] for row in rows] == [True, None, True]


def rows_of(monkeypatch: pytest.MonkeyPatch, run: Callable[[], list[torch.Tensor]], expected: str) -> list[Row]:
    monkeypatch.setattr(fault_runs, "RUNS", {"planted": lambda: run})
    return measure_boundary(Boundary("planted", f"{__name__}:step", "planted"), expected)


def step() -> torch.Tensor:
    return torch.zeros(4)


def test_what_a_fault_leaves_behind_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[torch.Tensor] = []

    def run() -> list[torch.Tensor]:
        kept.append(torch.ones(1000))
        result = globals()["step"]()
        kept.pop()
        return [result]

    rows = rows_of(monkeypatch, run, fault_runs.digest([torch.zeros(4)]))
    assert [row["freed"] for row in rows] == [False] * 3
    assert all(row["next_run_equal"] for row in rows)
    assert [row["error_names_node"] for row in rows] == [False, None, False]


def test_a_next_run_that_differs_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(monkeypatch, lambda: [globals()["step"]()], fault_runs.digest([torch.ones(4)]))
    assert [row["next_run_equal"] for row in rows] == [False] * 3
