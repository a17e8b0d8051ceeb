"""Full-size plans agree with figures derived by hand for the released models."""

import pytest

from bench.form import Row
from bench.plans import FIGURES, measure_plans


@pytest.fixture(scope="module")
def rows() -> dict[object, Row]:
    return {row["model"]: row for row in measure_plans("this host")}


def test_plans_agree_with_the_derived_figures_within_two_percent(rows: dict[object, Row]) -> None:
    differences = {model: row["worst_difference"] for model, row in rows.items() if row["worst_difference"] is not None}
    assert len(differences) >= 6
    assert all(difference <= 0.02 for difference in differences.values()), differences


def test_a_model_has_all_figures_or_a_reason(rows: dict[object, Row]) -> None:
    for row in rows.values():
        figures = [row[name] for name in FIGURES if name != "worst_difference"]
        assert (None not in figures) == (row["reason"] is None)
        assert row["reason"] is None or figures == [None] * len(figures)


def test_extra_computation_is_that_of_subject_queries_and_subject_keys(rows: dict[object, Row]) -> None:
    row = rows["Wan 2.1-1.3B 480p 81 frames"]
    assert row["extra_compute"] == pytest.approx(0.3**2 * row["attention_tflop"] / row["total_tflop"])  # type: ignore
    assert row["subject_kv_gib_all"] == pytest.approx(0.3 * row["kv_gib_all"])  # type: ignore
