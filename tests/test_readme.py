"""Figures in the README are those of the committed results files."""

import json

from devtools.environment import ROOT

MEASURES = ("identity", "adherence", "seam", "motion")


def test_the_storyboard_table_is_the_results_file() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    results = json.loads((ROOT / "bench" / "results" / "storyboards.json").read_text(encoding="utf-8"))
    for row in results["rows"]:
        figures = ("-" if row[name] is None else f"{row[name]:.2f}" for name in MEASURES)
        assert f"| {row['method']} | {row['join']} | {' | '.join(figures)} |" in readme
    assert results["command"] in readme
