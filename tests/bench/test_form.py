"""The format that the results of all benchmarks share."""

import json
import math
from pathlib import Path

import pytest

from bench.form import ROOT, Result, command_line, machine, make_result, pack_version, publish, text_table
from devtools.environment import find_host, read_version

ROWS = [
    {"method": "isolated", "identity": 0.5, "seam": None, "count": 20},
    {"method": "kvshare", "identity": 1.0, "seam": 1.25, "count": 7},
]


def test_the_form_has_its_six_parts_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "result.json"
    result = make_result("storyboards", 3, ROWS, find_host())
    publish(result, file)
    content = json.loads(file.read_text(encoding="utf-8"))
    assert list(content) == ["name", "command", "seed", "versions", "host", "rows"]
    assert (content["name"], content["seed"], content["rows"]) == ("storyboards", 3, ROWS)
    assert list(content["versions"]) == ["pack", "python", "torch", "comfyui"]
    assert content["versions"]["comfyui"] == read_version(find_host())
    assert {"cpu", "gpu"} <= content["host"].keys()
    printed = capsys.readouterr().out
    assert text_table(ROWS) in printed
    assert str(file) in printed


def test_the_command_is_the_one_that_the_developer_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVSHARE_COMMAND", "python3 dev.py bench storyboards --seeds 2")
    assert make_result("storyboards", 0, ROWS, None).command == "python3 dev.py bench storyboards --seeds 2"
    monkeypatch.delenv("KVSHARE_COMMAND")
    monkeypatch.setattr("sys.argv", ["bench/storyboards.py", "--json", "a file.json"])
    assert command_line() == "python bench/storyboards.py --json 'a file.json'"


def test_the_command_names_no_folder_of_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = ROOT / "bench" / "results" / "quality.json"
    monkeypatch.setenv("KVSHARE_COMMAND", f"python3 dev.py bench quality --keep /somewhere/else/kept --json {inside}")
    assert command_line() == "python3 dev.py bench quality --keep kept --json bench/results/quality.json"


def test_the_table_is_aligned() -> None:
    assert text_table(ROWS).splitlines() == [
        "method    identity   seam  count",
        "--------  --------  -----  -----",
        "isolated     0.500      -     20",
        "kvshare      1.000  1.250      7",
    ]


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="has no rows"):
        make_result("empty", 0, [], None)
    with pytest.raises(ValueError, match="row 1 has columns"):
        make_result("torn", 0, [{"a": 1}, {"b": 1}], None)
    with pytest.raises(ValueError, match="row 0 has inf as a"):
        make_result("endless", 0, [{"a": math.inf}], None)


def test_a_run_without_a_host_names_none() -> None:
    assert make_result("lean", 0, ROWS, None).versions["comfyui"] is None


def test_the_machine_and_the_pack_are_named() -> None:
    assert machine()["cpu"]
    assert pack_version()[0].isdigit()
    assert isinstance(Result("a", "b", 0, {}, {}, ROWS).as_table(), str)
