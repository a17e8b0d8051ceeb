"""A call that is computed in pieces of rows and heads comes out as in one."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from kvshare_core.attention import pieces
from kvshare_core.attention.rope import embed_nd_scheme
from kvshare_core.config import KVShareConfig
from kvshare_core.plan.share_plan import SharePlan
from tests.support.fake_family import COND, UNCOND, FakeModel, Outputs, joint, timeline_of
from tests.support.share_plans import one_subject

GRID = (3, 2, 3)
HIDDEN = torch.finfo(torch.float64).min


def run(config: KVShareConfig, masked: bool) -> tuple[list[Outputs], FakeModel]:
    """A pass of three segments, four query heads to two key heads, two latents, and a prompt of which one row's padding
    is hidden."""
    mask = (torch.rand(1, 2, 3, generator=torch.Generator().manual_seed(3)) < 0.5).float()
    plan = SharePlan(timeline_of(3, GRID[0]), config)
    if masked:
        plan = replace(plan, cast=one_subject(), mask=mask)
    hidden = torch.zeros(18 + 4, dtype=torch.float64)
    hidden[2:4] = HIDDEN
    model = FakeModel(
        plan,
        joint(2, video_start=4, text_start=0),
        GRID,
        rows=2,
        outside=4,
        text_tokens=4,
        heads=(4, 2),
        head_dim=8,
        masks={COND: torch.zeros(18 + 4, dtype=torch.float64), UNCOND: hidden},
        scheme=embed_nd_scheme((4, 2, 2), 10000.0),
    )
    session = model.session()
    outputs = [outputs for _, outputs in model.run_pass(session)]
    assert session.shared_calls == 2 * 2 * (4 if config.share_uncond else 2)
    assert len(session.bank) == 0
    return outputs, model


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("share_uncond", [False, True])
@pytest.mark.parametrize("values", [{"mode": "swap"}, {"mode": "extend", "strength": 1.0}, {"mode": "replace"}])
@pytest.mark.parametrize("position", ["centred", "matched", "frame"])
def test_pieces_make_the_same_output(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], position: Any, share_uncond: bool, masked: bool
) -> None:
    config = KVShareConfig(position=position, sources="first and previous", share_uncond=share_uncond, **values)
    whole, at_once = run(config, masked)
    monkeypatch.setattr(pieces, "LEAST_ELEMENTS", 1)
    divided, in_pieces = run(config, masked)
    for one, other in zip(whole, divided, strict=True):
        for place in one:
            for found, expected in zip(other[place], one[place], strict=True):
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert {rows for rows, _ in in_pieces.backend_calls} <= {1, 2} and at_once.backend_calls != in_pieces.backend_calls
