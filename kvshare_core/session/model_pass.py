"""What holds for one model call on the long latent."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..plan import schedule
from ..plan.share_plan import SharePlan
from .settings import RunSettings


@dataclass(frozen=True)
class ModelPass:
    """One model call on the long latent, in which every segment is evaluated."""

    step: int
    """The sampler step it belongs to, counted from 0."""
    strengths: tuple[float, ...]
    """Of the source keys in every segment."""
    shares: bool
    finds_subjects: bool
    """Whether its attention maps, or the effect of words in it, count for the subjects' masks."""
    repeats: bool
    """Whether it is at the same sigma as the pass before: guidance that perturbs the model."""


def plan_pass(
    settings: RunSettings, sigma: float, sample_sigmas: Sequence[float], finds_subjects: bool, repeats: bool
) -> ModelPass:
    """The pass at `sigma` of a run whose sigmas are `sample_sigmas`, falling, with the final one."""
    plan = settings.plan
    step, steps = schedule.step_of(sigma, sample_sigmas), len(sample_sigmas) - 1
    strengths = _strengths(plan, step, steps)
    high, low = settings.sigma_window
    shares = (
        low <= sigma <= high
        and bool(settings.blocks)
        and max(strengths) > 0
        and schedule.shares_step(plan.config, step)
    )
    return ModelPass(step, strengths, shares, finds_subjects, repeats)


def sharing_steps(settings: RunSettings, sample_sigmas: Sequence[float]) -> list[int]:
    """The steps of a run with those sigmas that are to share."""
    sigmas = enumerate(sample_sigmas[:-1])
    return [step for step, sigma in sigmas if plan_pass(settings, sigma, sample_sigmas, False, False).shares]


def _strengths(plan: SharePlan, step: int, steps: int) -> tuple[float, ...]:
    return tuple(
        plan.strength(segment.index, step, steps) if plan.sources(segment.index) else 0.0
        for segment in plan.timeline.segments
    )
