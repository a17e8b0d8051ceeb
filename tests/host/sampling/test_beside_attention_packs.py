"""Sharing beside packs that change a model's attention: guidance with calls of its own, overrides, replaced blocks."""

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch

from kvshare_core.config import KVShareConfig
from tests.support.family_cases import CASES, model_of
from tests.support.family_contracts import SHARED, sample
from tests.support.neighbours import with_negative_guidance
from tests.support.windows import PlainWindows, share, tiny_timeline
from tests.tiny.models import random_text

CASE = CASES["wan t2v"]
TIMELINE = tiny_timeline(3)
NEGATIVE = random_text(77, 6)


def messages_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.name == "kvshare"]


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("ours_first", [False, True])
def test_a_film_with_negative_guidance_shares_as_one_without(
    cfg: float, ours_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Guidance that goes nowhere makes all its calls and changes nothing."""

    def film(config: KVShareConfig, share_of_guidance: float | None) -> torch.Tensor:
        def guided(model: Any) -> Any:
            if share_of_guidance is None:
                return model
            return with_negative_guidance(model, NEGATIVE, 5.0, share_of_guidance)

        model = model_of(CASE.name)
        made = guided(share(model, TIMELINE, config)[0]) if ours_first else share(guided(model), TIMELINE, config)[0]
        return sample(CASE, made, TIMELINE, steps=3, cfg=cfg)

    off = replace(SHARED, mode="off")
    caplog.set_level(logging.WARNING)
    plain, unshared = film(SHARED, None), film(off, None)
    assert messages_of(caplog) == []
    neutral = film(SHARED, 0.0)
    messages = messages_of(caplog)
    assert len(messages) == (1 if cfg == 1 else 2)
    assert all(message.endswith("only that call is left unshared.") for message in messages)
    torch.testing.assert_close(neutral, plain, rtol=1e-3, atol=1e-3)
    assert (plain - unshared).abs().max() > 1e-2 * plain.abs().max()
    guided, apart = film(SHARED, 0.5), film(off, 0.5)
    assert (guided - apart).abs().max() > 1e-2 * guided.abs().max()
    windows = sample(
        CASE,
        PlainWindows(TIMELINE).on(with_negative_guidance(model_of(CASE.name), NEGATIVE, 5.0)),
        TIMELINE,
        steps=3,
        cfg=cfg,
    )
    torch.testing.assert_close(apart, windows, rtol=1e-3, atol=1e-3)
