"""The benchmark of a device: each part runs, and a run leaves a valid file whatever happens to it."""

import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from bench import device, device_checks, device_sizes
from bench.device import MODULES, PARTS, all_rows, row_of, work
from bench.form import ROOT
from bench.supervisor import Part, Supervisor

CPU = torch.device("cpu")
WORKER = """
import json, os, sys, time
file, *parts = sys.argv[1:]
def tell(**event):
    with open(file, "a") as stream:
        stream.write(json.dumps(event) + "\\n")
for part in parts:
    tell(begin=part)
    tell(row={"part": part, "value": 1})
    if part == "hangs":
        time.sleep(60)
    if part == "dies":
        os._exit(3)
    if part == "breaks":
        tell(failed="CUDA error: on purpose")
        sys.exit()
    tell(end=part)
"""
"""Stands for the process that measures."""


def supervised(folder: Path, names: Sequence[str], seconds: float = 60.0, limit: float = 1.0) -> Supervisor:
    """A measurement of those parts by the worker above, at its end."""

    def command(parts: Sequence[str], file: Path) -> list[str]:
        return [sys.executable, "-c", WORKER, str(file), *parts]

    found = Supervisor([Part(name, limit if name == "hangs" else 30.0) for name in names], command, print, seconds)
    found.run(folder)
    return found


def test_a_part_that_fails_costs_its_own_rows_only(tmp_path: Path) -> None:
    found = supervised(tmp_path, ["first", "hangs", "second", "dies", "breaks", "third"])
    assert [ended.part for ended in found.ended] == ["first", "hangs", "second", "dies", "breaks", "third"]
    assert [row["part"] for row in found.rows] == [ended.part for ended in found.ended]
    how = {ended.part: ended.how for ended in found.ended}
    assert [part for part, why in how.items() if why == "done"] == ["first", "second", "third"]
    assert how["hangs"].startswith("stopped after ") and how["dies"] == "its process ended with code 3"
    assert how["breaks"] == "CUDA error: on purpose"
    rows = all_rows(found)
    assert [row["ok"] for row in rows if row["part"] == "parts"] == [True, False, True, False, False, True]


def test_no_part_begins_without_time(tmp_path: Path) -> None:
    start = time.monotonic()
    found = supervised(tmp_path, ["hangs", "first"], seconds=2.0, limit=30.0)
    assert time.monotonic() - start < 20
    assert [ended.part for ended in found.ended] == ["hangs", "first"]
    assert found.ended[1].how == "left out: no time was left"


def test_every_part_runs_on_the_cpu() -> None:
    assert {part.name for part in PARTS} == MODULES.keys()
    for part in PARTS:
        module = {"bench.device_checks": device_checks, "bench.device_sizes": device_sizes}[MODULES[part.name]]
        rows = list(getattr(module, part.name)(CPU))
        assert rows and {row["part"] for row in rows} == {part.name}
        assert all(row.keys() == rows[0].keys() for row in rows)
        assert [row for row in rows if row["ok"] is False] == []
        assert all(row["value"] is None or math.isfinite(float(str(row["value"]))) for row in rows)


def test_a_broken_contract_is_told_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(case: object) -> None:
        raise AssertionError("on purpose")

    monkeypatch.setitem(device_checks.CONTRACTS, "off_is_off", broken)
    rows = list(device_checks.contracts(CPU))
    assert {row["note"] for row in rows if row["figure"] == "off is off"} == {"on purpose"}
    assert [row["ok"] for row in rows] == [row["figure"] != "off is off" for row in rows]


def test_a_value_beyond_its_bound_is_not_ok() -> None:
    assert [row_of("x", "y", "z", value, bound=2.0)["ok"] for value in (1.9, 2.0, 2.1, None)] == [
        True,
        True,
        False,
        None,
    ]


def test_an_error_ends_its_part_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(where: torch.device) -> list[object]:
        raise ValueError("on purpose")

    monkeypatch.setattr(device_checks, "equality", fails)
    file = tmp_path / "events"
    work(["equality", "waits"], CPU, file)
    events = [json.loads(line) for line in file.read_text().splitlines()]
    ends = [event for event in events if "end" in event]
    assert ends == [{"end": "equality", "how": "ValueError: on purpose"}, {"end": "waits"}]


def test_a_run_that_is_killed_leaves_a_valid_file(tmp_path: Path) -> None:
    file = tmp_path / "device.json"
    command = [
        sys.executable,
        "-m",
        "bench.device",
        "--device",
        "cpu",
        "--json",
        str(file),
        "--parts",
        "waits",
        "steps",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while not (file.is_file() and any(row["part"] == "waits" for row in json.loads(file.read_text())["rows"])):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    found = json.loads(file.read_text())
    assert found["name"] == "device" and found["rows"][0]["part"] == "waits"


def test_without_cuda_a_run_on_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["device", "--device", "cuda"])
    with pytest.raises(SystemExit):
        device.main()
    assert "sees no CUDA device" in capsys.readouterr().err
