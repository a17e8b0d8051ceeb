"""A run that is interrupted and resumed with its recorded masks ends where the unbroken one does."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from kvshare_core.config import KVShareConfig
from kvshare_core.host import HANDOVER_TAG
from kvshare_core.host.sampling.patch import apply
from kvshare_core.plan.making import make_plan
from kvshare_core.record.handover import Handover
from kvshare_core.record.record import KVShareRecord
from tests.support.windows import beat_prompts, latent_shape, tiny_timeline
from tests.tiny.models import Sampling, one_prompt, tiny_wan

STEPS, BREAK = 5, 3


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_wan()


def run(
    model: Any, earlier: KVShareRecord | None = None, latent: torch.Tensor | None = None, **window: Any
) -> tuple[torch.Tensor, KVShareRecord]:
    timeline = tiny_timeline(3)
    patched, record = apply(
        model, make_plan(timeline, KVShareConfig(mode="replace", strength=1.0), "fox", None), earlier
    )
    shape = latent_shape(timeline)
    noise = torch.zeros(shape) if latent is not None else None
    video = Sampling(steps=STEPS).run(
        patched, beat_prompts(timeline), one_prompt(), shape, noise=noise, latent=latent, **window
    )
    return video, record


def test_a_resumed_run_with_its_masks_equals_the_unbroken_one(model: Any) -> None:
    unbroken, _ = run(model)
    half, record = run(model, last_step=BREAK)
    rest: dict[str, Any] = {"latent": half, "start_step": BREAK, "disable_noise": True}
    resumed, _ = run(model, record, **rest)
    torch.testing.assert_close(resumed, unbroken, rtol=1e-4, atol=1e-4)
    forgetful, _ = run(model, **rest)
    assert (forgetful - unbroken).abs().max() > 1e-3


def handed_over(model: Any, handover: Handover, **window: Any) -> torch.Tensor:
    """A run of a MODEL of its own, of which nothing but the film's conditioning is wired to another sampler."""
    timeline = tiny_timeline(3)
    plan = make_plan(timeline, KVShareConfig(mode="replace", strength=1.0), "fox", None)
    latent = window.pop("latent", None)
    noise = torch.zeros(latent_shape(timeline)) if latent is not None else None
    positive = beat_prompts(timeline, **{HANDOVER_TAG: handover})
    return Sampling(steps=STEPS).run(
        apply(model, plan)[0], positive, one_prompt(), latent_shape(timeline), noise=noise, latent=latent, **window
    )


def test_a_second_sampler_starts_with_the_masks_of_the_latent_that_it_gets(model: Any) -> None:
    unbroken, _ = run(model)
    handover = Handover()
    half = handed_over(model, handover, last_step=BREAK)
    rest: dict[str, Any] = {"start_step": BREAK, "disable_noise": True}
    torch.testing.assert_close(handed_over(model, handover, latent=half, **rest), unbroken, rtol=1e-4, atol=1e-4)
    # A latent of no sampler of this film brings no masks, and so does one of a finished run.
    other = half + 1e-2
    assert torch.equal(
        handed_over(model, handover, latent=other, **rest), handed_over(model, Handover(), latent=other, **rest)
    )
    done = handed_over(model, handover)
    assert handover.masks_of(done) is None and handover.masks_of(half) is not None


def test_a_record_without_a_run_changes_nothing(model: Any) -> None:
    assert torch.equal(run(model, KVShareRecord())[0], run(model)[0])


def test_masks_of_another_film_are_refused(model: Any) -> None:
    _, record = run(model)
    timeline = tiny_timeline(2)
    patched, _ = apply(model, make_plan(timeline, replace(KVShareConfig(), mode="replace"), "fox", None), record)
    with pytest.raises(ValueError, match=r"known masks: they are of 3 segments .* this film has 2"):
        Sampling().run(patched, beat_prompts(timeline), one_prompt(), latent_shape(timeline))
