"""Which sampler step and which transformer block share."""

from collections.abc import Sequence

from .config import KVShareConfig


def step_of(sigma: float, sample_sigmas: Sequence[float]) -> int:
    """Index of the sampler step that a model call at `sigma` belongs to.

    `sample_sigmas` are the run's sigmas, falling, with the final one. A sigma between two entries (samplers that
    evaluate the model more than once a step) belongs to the step it lies in.
    """
    tolerance = 1e-6 * max(1.0, abs(sigma))
    return sum(1 for reached in sample_sigmas[1:] if reached >= sigma - tolerance)


def _selected(index: int, start: int, end: int, chosen: tuple[int, ...]) -> bool:
    if chosen:
        return index in chosen
    return index >= start and (end == -1 or index < end)


def shares_step(config: KVShareConfig, step: int) -> bool:
    """Whether `config` shares anything in sampler step `step`."""
    return config.shares and _selected(step, config.start_step, config.end_step, config.step_idx)


def shares_block(config: KVShareConfig, block: int) -> bool:
    """Whether `config` shares in transformer block `block`, in a step that shares."""
    return _selected(block, config.start_layer, config.end_layer, config.layer_idx)
