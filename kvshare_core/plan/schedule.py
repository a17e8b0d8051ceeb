"""Which step and which block share, how strongly, and in which order the segments are evaluated."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ..config import KVShareConfig, Order
from ..families.block_presets import GENERAL, BlockPreset, for_model
from ..timeline.timeline import Segment, Timeline

Role = Literal["plain", "both", "source", "target"]
"""What one evaluation of a segment does with keys: nothing, read and write, only write, only read."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of one segment in a model call on the long latent; its output counts `weight` times."""

    segment: Segment
    role: Role
    weight: float = 1.0


def plain_evaluations(timeline: Timeline, order: Order) -> list[Evaluation]:
    """Evaluations of a model call in which nothing is shared, in order: each segment once.

    In `ditctrl`, inner segments count twice, as in the paper's pairs (`sharing_evaluations`): unshared, both of their
    evaluations are the same.
    """
    last = len(timeline.segments) - 1
    return [
        Evaluation(segment, "plain", 2.0 if order == "ditctrl" and 0 < segment.index < last else 1.0)
        for segment in timeline.segments
    ]


def sharing_evaluations(timeline: Timeline, order: Order) -> list[Evaluation]:
    """Evaluations of a model call in which segments share, in order.

    `lockstep` and `sources_first` evaluate each segment once. `ditctrl` gives what the paper's pairs of neighbours
    give: every pair (k, k + 1) evaluates its source unshared and its target with the source's keys, so inner segments
    are evaluated twice, as target and as source (docs/ditctrl.md).
    """
    segments = timeline.segments
    if order != "ditctrl" or len(segments) == 1:
        return [Evaluation(segment, "both") for segment in segments]
    of_pairs: list[Evaluation] = []
    for segment in segments:
        # As target first: its source's keys are no longer needed once the segment's own are made.
        if segment.index > 0:
            of_pairs.append(Evaluation(segment, "target"))
        if segment.index < len(segments) - 1:
            of_pairs.append(Evaluation(segment, "source"))
    return of_pairs


def needed_evaluations(
    evaluations: Sequence[Evaluation], wanted: Collection[int], sources: Callable[[int], Iterable[int]]
) -> list[Evaluation]:
    """Those of a model call's evaluations without which the outputs of the segments `wanted` would be others.

    sources: the segments whose keys a segment looks at, and whose own sources must be right for that.
    """
    asked: set[int] = set()
    kept: list[Evaluation] = []
    for evaluation in reversed(evaluations):
        index = evaluation.segment.index
        if index in wanted or (evaluation.role != "target" and index in asked):
            kept.append(evaluation)
            if evaluation.role != "source":
                asked.update(sources(index))
    return kept[::-1]


def step_of(sigma: float, sample_sigmas: Sequence[float]) -> int:
    """Index of the sampler step that a model call at `sigma` belongs to.

    `sample_sigmas` are the run's sigmas, falling, with the final one. A sigma between two entries (samplers that
    evaluate the model more than once a step) belongs to the step it lies in.
    """
    tolerance = 1e-6 * max(1.0, abs(sigma))
    return sum(1 for reached in sample_sigmas[1:] if reached >= sigma - tolerance)


def shares_step(config: KVShareConfig, step: int) -> bool:
    """Whether sampler step `step` is one of those that `config` shares in, percent window and strength aside."""
    return config.mode != "off" and _selected(step, config.start_step, config.end_step, config.step_idx)


def shares_in(config: KVShareConfig, sigmas: Sequence[float], window: tuple[float, float]) -> bool:
    """Whether any step of a run shares; sigmas: those of the run, falling, with the final one; window: the highest and
    the lowest sigma that share."""
    high, low = window
    return any(low <= sigma <= high and shares_step(config, step) for step, sigma in enumerate(sigmas[:-1]))


def strength_at(config: KVShareConfig, step: int, steps: int) -> float:
    """Strength in sampler step `step` of `steps`: linear from the first shared step to the last that the run reaches,
    the percent window aside."""
    if config.end_strength is None:
        return config.strength
    if config.step_idx:
        reached = [number for number in config.step_idx if number < steps]
        first, last = min(reached, default=0), max(reached, default=0)
    else:
        first, last = config.start_step, (steps if config.end_step == -1 else min(config.end_step, steps)) - 1
    if first >= last:
        return config.strength
    progress = min(1.0, max(0.0, (step - first) / (last - first)))
    return config.strength + (config.end_strength - config.strength) * progress


def shared_blocks(config: KVShareConfig, blocks: int, presets: Sequence[BlockPreset] = ()) -> tuple[int, ...]:
    """The transformer blocks that share in a step that shares, ascending, in a model of `blocks` blocks of which
    `presets` are known."""
    config = for_model(config, presets)
    if config.layer_preset != "custom":
        return GENERAL[config.layer_preset].of(blocks).blocks
    return tuple(
        block for block in range(blocks) if _selected(block, config.start_layer, config.end_layer, config.layer_idx)
    )


def _selected(index: int, start: int, end: int, chosen: tuple[int, ...]) -> bool:
    if chosen:
        return index in chosen
    return index >= start and (end == -1 or index < end)
