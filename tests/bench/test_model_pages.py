"""The generated parts of the pages about models."""

import json

import pytest

from bench.families import RESULTS
from bench.model_pages import (
    BEGIN,
    COMPATIBILITY,
    END,
    PAGES,
    ROWS,
    facts,
    files_take,
    gigabytes,
    plan_rows,
    readme_table,
    replaced,
)
from devtools.released_workflows import RELEASED


def test_only_the_part_between_the_marks_changes() -> None:
    assert replaced(f"a\n{BEGIN}\nold\n{END}\nb\n", f"{BEGIN}\nnew\n{END}") == f"a\n{BEGIN}\nnew\n{END}\nb\n"


@pytest.mark.parametrize("text", ["a", f"{BEGIN}\n", f"{END}\n{BEGIN}\n"])
def test_a_page_without_its_marks_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="lacks the lines"):
        replaced(text, "")


def test_every_workflow_and_every_plan_is_on_one_page() -> None:
    for name in [*(workflow.name for workflow in RELEASED), *plan_rows()]:
        assert len([page for page in PAGES if page.has(name)]) == 1, name


def test_every_layout_that_has_results_is_on_one_page() -> None:
    tables = "\n".join(facts(page) for page in PAGES)
    files = sorted(RESULTS.glob("families-*.json"))
    layouts = {row["layout"] for file in files for row in json.loads(file.read_text(encoding="utf-8"))["rows"]}
    assert len(layouts) > 40
    for layout in layouts:
        assert tables.count(f"\n| {layout} | ") == 1, layout


def test_every_page_says_what_was_tested_and_no_table_is_empty() -> None:
    for page in PAGES:
        told = facts(page).partition("## What was tested")[2]
        assert f"{COMPATIBILITY.name}#contracts" in told, page.name
        assert told.count("\n| ") > 1, page.name


def test_the_size_of_files_is_that_of_the_note_or_an_error() -> None:
    known = {workflow.name: workflow for workflow in RELEASED}
    assert files_take(known["Wan 2.1 1.3B text to video"]) == "9.8 GB"
    with pytest.raises(ValueError, match="CogVideoX-2B as in DiTCtrl"):
        files_take(known["CogVideoX-2B as in DiTCtrl"])


def test_memory_is_in_gigabytes_and_twice_with_guidance() -> None:
    row = {"subject_kv_gib_all": 1.0}
    assert (gigabytes(row), gigabytes(row, passes=2)) == ("1.1", "2.1")


def test_the_readme_s_rows_name_workflows_and_plans_that_are_there() -> None:
    assert {row.workflow for row in ROWS} <= {workflow.name for workflow in RELEASED}
    assert {row.plan for row in ROWS} <= set(plan_rows())
    assert readme_table().count("\n") == len(ROWS) + 1
