"""The subject in blocks whose frames are rows, and in blocks of another grid: by words, by likeness, at a point."""

from dataclasses import replace

import pytest
import torch

from kvshare_core.attention.log_sum_exp import LogSumExpAttention
from kvshare_core.config import KVShareConfig
from kvshare_core.families.base import AttentionCall, CallSite
from kvshare_core.forward.call import AttentionContext
from kvshare_core.forward.forward import Batch, Forward, PromptText
from kvshare_core.plan.share_plan import SharePlan
from kvshare_core.point.watcher import PointWatcher
from kvshare_core.prompt_words import SubjectTokens
from kvshare_core.record.look_point import LookPoint
from kvshare_core.record.record import Examples
from kvshare_core.subject import maps
from kvshare_core.subject.evidence import Evidence
from kvshare_core.subject.map_reader import MapReader
from tests.support.fake_family import COND, UNCOND, timeline_of
from tests.support.share_plans import one_subject

GRID = (3, 2, 4)
WORDS = SubjectTokens((1,), (2, 3))


def tensor(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plan_of(**options: object) -> SharePlan:
    timeline = timeline_of(2, GRID[0], overlap=0)
    return SharePlan(timeline, KVShareConfig(), cast=one_subject(WORDS), beat_tokens=((0, 1, 2, 3),), **options)  # pyright: ignore


def context_of(plan: SharePlan, site: CallSite, query: torch.Tensor, key: torch.Tensor) -> AttentionContext:
    """A call of two latents with and two without the prompt; tensors: of all frames as tokens, [4, heads, ...]."""
    forward = Forward(plan.timeline.segments[0], Batch((COND, UNCOND), 0, 2), PromptText(5), GRID)

    def laid_out(tokens: torch.Tensor) -> torch.Tensor:
        if not site.frames_as_rows:
            return tokens
        if site.kind == "cross" and tokens is key:
            return tokens.repeat_interleave(GRID[0], 0)
        return tokens.unflatten(2, (GRID[0], -1)).transpose(1, 2).flatten(0, 1)

    call = AttentionCall(laid_out(query), laid_out(key), laid_out(key))
    return AttentionContext(forward, call, site, lambda *_: query, LogSumExpAttention())


def silent(_said: str) -> None:
    raise AssertionError(_said)


def test_words_are_read_in_rows_as_in_tokens() -> None:
    plan, query, key = plan_of(), tensor(0, 4, 2, 24, 6), tensor(1, 4, 2, 5, 6)
    reader = MapReader(plan, maps.subject_score, silent)
    as_tokens = reader.scores(context_of(plan, CallSite(0, "cross"), query, key), None)
    as_rows = reader.scores(context_of(plan, CallSite(0, "cross", frames_as_rows=True), query, key), None)
    assert as_tokens is not None and as_rows is not None and as_tokens[0].shape == (2, 24)
    torch.testing.assert_close(as_rows[0], as_tokens[0])


def test_words_in_a_coarser_block_are_read_on_the_masks_grid() -> None:
    plan, site = plan_of(), CallSite(0, "cross", grid=(3, 1, 2), frames_as_rows=True)
    found = MapReader(plan, maps.subject_score, silent).scores(
        context_of(plan, site, tensor(0, 4, 2, 6, 6), tensor(1, 4, 2, 5, 6)), None
    )
    assert found is not None and found[0].shape == (2, 24)


def likeness(plan: SharePlan, site: CallSite, tokens: torch.Tensor, examples: Examples) -> torch.Tensor:
    evidence = Evidence(replace(plan, config=KVShareConfig()), 8)
    evidence.examples[0] = examples
    assert evidence.add_likeness(context_of(plan, site, tokens, tokens))
    return evidence.score(0)


def examples_in(frame: int) -> Examples:
    """Of both latents, one token of one frame as subject, and all others of that frame as the rest."""
    subject, rest = torch.zeros(2, 1, 2, *GRID, dtype=torch.bool).unbind(0)
    subject[:, :, frame, 0, 0] = True
    rest[:, :, frame] = ~subject[:, :, frame]
    return Examples(subject.flatten(2), rest.flatten(2))


def test_likeness_counts_over_the_clip_where_frames_are_rows() -> None:
    """Also in frames that have no example of their own."""
    plan, tokens, examples = plan_of(), tensor(2, 4, 2, 24, 6), examples_in(1)
    as_tokens = likeness(plan, CallSite(0, "self"), tokens, examples)
    as_rows = likeness(plan, CallSite(0, "self", frames_as_rows=True), tokens, examples)
    assert torch.isfinite(as_rows).all()
    torch.testing.assert_close(as_rows, as_tokens)


@pytest.mark.parametrize("grid", [(3, 1, 2), (3, 4, 8)])
def test_likeness_in_a_block_of_another_grid_finds_what_looks_alike(grid: tuple[int, int, int]) -> None:
    """The left half of every frame is alike, and so is the right one."""
    plan, (frames, height, width) = plan_of(), grid
    left = (torch.arange(width) < width // 2).expand(frames, height, width).flatten()
    looks = torch.where(left[:, None], tensor(3, 6), tensor(4, 6)) + 0.01 * tensor(5, len(left), 6)
    tokens = looks.expand(4, 2, -1, -1)
    found = likeness(plan, CallSite(0, "self", grid=grid, frames_as_rows=True), tokens, examples_in(0))
    subject = found[0].unflatten(-1, GRID)
    assert torch.isfinite(found).all()
    assert subject[..., 0].min() > subject[..., -1].max()


def looked_at(site: CallSite, tokens: torch.Tensor) -> torch.Tensor:
    watcher = PointWatcher(replace(plan_of(), look=LookPoint(0.6, 0.6, 4)))
    watcher.add_map(context_of(watcher.plan, site, tokens, tokens))
    watcher.end_pass()
    found = watcher.recorded()
    assert found is not None
    return found.heat


def test_a_point_looks_at_its_own_frame_where_frames_are_rows() -> None:
    tokens, place = tensor(6, 4, 2, 24, 6), (1, 1, 2)
    heat = looked_at(CallSite(0, "self", frames_as_rows=True), tokens)[:, : GRID[0]]
    own = tokens.unflatten(2, GRID)[:2, :, place[0]].flatten(2, 3)
    query = tokens.unflatten(2, GRID)[:2, :, place[0], place[1], place[2]]
    weights = ((own * query[:, :, None]).sum(-1) * 6**-0.5).softmax(-1).mean(1)
    expected = torch.zeros(2, *GRID)
    expected[:, 1] = (weights / weights.amax(-1, keepdim=True)).unflatten(-1, GRID[1:])
    torch.testing.assert_close(heat, expected)


def test_rows_of_the_prompt_are_those_of_all_its_frames() -> None:
    plan = plan_of()
    context = context_of(plan, CallSite(0, "self", frames_as_rows=True), *[tensor(7, 4, 2, 24, 6)] * 2)
    assert context.conditional_rows == slice(0, 6) and context.chunk_rows == 6
    assert context.video == slice(0, 8)
    masks = context.key_masks
    assert masks is not None and len(masks) == 12
