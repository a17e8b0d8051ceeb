"""Films of several real worker processes are, bit for bit, those of one."""

from pathlib import Path
from typing import Any

import pytest
import torch

from kvshare_core.host.sampling.patch import apply
from kvshare_core.host.sampling.segment_call import SegmentCall
from kvshare_core.host.workers.crew import Crew
from kvshare_core.host.workers.film_run import FilmRun
from kvshare_core.host.workers.settings import WorkerSettings
from kvshare_core.host.workers.workers import with_workers
from kvshare_core.plan.making import make_plan
from kvshare_core.plan.worker_split import split_segments
from tests.support.windows import latent_shape
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

pytestmark = pytest.mark.usefixtures("ray")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("diffusion_models")


@pytest.mark.parametrize("name", CASES)
def test_a_film_of_workers_is_that_of_one_process(name: str, models: Path) -> None:
    latents, records, _ = both(CASES[name], tiny_model(models))
    assert torch.isfinite(latents[0]).all()
    assert torch.equal(*latents)
    assert_same_masks(records)


def test_this_process_evaluates_nothing_and_what_travels_is_what_the_plan_tells(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, timeline = tiny_model(models), film_timeline(SIX)
    plan = make_plan(timeline, SHARED, "fox", None)
    expected, several = apply(model, plan)[0], with_workers(apply(model, plan)[0], WorkerSettings(workers=2))
    latent = sample(expected, timeline)
    sent: list[int] = []
    returned: list[int] = []
    message, keep = Crew._message, FilmRun._keep

    def counted_message(crew: Crew, *arguments: Any) -> Any:
        made = message(crew, *arguments)
        sent.append(sum(made.pieces[index].nbytes for index, _ in made.evaluations))
        return made

    def counted_keep(run: FilmRun, told: Any, replies: Any) -> None:
        found = (outputs for reply in replies for outputs, _ in reply.predictions.values())
        returned.append(sum(output.nbytes for outputs in found for output in outputs))
        keep(run, told, replies)

    def refuse(*_: Any) -> Any:
        raise AssertionError("a segment was evaluated in this process")

    monkeypatch.setattr(Crew, "_message", counted_message)
    monkeypatch.setattr(FilmRun, "_keep", counted_keep)
    monkeypatch.setattr(SegmentCall, "prediction", refuse)
    assert torch.equal(sample(several, timeline), latent)
    piece = latent[:, :, : timeline.window].nbytes
    assert sum(sent) + sum(returned) == 3 * split_segments(plan, 2).wire_bytes(piece, 2)


def test_masks_of_one_sampler_reach_the_workers_of_the_next(models: Path) -> None:
    model, timeline = tiny_model(models), film_timeline(SIX)
    latents: list[torch.Tensor] = []
    for workers in (0, 2):
        first, record = film(model, timeline, SHARED)
        second, _ = apply(model, make_plan(timeline, SHARED, "fox", None), record)
        if workers:
            first, second = (with_workers(one, WorkerSettings(workers=workers)) for one in (first, second))
        half = sample(first, timeline, steps=4, last_step=2, force_full_denoise=False)
        assert record.latest() is not None
        noise = torch.zeros_like(half)
        latents.append(sample(second, timeline, steps=4, start_step=2, latent=half, noise=noise))
    assert torch.equal(*latents)


def test_frames_that_are_held_stay_and_only_the_others_are_divided(models: Path) -> None:
    model, timeline = tiny_model(models), film_timeline(SIX)
    latent = torch.randn(latent_shape(timeline), generator=torch.Generator().manual_seed(8))
    mask = torch.zeros(1, 1, timeline.latent_frames, 1, 1)
    mask[:, :, 7:] = 1
    latents, _, _ = both(Case(), model, latent=latent, noise_mask=mask)
    assert torch.equal(*latents)
    assert torch.equal(latents[1][:, :, :7], latent[:, :, :7])


def test_a_patched_noise_schedule_and_loras_reach_the_workers(models: Path) -> None:
    model = tiny_model(models).clone()
    generator = torch.Generator().manual_seed(4)
    name = "diffusion_model.blocks.1.self_attn.q.weight"
    model.add_patches({name: ("diff", (0.1 * torch.randn(128, 128, generator=generator),))}, 0.8)
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    plain = both(Case(workers=2), tiny_model(models))[0][0]
    (model,) = ModelSamplingSD3().patch(model, 3.0)
    latents, _, _ = both(Case(), model)
    assert torch.equal(*latents)
    assert not torch.allclose(latents[0], plain)
