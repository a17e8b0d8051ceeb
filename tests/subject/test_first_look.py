"""A subject that one segment has found is found in the others by what it looks like there."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvshare_core.attention.log_sum_exp import LogSumExpAttention
from kvshare_core.config import KVShareConfig
from kvshare_core.families.base import AttentionCall, CallSite
from kvshare_core.forward.call import AttentionContext
from kvshare_core.forward.forward import Batch, Forward, PromptText
from kvshare_core.plan.share_plan import CastMember, SharePlan
from kvshare_core.prompt_words import SubjectTokens
from kvshare_core.subject import first_look
from kvshare_core.subject.evidence import Evidence
from tests.support.fake_family import COND, UNCOND, timeline_of

GRID = (3, 4, 4)
TOKENS = math.prod(GRID)
WORDS = SubjectTokens((1,), (2, 3))
BLOCKS = 4


def plan_of(*shown: tuple[bool, bool]) -> SharePlan:
    """A film whose beats show the fox and the dog or not."""
    fox, dog = (tuple(WORDS if one[number] else None for one in shown) for number in (0, 1))
    cast = (CastMember("fox", fox), CastMember("dog", dog))
    return SharePlan(timeline_of(len(shown), GRID[0], overlap=0, beats=len(shown)), KVShareConfig(), cast=cast)


def scene(seed: int, rows: int, looks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Values [2 rows, 2 heads, tokens, 6] of a segment in which each subject of `looks` [subjects, 12] covers tokens of
    its own, besides a background of the segment's own; and where the subjects are, bool [subjects, rows, tokens]."""
    generator = torch.Generator().manual_seed(seed)
    background = torch.randn(12, generator=generator)
    where = torch.zeros(len(looks), rows, TOKENS, dtype=torch.bool)
    value = background + 0.1 * torch.randn(rows, TOKENS, 12, generator=generator)
    for row in range(rows):
        places = torch.randperm(TOKENS, generator=generator)[: 6 * len(looks)].view(len(looks), 6)
        for number, look in enumerate(looks):
            where[number, row, places[number]] = True
            value[row, places[number]] = look + 0.1 * torch.randn(6, 12, generator=generator)
    return value.unflatten(-1, (2, 6)).transpose(1, 2).repeat(2, 1, 1, 1), where


def look_at(evidence: Evidence, plan: SharePlan, segment: int, value: torch.Tensor, block: int = 0) -> bool:
    """Shows the evidence one self-attention of a segment."""
    batch = Batch((COND, UNCOND), 0, len(value) // 2)
    forward = Forward(plan.timeline.segments[segment], batch, PromptText(5), GRID)
    call = AttentionCall(value, value, value)
    return evidence.look_first(
        AttentionContext(forward, call, CallSite(block, "self"), lambda *_: value, LogSumExpAttention())
    )


@given(st.integers(0, 999), st.integers(1, 2), st.booleans())
@settings(max_examples=25)
def test_segments_without_an_evaluation_of_their_own_find_what_the_first_one_found(
    seed: int, rows: int, two: bool
) -> None:
    plan = plan_of((True, two), (True, two))
    looks = 3 * torch.randn(1 + two, 12, generator=torch.Generator().manual_seed(seed))
    evidence = Evidence(plan, BLOCKS)
    (first, where), (second, there) = scene(seed + 1, rows, looks), scene(seed + 2, rows, looks)
    assert evidence.needs_effects(0) and evidence.needs_effects(1)
    assert not look_at(evidence, plan, 0, first)
    evidence.add_effects(0, where.float())
    assert not evidence.needs_effects(0) and not evidence.needs_effects(1)
    assert look_at(evidence, plan, 1, second)
    score = evidence.score(1)
    for number in range(len(looks)):
        for row in range(rows):
            own, others = there[number, row], ~there[number, row]
            assert score[number, row, own].min() > score[number, row, others].max()
    # What it found stands for the effects of words in later runs.
    assert torch.equal(evidence.effects[1].argsort(), score.argsort())


def test_a_subject_that_was_never_seen_is_looked_for_by_its_words() -> None:
    plan = plan_of((True, False), (True, True), (False, True), (False, False))
    looks = torch.randn(2, 12, generator=torch.Generator().manual_seed(0))
    evidence = Evidence(plan, BLOCKS)
    value, where = scene(1, 1, looks[:1])
    look_at(evidence, plan, 0, value)
    evidence.add_effects(0, where.float())
    assert [evidence.needs_effects(index) for index in range(4)] == [False, True, True, True]
    value, where = scene(2, 1, looks)
    look_at(evidence, plan, 1, value)
    evidence.add_effects(1, where.float())
    # Nothing is to be found in the last segment, which costs no evaluation and makes everything background.
    assert [evidence.needs_effects(index) for index in range(4)] == [False, False, False, True]


def test_nothing_is_known_of_a_subject_whose_words_were_never_hidden() -> None:
    plan = plan_of((True, False), (True, False))
    evidence = Evidence(plan, BLOCKS)
    value, _ = scene(3, 1, torch.ones(1, 12))
    look_at(evidence, plan, 0, value)
    evidence.drop_scores()
    assert evidence.needs_effects(1) and not look_at(evidence, plan, 1, value)


@pytest.mark.parametrize("most", [24, 12])
def test_of_a_long_clip_some_tokens_stand_for_all(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    plan = plan_of((True, False), (True, False))
    looks = 3 * torch.randn(1, 12, generator=torch.Generator().manual_seed(5))
    (first, where), (second, there) = scene(6, 1, looks), scene(7, 1, looks)
    # Examples on every sampled token, wherever the samples fall.
    where = torch.zeros_like(where)
    where[..., torch.linspace(0, TOKENS - 1, most).long()[: most // 2]] = True
    first[:, :, where[0, 0]] = looks.view(2, 1, 6)
    monkeypatch.setattr(first_look, "MOST_TOKENS", most)
    evidence = Evidence(plan, BLOCKS)
    look_at(evidence, plan, 0, first)
    evidence.add_effects(0, where.float())
    assert look_at(evidence, plan, 1, second)
    score = evidence.score(1)[0, 0]
    assert score[there[0, 0]].min() > score[~there[0, 0]].max()


@given(st.integers(1, 100))
def test_few_blocks_are_looked_at_and_these_from_the_whole_model(blocks: int) -> None:
    plan = plan_of((True, False), (True, False))
    value, where = scene(8, 1, torch.ones(1, 12))
    evidence = Evidence(plan, blocks)
    for block in range(blocks):
        look_at(evidence, plan, 0, value, block)
    evidence.add_effects(0, where.float())
    found = [block for block in range(blocks) if look_at(evidence, plan, 1, value, block)]
    assert len(found) == min(blocks, first_look.MOST_BLOCKS)
    gaps = [later - before for before, later in zip([-1, *found], [*found, blocks], strict=True)]
    assert max(gaps) <= math.ceil(blocks / len(found)) + 1
