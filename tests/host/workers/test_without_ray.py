"""The same films by workers of this process, on every host: exactness, lost workers, and what one finds for others."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from kvshare_core.host.workers.film_run import FilmRun
from kvshare_core.host.workers.messages import CallReply, Failure
from kvshare_core.host.workers.settings import WorkerSettings
from kvshare_core.host.workers.workers import with_workers
from kvshare_core.session import sampling_run
from kvshare_core.subject.hidden_words import HiddenWords
from tests.support import worker_pool
from tests.support.worker_films import (
    CASES,
    SHARED,
    SIX,
    Case,
    assert_same_masks,
    both,
    film,
    film_timeline,
    sample,
    tiny_model,
)
from tests.support.worker_pool import PoolHere

Hire = Callable[..., list[PoolHere]]

TWO_SUBJECTS = (
    "subject: fox\nfox runs\nfox runs\nfox runs\n"
    + "fox runs | subject: fox | subject: runs\n" * 2
    + "fox runs | subject: runs\n"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_model(tmp_path_factory.mktemp("diffusion_models"))


@pytest.fixture
def hire(monkeypatch: pytest.MonkeyPatch) -> Hire:
    return partial(worker_pool.hire, monkeypatch)


@pytest.mark.parametrize("name", CASES)
def test_three_workers_make_the_film_of_one_process(name: str, model: Any, hire: Hire) -> None:
    pools = hire(3)
    latents, records, _ = both(replace(CASES[name], workers=3), model)
    assert len(pools) == 1
    assert torch.equal(*latents)
    assert_same_masks(records)


@pytest.mark.parametrize("lost", [(0, 1), (1, 2), (2, 3), (1, 4), (2, 5)])
@pytest.mark.parametrize("order", ["lockstep", "sources_first"])
def test_a_lost_worker_is_replaced_at_any_call(order: Any, lost: tuple[int, int], model: Any, hire: Hire) -> None:
    pools = hire(3, lost)
    latents, records, _ = both(Case(config=replace(SHARED, order=order), workers=3), model, steps=5)
    assert [pool.restarts for pool in pools] == [1]
    assert torch.equal(*latents)
    assert_same_masks(records)


@pytest.mark.parametrize("lost", [(0, 2), (1, 3), (2, 4)])
@pytest.mark.parametrize("order", ["lockstep", "sources_first"])
def test_where_no_other_can_be_started_one_that_is_left_goes_on(
    order: Any, lost: tuple[int, int], model: Any, hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = hire(3, lost)
    monkeypatch.setattr(FilmRun, "_started_again", lambda *_: False)
    latents, records, _ = both(Case(config=replace(SHARED, order=order), workers=3), model, steps=4)
    assert [pool.restarts for pool in pools] == [1]
    assert torch.equal(*latents)
    assert_same_masks(records)


def test_a_worker_without_memory_is_replaced_but_not_for_ever(
    model: Any, hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools, answer, faults = hire(2), PoolHere.answer, [1]

    def without_memory(pool: PoolHere, reference: Any) -> Any:
        found = answer(pool, reference)
        if isinstance(found, CallReply) and faults[0] > 0:
            faults[0] -= 1
            return Failure("memory", "CUDA out of memory")
        return found

    monkeypatch.setattr(PoolHere, "answer", without_memory)
    assert torch.equal(*both(Case(), model)[0])
    assert faults == [0] and pools[0].restarts == 1
    faults[0] = 9
    with pytest.raises(RuntimeError, match=r"lost 4 times in one step.*CUDA out of memory"):
        both(Case(), model)


def test_what_a_worker_refuses_is_said_as_it_says_it(model: Any, hire: Hire) -> None:
    hire(2)
    timeline = film_timeline(SIX)
    divided = with_workers(film(model, timeline, SHARED)[0], WorkerSettings(workers=2))
    handler = divided.model_options["context_handler"]
    source = replace(handler.elsewhere.source, name="gone.safetensors")
    elsewhere = replace(handler.elsewhere, source=source)
    divided.model_options["context_handler"] = replace(handler, elsewhere=elsewhere)
    with pytest.raises(ValueError, match=r"KV Share Workers: a worker stopped: .*gone\.safetensors"):
        sample(divided, timeline)


def test_guidance_of_other_nodes_stays_here_and_what_they_wrap_the_model_in_is_refused(model: Any, hire: Hire) -> None:
    hire(2)
    timeline = film_timeline(SIX)
    divided = with_workers(film(model, timeline, SHARED)[0], WorkerSettings(workers=2))
    divided.model_options["sampler_pre_cfg_function"] = [lambda arguments: arguments["conds_out"]]
    assert torch.isfinite(sample(divided, timeline)).all()
    divided.model_options["model_function_wrapper"] = lambda apply, arguments: apply(**arguments)
    with pytest.raises(ValueError, match="model_function_wrapper"):
        sample(divided, timeline)


def test_a_repeated_call_uses_the_masks_of_the_call_before(model: Any, hire: Hire) -> None:
    hire(2, (1, 4))
    latents, records, _ = both(Case(options={"sampler": "heun", "steps": 4}), model)
    assert torch.equal(*latents)
    assert_same_masks(records)


@pytest.mark.parametrize("script", [TWO_SUBJECTS, "subject: fox\nsubject: runs\n" + "fox runs\n" * 6])
@pytest.mark.parametrize("given_up", [(), (0,), (0, 1), (3,)])
def test_what_subjects_look_like_in_the_first_segment_that_shows_them_reaches_every_worker(
    script: str, given_up: tuple[int, ...], model: Any, hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = HiddenWords.record_effects

    def record(words: HiddenWords, index: int, plain: Any, hidden: Any, tracker: Any) -> bool:
        if index in given_up:
            tracker.give_up(index)
            return False
        return recorded(words, index, plain, hidden, tracker)

    monkeypatch.setattr(sampling_run.HiddenWords, "record_effects", record)
    hire(3)
    latents, records, _ = both(Case(script, subject="", workers=3), model)
    assert torch.equal(*latents)
    assert_same_masks(records)
    assert records[1].latest() is not None
    assert records[0].notices() == records[1].notices()


def test_a_film_of_many_workers_says_what_one_process_says(model: Any, hire: Hire, tmp_path: Path) -> None:
    hire(6)
    case = Case(config=replace(SHARED, step_idx=(0,)), workers=6)
    latents, records, _ = both(case, model)
    assert torch.equal(*latents)
    assert records[0].notices() == records[1].notices() != ()
