"""Figures in the README and on the pages of docs are those of the committed results files."""

import json
import re
from typing import Any

from bench.families import support_table
from bench.model_pages import pages
from bench.pipeline import BOTH_KINDS
from bench.settings import GUIDED, setting_of
from devtools.environment import ROOT

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
READMES_METHODS = {
    "without sharing": "windows",
    "DiTCtrl, the published method": "ditctrl",
    "everything shared, no mask": "concat",
    "KV Share": "kvshare",
}
"""Rows of the README's table."""
RESULTS = ROOT / "bench" / "results"


def page(name: str) -> str:
    """A page's text with single spaces, so that a sentence is found wherever its lines break."""
    return re.sub(r"[ \n]+", " ", (ROOT / name).read_text(encoding="utf-8"))


QUALITY_AND_COST = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def results(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def cells_of(row: dict[str, Any]) -> str:
    """A method and its figures, as a table shows them."""
    return " | ".join([row["method"], *("-" if row[name] is None else f"{row[name]:.2f}" for name in MEASURES)])


def shown_methods() -> dict[tuple[str, str], dict[str, Any]]:
    """The rows in 20 steps with guidance of films of SHOWN_BEATS, by model and method."""
    rows = results("quality")["rows"]
    shown = [row for row in rows if row["beats"] == SHOWN_BEATS and setting_of(row) == GUIDED.name]
    return {(row["model"], row["method"]): row for row in shown}


def test_the_table_of_methods_is_the_results_file() -> None:
    found = results("quality")
    laboratory = (ROOT / "docs" / "laboratory.md").read_text(encoding="utf-8")
    for row in found["rows"]:
        if row["beats"] == SHOWN_BEATS and setting_of(row) == GUIDED.name:
            assert f"| {row['model']} | {cells_of(row)} |" in QUALITY_AND_COST
        elif row["beats"] == SHOWN_BEATS:
            assert f"| {row['setting']} | {row['model']} | {cells_of(row)} |" in laboratory
    assert found["command"] in QUALITY_AND_COST


def test_the_table_of_the_third_model_is_its_results_file() -> None:
    page = (ROOT / "docs" / "laboratory.md").read_text(encoding="utf-8")
    found = results("quality-one-stream")
    for row in found["rows"]:
        if row["beats"] == SHOWN_BEATS and setting_of(row) == GUIDED.name and " - " not in row["method"]:
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
        # Rows from before there were other beginnings are of clips that begin with noise.
        if row["step"] in SHOWN_STEPS and row.get("begin", "noise") == "noise":
            ranks.setdefault(row["source"], {}).setdefault(row["model"], []).append(f"{row['rank']:.2f}")
    for source, of_models in ranks.items():
        cells = " | ".join(" ".join(values) for values in of_models.values())
        assert f"| {source} | {cells} |" in page
    assert found["command"] in page


def test_the_table_of_held_frames_is_its_results_file() -> None:
    page = (ROOT / "docs" / "laboratory.md").read_text(encoding="utf-8")
    found = results("masks-held")
    ranks: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for row in found["rows"]:
        if row["step"] in SHOWN_STEPS:
            of_clips = ranks.setdefault((row["model"], row["begin"], row["frames"]), {})
            of_clips.setdefault(row["source"], []).append(f"{row['rank']:.2f}")
    assert len(ranks) == 9
    for clips, of_sources in ranks.items():
        cells = [" ".join(of_sources[source]) for source in ("effect", "first look", "all blocks")]
        assert f"| {' | '.join((*clips, *cells))} |" in page
    assert found["command"] in page


def test_what_the_laboratory_says_is_reached_is_the_results_file() -> None:
    page = (ROOT / "docs" / "laboratory.md").read_text(encoding="utf-8")
    shown = shown_methods()
    for aim, name, digits in AIMS:
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {aim}")]
        for model, cell in zip(BOTH_KINDS, line.split("|")[2:4], strict=True):
            assert cell.strip().startswith(f"{shown[model, 'kvshare'][name]:.{digits}f}"), line
    for model in BOTH_KINDS:
        for method in ("concat", "ditctrl"):
            assert f"`{method}` {shown[model, method]['identity']:.2f}" in page


def test_what_the_readme_says_of_quality_is_the_results_file() -> None:
    shown = shown_methods()

    told = page("README.md").replace("**", "")
    for label, method in READMES_METHODS.items():
        kept, said = (
            " and ".join(f"{100 * shown[model, method][name]:.0f} %" for model in BOTH_KINDS)
            for name in ("identity", "adherence")
        )
        assert re.search(rf"\| {label} \| {kept}( of the films)? \| {said} \|", told), label


def test_what_pages_say_of_extra_computation_is_the_results_file() -> None:
    extra = [row["extra_compute"] for row in results("plans")["rows"]]
    told = f"{100 * min(extra):.0f} to {100 * max(extra):.0f} %"
    for name in ("README.md", "docs/maths.md"):
        assert told in page(name)


def test_what_is_said_of_chaining_is_the_results_file() -> None:
    rows = {row["method"]: row for row in results("image_films")["rows"]}
    told, chained, shared = page("docs/compared.md"), rows["last frame"], rows["overlap, shared"]
    assert f"{chained['adherence']:.2f} of their content, against {shared['adherence']:.2f} for KV Share" in told
    assert f"in {shared['kept']:.2f} of the films, chaining in {chained['kept']:.2f}" in told
    kept = [f"{100 * rows[name]['kept']:.0f} % [14]" for name in ("core windows", "last frame", "overlap, shared")]
    (row,) = re.findall(r"on one small model [^%]*%[^%]*%[^%]*% \[14\]", told.replace("**", ""))
    assert re.findall(r"\d+ % \[14\]", row) == kept


def test_the_facts_of_models_are_those_of_workflows_and_results() -> None:
    assert [file.name for file, text in pages().items() if file.read_text(encoding="utf-8") != text] == []


def test_the_support_table_is_made_of_the_results_files() -> None:
    files = sorted(RESULTS.glob("families-*.json"))
    assert len(files) == 3
    assert support_table(files) in (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")


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
        assert f"| {row['shape']} | {row['path']} | {row['p']:g} | {cells} |" in QUALITY_AND_COST
    assert found["command"] in QUALITY_AND_COST


def test_the_tables_of_edits_and_of_weights_are_the_results_file() -> None:
    page = (ROOT / "docs" / "editing.md").read_text(encoding="utf-8")
    files = [results("edit"), results("edit-early")]
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in (row for found in files for row in found["rows"]):
        rows.setdefault((row["clips"], row["way"]), []).append(row)

    def cell(clips: str, way: str, name: str, digits: int) -> str:
        return " / ".join(f"{row[name]:.{digits}f}" for row in rows[clips, way])

    edits = [clips_and_way for clips_and_way in rows if clips_and_way[0] in ("generated", "given")]
    weights = {way for _, way in rows if way.startswith("weight ")}
    assert len(edits) > 10 and len(weights) > 4
    for clips, way in edits:
        figures = (("done", 2), ("kept", 2), ("moved", 3), ("background", 3))
        assert f"| {clips} | {way} | {' | '.join(cell(clips, way, *figure) for figure in figures)} |" in page
    for way in weights:
        figures = (("colour", "done", 2), ("colour", "far", 3), ("large", "side", 3), ("small", "side", 3))
        cells = " | ".join(cell(f"weighed {weighed}", way, *figure) for weighed, *figure in figures)
        assert f"| {way.removeprefix('weight ')} | {cells} |" in page
    assert all(found["command"] in page for found in files)


def test_what_is_said_of_films_of_pixels_is_the_results_files() -> None:
    told = page("docs/models/vit3d.md")
    accuracy, films = results("accuracy-vit3d"), results("quality-vit3d")
    least = min(row["accuracy"] for row in accuracy["rows"])
    assert f"{100 * least:.1f} % or more of the words" in told
    for row in films["rows"]:
        if row["method"] in ("windows", "kvshare", "concat"):
            cells = " | ".join(f"{row[name]:.2f}" for name in ("colour", "appearance", "adherence", "motion"))
            assert f"| {row['beats']} | {row['method']} | {cells} |" in told
    assert accuracy["command"] in told and films["command"] in told
