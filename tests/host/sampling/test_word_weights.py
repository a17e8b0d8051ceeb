"""Weighed words in every model that the host runs."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from comfy.patcher_extension import WrappersMP

from kvshare_core.config import KVShareConfig
from kvshare_core.host.sampling.patch import apply
from kvshare_core.plan.making import make_plan
from kvshare_core.script.film import WordWeight
from kvshare_core.timeline.timeline import Timeline
from tests.support.family_cases import CASES, FamilyCase, model_of
from tests.support.present import present
from tests.support.windows import tiny_timeline
from tests.tiny.models import Sampling

OFF = KVShareConfig(mode="off", carry_image=False)


def weighed(timeline: Timeline, weight: float) -> Timeline:
    """The same, with `weight: fox ...` after every prompt."""
    said = (WordWeight("fox", weight),)
    beats = tuple(replace(beat, script=replace(beat.script, weights=said)) for beat in timeline.beats)
    return replace(timeline, beats=beats)


def run(case: FamilyCase, timeline: Timeline, cfg: float = 1.0, config: KVShareConfig = OFF) -> torch.Tensor:
    patched, _ = apply(model_of(case.name), make_plan(timeline, config, "", None))
    prompts = case.positive(timeline), case.negative(timeline)
    return case.run(Sampling(1, cfg=cfg), patched, *prompts, case.shape(timeline))


@pytest.mark.parametrize("name", CASES)
def test_a_weight_changes_the_prompts_rows_and_no_others(name: str) -> None:
    case = present(name)
    timeline = case.timeline(2)
    plain = run(case, timeline)
    assert torch.equal(run(case, weighed(timeline, 1.0)), plain)
    assert (run(case, weighed(timeline, 4.0)) - plain).abs().max() > 1e-6
    # At guidance 0 the result is the negative conditioning's.
    torch.testing.assert_close(
        run(case, weighed(timeline, 4.0), cfg=0.0), run(case, timeline, cfg=0.0), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("transition", ["", "sharing"])
def test_weight_2_is_the_word_twice(transition: str) -> None:
    case, timeline = CASES["wan t2v"], tiny_timeline(2)
    config = KVShareConfig(carry_image=False) if transition else OFF
    patched, _ = apply(model_of(case.name), make_plan(weighed(timeline, 2.0), config, "", None))
    plain, _ = apply(model_of(case.name), make_plan(timeline, config, "", None))
    positive = case.positive(timeline)
    twice = [[torch.cat([text, text[:, :2]], 1), extra] for text, extra in positive]
    found, expected = (
        Sampling(2, cfg=1.0).run(model, given, case.negative(timeline), case.shape(timeline))
        for model, given in ((patched, positive), (plain, twice))
    )
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_hidden_words_stay_hidden_whatever_their_weight() -> None:
    case, timeline = CASES["wan t2v"], tiny_timeline(2)
    found: list[list[torch.Tensor]] = []
    for given in (timeline, weighed(timeline, 4.0)):
        patched, _ = apply(model_of(case.name), make_plan(given, KVShareConfig(carry_image=False), "fox", None))
        outputs: list[torch.Tensor] = []

        def look(executor: Any, *args: Any, outputs: list[torch.Tensor] = outputs) -> Any:
            output = executor(*args)
            if args[5]["context_window"].hides is not None:
                outputs.append(output.clone())
            return output

        patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
        Sampling(1, cfg=1.0).run(patched, case.positive(timeline), case.negative(timeline), case.shape(timeline))
        found.append(outputs)
    assert found[0]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_text_that_the_host_repeats_counts_as_one() -> None:
    """A negative text of twice the length, which says the same twice, changes nothing."""
    case, timeline = CASES["wan t2v"], tiny_timeline(2)
    config = KVShareConfig(carry_image=False)
    (text, extra), *_ = case.negative(timeline)
    found: list[torch.Tensor] = []
    for negative in (text, torch.cat([text, text], 1)):
        patched, _ = apply(model_of(case.name), make_plan(weighed(timeline, 4.0), config, "fox", None))
        prompts = case.positive(timeline), [[negative, extra]]
        found.append(Sampling(3, cfg=3.0).run(patched, *prompts, case.shape(timeline)))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
