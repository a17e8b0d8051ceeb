"""Sharing in blocks with a grid of their own and frames as rows: every row equals dense float64 attention over its own
keys and those of the same frame in the sources, by masks of another grid."""

import math
from dataclasses import replace
from itertools import product

import pytest
import torch

from kvshare_core.config import KVShareConfig
from kvshare_core.families.base import CallSite
from kvshare_core.forward.view import Grid
from kvshare_core.plan.share_plan import SharePlan
from tests.oracles.dense_reference import Tokens, dense_attention, heads_together, joint_sharing_bias
from tests.support.fake_family import FakeModel, timeline_of
from tests.support.share_plans import one_subject

GRID = (2, 2, 4)
SHARED = KVShareConfig(layer_idx=(0, 1, 2), share_background=True, position="same")
Kept = dict[tuple[int, int, tuple[int, int], int, int], tuple[torch.Tensor, torch.Tensor]]


def owners_of(plan: SharePlan, segment: int, frame: int, block: Grid) -> torch.Tensor | None:
    """Which tokens of one frame are subject in a block, found pixel by pixel of the user's mask."""
    if plan.mask is None:
        return None
    first, stop = plan.timeline.picture_range(*[plan.timeline.segments[segment].start + frame + add for add in (0, 1)])
    subject = plan.mask[first:stop].mean(0) >= 0.5
    found = torch.zeros(block[1], block[2], dtype=torch.bool)
    for row, column in product(range(block[1]), range(block[2])):
        here = [
            bool(subject[y, x])
            for y, x in product(range(GRID[1]), range(GRID[2]))
            if (y * block[1] // GRID[1], x * block[2] // GRID[2]) == (row, column)
            or (block[1] > GRID[1] and (row * GRID[1] // block[1], column * GRID[2] // block[2]) == (y, x))
        ]
        found[row, column] = 2 * sum(here) >= len(here)
    return found.flatten()


@pytest.mark.parametrize("config", [
    SHARED,
    replace(SHARED, share_background=False),
    replace(SHARED, mode="replace", strength=0.7),
    replace(SHARED, mode="swap", strength=0.4, sources="previous"),
    replace(SHARED, position="frame"),
    replace(SHARED, position="centred", share_uncond=False),
], ids=["extend", "subject only", "replace", "swap", "frame", "prompt only"])  # fmt: skip
@pytest.mark.parametrize("block", [GRID, (2, 1, 2), (2, 4, 8)], ids=["same grid", "coarser", "finer"])
@pytest.mark.parametrize("guided", [False, True])
def test_rows_equal_dense_attention_over_the_same_frame_of_the_sources(
    config: KVShareConfig, block: Grid, guided: bool
) -> None:
    timeline = timeline_of(3, GRID[0], overlap=0)
    mask = (torch.rand(timeline.frames, *GRID[1:], generator=torch.Generator().manual_seed(1)) < 0.5).float()
    plan = SharePlan(timeline, config, cast=one_subject() if guided else (), mask=mask if guided else None)
    sites = [
        CallSite(0, "self", grid=block, frames_as_rows=True),
        CallSite(1, "self", grid=GRID, frames_as_rows=True),
        CallSite(2, "self", grid=block),
    ]
    model = FakeModel(plan, sites, GRID, rows=2)
    session = model.session()
    kept: Kept = {}
    for evaluation, outputs in model.run_pass(session):
        segment = evaluation.segment.index
        for (chunk, latent), calls in outputs.items():
            for number, output in enumerate(calls):
                own = sites[number].grid or GRID
                query, key, value = model.tensors(segment, evaluation.role, number, chunk, latent)
                assert output.shape == query.shape
                for row in range(len(query)):
                    kept[segment, number, chunk, latent, row] = key[row : row + 1], value[row : row + 1]
                    takes_part = config.share_uncond or chunk[0] == 0
                    sources = plan.sources(segment) if takes_part else ()
                    frames = [row] if len(query) > 1 else range(GRID[0])

                    def tokens_of(index: int) -> Tokens:
                        owners = [owners_of(plan, index, frame, own) for frame in frames]  # noqa: B023
                        known = [one for one in owners if one is not None]
                        length = len(frames) * math.prod(own[1:])  # noqa: B023
                        return Tokens(length, range(length), torch.cat(known) if known else None)

                    bias = joint_sharing_bias(
                        config,
                        config.strength,
                        tokens_of(segment),
                        [tokens_of(index) for index in sources],
                        math.prod(own[1:]),
                    )
                    pairs = [kept[index, number, chunk, latent, row] for index in (segment, *sources)]
                    keys, values = (torch.cat(tensors, 2) for tensors in zip(*pairs, strict=True))
                    expected = dense_attention(query[row : row + 1], keys, values, bias=bias)
                    torch.testing.assert_close(heads_together(output[row : row + 1]), expected, rtol=0, atol=1e-10)
    assert session.shared_calls > 0
    assert not model.warnings


def test_tokens_in_front_of_the_video_see_and_are_seen_as_before() -> None:
    """As a class token in every frame's row."""
    plan = SharePlan(timeline_of(2, GRID[0], overlap=0), replace(SHARED, layer_idx=(0,)))
    model = FakeModel(plan, [CallSite(0, "self", video_start=1, grid=GRID, frames_as_rows=True)], GRID, outside=1)
    results = model.run_pass(model.session())
    for evaluation, outputs in results:
        segment = evaluation.segment.index
        for (chunk, latent), (output,) in outputs.items():
            query, key, value = model.tensors(segment, evaluation.role, 0, chunk, latent)
            tokens = Tokens(9, range(1, 9))
            sources = [model.tensors(index, "both", 0, chunk, latent) for index in plan.sources(segment)]
            bias = joint_sharing_bias(SHARED, SHARED.strength, tokens, [tokens] * len(sources))
            for row in range(GRID[0]):
                keys = torch.cat([key[row], *(source[1][row] for source in sources)], 1)[None]
                values = torch.cat([value[row], *(source[2][row] for source in sources)], 1)[None]
                expected = dense_attention(query[row : row + 1], keys, values, bias=bias)
                torch.testing.assert_close(heads_together(output[row : row + 1]), expected, rtol=0, atol=1e-10)


def test_a_call_with_other_rows_than_its_frames_is_not_the_models() -> None:
    plan = SharePlan(timeline_of(2, GRID[0], overlap=0), replace(SHARED, layer_idx=(0,)))
    model = FakeModel(plan, [CallSite(0, "self", grid=GRID, frames_as_rows=True)], GRID)
    model.sites = [CallSite(0, "self", grid=GRID)]
    session = model.session()
    session.settings.family.sites = [CallSite(0, "self", grid=GRID, frames_as_rows=True)]  # pyright: ignore
    model.run_pass(session)
    assert session.shared_calls == 0
    assert any("2 batch rows where the evaluation has 4" in said for said in model.warnings)
