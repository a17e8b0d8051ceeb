"""The benchmark of steps: its methods evaluate what they say, and its rows are ratios of runs that took turns."""

from typing import Any

import pytest
import torch
from comfy.patcher_extension import WrappersMP

from bench.form import Row, make_result
from bench.sampling import CONFIGS, METHODS, QUICK, Clock, Timing, measure, models, runs

SEGMENTS = 4


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Rows of both tiny models."""
    return [row for subject in models(QUICK) for row in measure(subject, QUICK, SEGMENTS, 1.0, 1)]


def test_every_method_has_a_row_with_every_figure(rows: list[Row]) -> None:
    make_result("sampling", 1, rows, None)
    for model in ("wan", "hunyuan video"):
        own = {row["method"]: row for row in rows if row["model"] == model}
        # Older hosts have no windows with prompts of their own.
        assert [method for method in METHODS if method in own or method != "core windows"] == list(own)
        assert own["stock"]["over_stock"] == own["stock"]["wall_over_stock"] == 1
        for name, row in own.items():
            for figure in ("seconds_per_step", "first_step", "over_stock", "peak_mib"):
                assert isinstance(row[figure], float) and float(str(row[figure])) > 0
            assert (row["subject"] is not None) == (name in CONFIGS and name != "off")


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_methods_evaluate_the_segments_that_they_say(cfg: float) -> None:
    """In two steps: each segment once; the first once more in the first step where the subject is looked for; in
    pairs."""
    seen: list[int] = []

    def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(args[0].shape[0])
        return executor(*args, **kwargs)

    for subject in models(QUICK):
        subject.model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
        found: dict[str, int] = {}
        for name, run in runs(subject, QUICK, SEGMENTS, cfg, Clock()).items():
            run.sample(2)
            found[name] = sum(seen)
            seen.clear()
        each = 1 if cfg == 1 else 2
        plain = 2 * SEGMENTS * each
        assert found["stock"] == found["off"] == found["off, record"] == plain
        assert found["kvshare"] == plain + 1
        assert found["sources_first"] == plain + 1 + 2 * each
        assert found["ditctrl"] == found["released order"] == 2 * 2 * (SEGMENTS - 1) * each


def test_off_is_the_bare_handlers_video() -> None:
    for subject in models(QUICK):
        found = runs(subject, QUICK, SEGMENTS, 3.0, Clock())
        torch.testing.assert_close(found["off"].sample(2), found["stock"].sample(2), rtol=1e-4, atol=1e-4)


def test_a_run_of_several_stages_is_timed_stage_by_stage() -> None:
    clock = Clock()
    clock.calls = [(5.0, 6.0), (1.0, 2.0), (3.0, 4.0), (7.0, 8.0), (2.0, 3.0), (2.0, 3.0)]
    assert clock.take(3) == Timing(12.0, 4.0, 6.0)
    assert clock.calls == []
