"""Weighed words in a session: which rows, in which calls, and beside sharing."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from kvshare_core.config import KVShareConfig
from kvshare_core.families.base import AttentionCall
from kvshare_core.plan.share_plan import SharePlan
from tests.oracles.dense_reference import Tokens, dense_attention, heads_together, joint_sharing_bias
from tests.oracles.word_weights import weighed_attention
from tests.support.fake_family import COND, UNCOND, FakeModel, joint, self_and_cross, timeline_of

GRID = (3, 2, 2)
VIDEO = 12
TEXT = 4
WEIGHTS: Mapping[int, float] = {0: 2.0, 2: 0.5}


@pytest.mark.parametrize("form", ["normalised", "paper"])
def test_cross_attention_weighs_the_words_of_the_prompts_rows_alone(form: Any) -> None:
    config = KVShareConfig(mode="off", reweight_form=form)
    plan = SharePlan(timeline_of(1, 3), config, weights=(WEIGHTS,))
    model = FakeModel(plan, self_and_cross(2), GRID, rows=2, text_tokens=TEXT)
    ((evaluation, outputs),) = model.run_pass(model.session())
    for (chunk, row), found in outputs.items():
        for number, output in enumerate(found):
            query, key, value = model.tensors(0, evaluation.role, number, chunk, row)
            expected = dense_attention(query, key, value)
            if model.sites[number].kind == "cross" and chunk == COND:
                scores = torch.einsum("bhqd,bhkd->bhqk", query, key) * query.shape[-1] ** -0.5
                factor = torch.tensor([WEIGHTS.get(token, 1.0) for token in range(TEXT)], dtype=torch.float64)
                seen = (scores.exp() * factor) if form == "normalised" else scores.softmax(-1) * factor
                seen = seen / seen.sum(-1, keepdim=True) if form == "normalised" else seen
                expected = torch.einsum("bhqk,bhkd->bqhd", seen, value).flatten(2)
            assert (heads_together(output) - expected).abs().max() < 1e-10


@pytest.mark.parametrize("form", ["normalised", "paper"])
@pytest.mark.parametrize("mode", ["extend", "swap", "replace"])
def test_words_are_weighed_in_the_rows_that_share(mode: Any, form: Any) -> None:
    config = KVShareConfig(
        mode=mode, strength=0.4, position="same", layer_idx=(0,), share_text=mode == "replace", reweight_form=form
    )
    plan = SharePlan(timeline_of(2, 3, beats=2), config, weights=({}, WEIGHTS))
    model = FakeModel(plan, joint(2, 0, VIDEO), GRID, outside=TEXT, text_tokens=TEXT)
    results = model.run_pass(model.session())
    places = {VIDEO + token: weight for token, weight in WEIGHTS.items()}
    tokens = Tokens(VIDEO + TEXT, range(VIDEO))
    for evaluation, outputs in results:
        segment = evaluation.segment.index
        for (chunk, row), found in outputs.items():
            for number, output in enumerate(found):
                query, key, value = model.tensors(segment, evaluation.role, number, chunk, row)
                keys, values = [key], [value]
                if segment == 1 and number == 0:
                    _, source_key, source_value = model.tensors(0, evaluation.role, number, chunk, row)
                    keys, values = [key, source_key], [value, source_value]
                bias = joint_sharing_bias(config, 0.4, tokens, [tokens] * (len(keys) - 1))
                weights = places if segment == 1 and chunk == COND else {}
                expected = weighed_attention(
                    query, torch.cat(keys, 2), torch.cat(values, 2), bias, range(VIDEO), weights, form == "normalised"
                )
                assert (heads_together(output) - expected).abs().max() < 1e-10
    assert UNCOND in {chunk for _, outputs in results for chunk, _ in outputs}


def test_a_prompt_without_weights_leaves_every_call_to_the_host() -> None:
    plan = SharePlan(timeline_of(2, 3, beats=2), KVShareConfig(mode="off"), weights=({}, {1: 3.0}))
    model = FakeModel(plan, joint(2, 0, VIDEO), GRID, outside=TEXT, text_tokens=TEXT)
    session = model.session()
    first, second = session.begin_pass(1.0, (1.0, 0.0))
    assert not session.takes_part(first)
    assert session.takes_part(second)


def test_words_of_a_common_prompt_are_not_the_beats() -> None:
    plan = SharePlan(timeline_of(1, 3), KVShareConfig(mode="off"), weights=(WEIGHTS,))
    model = FakeModel(plan, self_and_cross(1), GRID, text_tokens=TEXT)
    session = model.session()
    (evaluation,) = session.begin_pass(1.0, (1.0, 0.0))
    forward = model.open_forward(session, evaluation, own=False)
    assert forward is not None
    for number in range(2):
        call = AttentionCall(*(torch.cat([one, one]) for one in model.tensors(0, "plain", number, COND, 0)))
        assert session.attend(forward, call, model.backend) is None


def test_weights_that_leave_no_word_are_told_and_left_out() -> None:
    plan = SharePlan(timeline_of(1, 3), KVShareConfig(mode="off"), weights=(dict.fromkeys(range(TEXT), 0.0),))
    model = FakeModel(plan, self_and_cross(1), GRID, text_tokens=TEXT)
    ((evaluation, outputs),) = model.run_pass(model.session())
    query, key, value = model.tensors(0, evaluation.role, 1, COND, 0)
    assert (heads_together(outputs[COND, 0][1]) - dense_attention(query, key, value)).abs().max() < 1e-10
    assert any("weight 0" in warning for warning in model.warnings)


def test_weights_beyond_what_the_model_received_are_told() -> None:
    plan = SharePlan(timeline_of(1, 3), KVShareConfig(mode="off"), weights=({TEXT: 2.0},))
    model = FakeModel(plan, self_and_cross(1), GRID, text_tokens=TEXT)
    model.run_pass(model.session())
    assert any("more tokens than the model received" in warning for warning in model.warnings)
