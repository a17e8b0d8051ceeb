"""What looking for the subject costs in a film of an embedded model, in evaluations of the model."""

from dataclasses import replace

import pytest

from bench.evaluations import Evaluations
from bench.methods import METHODS, Method
from bench.pipeline import load_pipeline

PROMPTS = ("a circle moves left on grass", "a circle moves up on grass", "a circle moves right on grass")


def search_cost(method: Method, steps: int, cfg: float) -> float:
    clip = load_pipeline().generate(PROMPTS, seed=3, overlap=2, method=method, subject="circle", steps=steps, cfg=cfg)
    return clip.search_cost


def test_the_effect_of_words_costs_one_evaluation_of_one_segment() -> None:
    shipped = METHODS["kvshare"]
    from_maps = replace(shipped, config=replace(shipped.config, masks=replace(shipped.config.masks, start="maps")))
    assert search_cost(shipped, 4, 1.0) == pytest.approx(1 / (4 * len(PROMPTS)))
    assert search_cost(shipped, 2, 3.0) == pytest.approx(1 / (2 * 2 * len(PROMPTS)))
    assert search_cost(from_maps, 2, 1.0) == 0
    assert search_cost(METHODS["isolated"], 2, 1.0) == 0


def test_every_row_of_a_clip_of_the_model_alone_is_counted() -> None:
    pipeline, evaluations = load_pipeline(), Evaluations()
    pipeline.with_model(evaluations.counted(pipeline.model)).single_clips([PROMPTS[0]] * 3, 1, steps=2, cfg=2.0)
    assert (evaluations.of_film, evaluations.of_search) == (2 * 2 * 3, 0)
