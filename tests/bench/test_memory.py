"""What a shared call holds at full size stays within twice the model's own call, and within what the plan says."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from bench.memory import DEFAULTS, GIB, IN_FP8, ON_META, Model, configurations, measure, model_of, shared_plan
from bench.released import RELEASED
from kvshare_core.attention import pieces
from kvshare_core.attention.log_sum_exp import LogSumExpAttention
from kvshare_core.plan.call_memory import unfused_bytes
from kvshare_core.plan.model_fit import fit_plan

MOST = 2.0
"""Most that a shared call may hold, over what the model's own call holds."""
NAMES = ("LTX-Video 2B 704x1216 121 frames", "CogVideoX-5B 480x720x49")
"""Models without and with joint attention and positions of their keys, and of few tokens: the bound is the same for
others, which take longer."""


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> Model:
    (released,) = [one for one in RELEASED if one.name == request.param]
    return model_of(released)


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("subject", [0.1, 0.5])
def test_a_shared_call_holds_at_most_twice_as_much_as_the_models_own(model: Model, subject: float, rows: int) -> None:
    found = [measure(model, config, subject, rows) for config in configurations(model)]
    assert {(row["mode"], row["position"]) for row in found} >= {("swap", "centred"), ("extend", "frame")}
    for row in found:
        peak, predicted, over = row["peak_gib"], row["predicted_gib"], row["over_stock"]
        assert isinstance(peak, float) and isinstance(predicted, float) and isinstance(over, float)
        assert 1 <= over <= MOST, row
        assert peak <= predicted <= 2 * peak, row


def test_a_call_in_one_piece_would_hold_more(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECES", 1)
    over = measure(model, DEFAULTS, 0.5, 2)["over_stock"]
    assert isinstance(over, float) and over > 1.5 * MOST


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("subject", [0.1, 0.5])
def test_keys_that_are_restored_from_8_bits_are_part_of_the_prediction(model: Model, subject: float, rows: int) -> None:
    row, plain = (measure(model, config, subject, rows) for config in (IN_FP8, DEFAULTS))
    peak, predicted, without = row["peak_gib"], row["predicted_gib"], plain["predicted_gib"]
    assert isinstance(peak, float) and isinstance(predicted, float) and isinstance(without, float)
    assert max(peak, without) <= predicted <= 2 * peak, (row, plain)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_device_without_a_fused_kernel_holds_more_as_predicted(model: Model, rows: int) -> None:
    """No kernel is known of the meta device."""
    fused = measure(model, DEFAULTS, 0.1, rows)
    unfused = measure(model, DEFAULTS, 0.1, rows, replace(ON_META, attention=LogSumExpAttention))
    more = unfused_bytes(fit_plan(shared_plan(model, DEFAULTS, 0.1), model.info), model.tokens, 0, rows) / GIB
    peak, predicted, without = unfused["peak_gib"], unfused["predicted_gib"], fused["peak_gib"]
    assert isinstance(peak, float) and isinstance(predicted, float) and isinstance(without, float)
    assert peak - without > more / 2
    assert predicted < peak <= predicted + more, (unfused, more)


def test_rotations_of_keys_are_part_of_the_prediction() -> None:
    """Where few heads are computed together, their tables weigh most."""
    (released,) = [one for one in RELEASED if one.name == "Wan 2.1-1.3B 480p 81 frames"]
    row = measure(model_of(released), replace(DEFAULTS, mode="extend", strength=1.0, position="matched"), 0.5, 2)
    assert row["peak_gib"] <= row["predicted_gib"] <= 1.5 * row["peak_gib"], row
