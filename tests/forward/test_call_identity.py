"""Which of the model's own attention calls a call is, where the host tells the block."""

from typing import Any

import pytest
import torch

from kvshare_core.families.base import AttentionCall, CallSite, UnexpectedCallError
from kvshare_core.forward.call import next_site
from kvshare_core.forward.forward import Batch, Forward, PromptText
from tests.support.fake_family import COND, UNCOND, FakeFamily, self_and_cross, timeline_of

GRID = (3, 2, 2)


def told(block: int, tokens: int, rows: int = 2, keys: int | None = None) -> AttentionCall:
    """A call over so many tokens, in a block that the host names."""
    generator = torch.Generator().manual_seed(tokens)
    query, key = (torch.randn(rows, 2, count, 4, generator=generator) for count in (tokens, keys or tokens))
    return AttentionCall(query, key, key, options={"block_index": block})


class CheckedFamily(FakeFamily):
    """Two blocks that attend to a video of 12 tokens, then to a text of 5; told apart by their keys."""

    def classify(self, diffusion_model: Any, call_index: int, call: AttentionCall, *tokens: int) -> CallSite:
        site = super().classify(diffusion_model, call_index, call, *tokens)
        expected = 12 if site.kind == "self" else 5
        if call.key_tokens != expected:
            raise UnexpectedCallError(f"{call.key_tokens} key tokens instead of {expected}")
        return site


@pytest.mark.parametrize(
    "foreign",
    [
        pytest.param(told(1, 12, keys=5), id="to another text"),
        pytest.param(told(1, 12, keys=4), id="to other tokens"),
        pytest.param(told(1, 12, rows=1), id="of one row of two"),
    ],
)
def test_where_the_host_tells_the_block_a_call_that_does_not_fit_costs_that_call(foreign: AttentionCall) -> None:
    family = CheckedFamily(self_and_cross(2))
    own = [told(block, 12, keys=keys) for block in range(2) for keys in (12, 5)]
    for calls in ([*own[:2], own[2], own[3], foreign], [foreign, *own], [*own[:2], foreign, *own[2:]]):
        forward = Forward(timeline_of(1, GRID[0]).segments[0], Batch((COND, UNCOND)), PromptText(5), GRID)
        sites: list[CallSite | None] = []
        for call in calls:
            try:
                sites.append(next_site(family, None, forward, call))
            except UnexpectedCallError as reason:
                assert not reason.lost and reason.doubted is None
                sites.append(None)
        assert sites.index(None) == next(place for place, call in enumerate(calls) if call is foreign)
        assert [site for site in sites if site is not None] == self_and_cross(2)
        assert forward.cache.met == {0, 1}


def test_a_second_attention_to_the_video_in_a_block_puts_that_block_in_doubt() -> None:
    family, own = CheckedFamily(self_and_cross(2)), [told(1, 12), told(1, 12, keys=5)]
    for calls in ([own[0], own[0], own[1]], [*own, own[0]]):
        forward = Forward(timeline_of(1, GRID[0]).segments[0], Batch((COND, UNCOND)), PromptText(5), GRID)
        doubted: list[int | None] = []
        for call in calls:
            try:
                next_site(family, None, forward, call)
            except UnexpectedCallError as reason:
                doubted.append(reason.doubted)
        assert doubted == [1]
