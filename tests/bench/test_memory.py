"""What a shared call holds at full size stays within twice the model's own call, and within what the plan says."""

from collections.abc import Iterator

import pytest
import torch

from bench.memory import DEFAULTS, IN_FP8, Model, configurations, measure, model_of
from bench.released import RELEASED
from kvshare_core.attention import pieces

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
