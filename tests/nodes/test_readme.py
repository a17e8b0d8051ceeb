"""Figures in the README are those of the committed results files."""

import json
import re
from typing import Any

from bench.families import support_table
from bench.pipeline import BOTH_KINDS
from devtools.environment import ROOT
from kvshare_core.script.parsing import parse_script

MEASURES = ("identity", "adherence", "seam", "motion", "leak", "mask_iou")
SHOWN_STEPS = (0, 3, 10)
SHOWN_BEATS = 3
AIMS = (
    ("identity not below", "identity", 2),
    ("adherence within", "adherence", 3),
    ("seam at most", "seam", 2),
    ("motion at least", "motion", 2),
    ("leakage below", "leak", 3),
    ("mask overlap at least", "mask_iou", 2),
)
"""How a line of the laboratory page begins, the figure in it and its decimals."""
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "bench" / "results"


def results(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def cells_of(row: dict[str, Any]) -> str:
    """A method and its figures, as a table shows them."""
    return " | ".join([row["method"], *("-" if row[name] is None else f"{row[name]:.2f}" for name in MEASURES)])


def test_the_table_of_methods_is_the_results_file() -> None:
    found = results("quality")
    for row in found["rows"]:
        if row["beats"] == SHOWN_BEATS:
            assert f"| {row['model']} | {cells_of(row)} |" in README
    assert found["command"] in README


def test_the_table_of_the_third_model_is_its_results_file() -> None:
    page = (ROOT / "docs" / "laboratory.md").read_text(encoding="utf-8")
    found = results("quality-one-stream")
    for row in found["rows"]:
        if row["beats"] == SHOWN_BEATS and " - " not in row["method"]:
            assert f"| {cells_of(row)} |" in page
    assert found["command"] in page


def test_the_table_of_films_from_one_image_is_its_results_file() -> None:
    page = (ROOT / "docs" / "laboratory.md").read_text(encoding="utf-8")
    found = results("image_films")
    for row in found["rows"]:
        low, high = row["kept_ci"]
        figures = (f"{row[name]:.2f}" for name in ("colour", "size", "adherence", "reset", "drift"))
        cells = " | ".join((f"{row['kept']:.2f} ({low:.2f} to {high:.2f})", *figures, f"{row['speed']:.4f}"))
        assert f"| {row['method']} | {cells} |" in page
    assert found["command"] in page


def test_the_table_of_what_finds_the_subject_is_its_results_file() -> None:
    page = (ROOT / "docs" / "laboratory.md").read_text(encoding="utf-8")
    found = results("masks")
    ranks: dict[str, dict[str, list[str]]] = {}
    for row in found["rows"]:
        if row["step"] in SHOWN_STEPS:
            ranks.setdefault(row["source"], {}).setdefault(row["model"], []).append(f"{row['rank']:.2f}")
    for source, of_models in ranks.items():
        cells = " | ".join(" ".join(values) for values in of_models.values())
        assert f"| {source} | {cells} |" in page
    assert found["command"] in page


def test_what_the_laboratory_says_is_reached_is_the_results_file() -> None:
    page = (ROOT / "docs" / "laboratory.md").read_text(encoding="utf-8")
    shown = {(row["model"], row["method"]): row for row in results("quality")["rows"] if row["beats"] == SHOWN_BEATS}
    for aim, name, digits in AIMS:
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {aim}")]
        for model, cell in zip(BOTH_KINDS, line.split("|")[2:4], strict=True):
            assert cell.strip().startswith(f"{shown[model, 'kvshare'][name]:.{digits}f}"), line
    for model in BOTH_KINDS:
        for method in ("concat", "ditctrl"):
            assert f"`{method}` {shown[model, method]['identity']:.2f}" in page


def test_pictures_of_the_pages_are_there() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / picture).is_file(), picture


def test_the_film_in_the_readme_can_be_read() -> None:
    (film,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    script = parse_script(film)
    assert [beat.prompt for beat in script.beats] == ["a fox runs through snow", "a fox and a dog sleep", "a fox wakes"]


def test_the_support_table_is_made_of_the_results_files() -> None:
    files = sorted(RESULTS.glob("families-*.json"))
    assert len(files) == 3
    assert support_table(files) in README


def test_the_cost_table_is_the_results_file() -> None:
    found = results("attention")
    for row in found["rows"]:
        ratios = (
            row["ours_over_plain"],
            row["dense_s"] / row["plain_s"],
            row["dense_over_ours"],
            row["ours_mib_ratio"],
        )
        cells = " | ".join(f"{ratio:.2f}" for ratio in ratios)
        assert f"| {row['shape']} | {row['path']} | {row['p']:g} | {cells} |" in README
    assert found["command"] in README
