"""The profile of a step: its parts are parts of it, and the arithmetic is what the segments need."""

import pytest
import torch

from bench.form import make_result
from bench.sampling import QUICK, models
from bench.step import attention_flops, counted, measure


def test_a_row_has_the_parts_of_a_step_and_its_arithmetic() -> None:
    rows = [row for subject in models(QUICK) for row in measure(subject, QUICK)]
    make_result("step", 1, rows, None)
    for model in ("wan", "hunyuan video"):
        own = {str(row["method"]): row for row in rows if row["model"] == model}
        assert list(own) == ["stock", "off", "kvshare"]
        assert own["off"]["gflop"] == own["stock"]["gflop"] == own["stock"]["floor_gflop"]
        done, floor, stock = (float(str(own[name][figure])) for name, figure in FIGURES)
        # Beside that, masks are found and followed.
        assert stock < floor <= done < 1.1 * floor
        for row in own.values():
            assert all(float(str(row[part])) >= 0 for part in ("products_ms", "copies_ms", "others_ms", "outside_ms"))
            assert float(str(row["step_ms"])) > 0


FIGURES = (("kvshare", "gflop"), ("kvshare", "floor_gflop"), ("stock", "gflop"))


def test_products_and_attention_are_counted() -> None:
    query, key = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4)
    assert attention_flops(query.shape, key.shape) == 2 * 2 * (2 * 3 * 5 * 7 * 4)
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    assert counted(lambda: fused(query, key, key)) == pytest.approx(1680 * 2e-9)
    assert counted(lambda: query @ key.mT) == pytest.approx(840 * 2e-9)
