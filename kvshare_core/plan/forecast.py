"""What a run is going to take, told before it: windows, steps and blocks that share, keys and values, computation."""

import math
from dataclasses import dataclass

from ..config import KVShareConfig
from ..families.base import FamilyInfo
from . import schedule
from .bank_size import plan_bytes
from .share_plan import SharePlan
from .stages import stages_of

SUBJECT_SHARE = 0.3
"""Part of the picture that a subject is taken to fill, where nothing has been found yet."""

TEXT_TOKENS = 256
"""Text tokens that are counted where they are kept too; how many there are, the text encoder decides."""


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model before it is loaded: its numbers, and bytes of a number in which it computes."""

    info: FamilyInfo
    element_size: int


@dataclass(frozen=True)
class Sampling:
    """How a plan is going to be sampled. steps: None when unknown. width, height: in pixels; guided: whether there are
    unconditional rows beside the conditional ones."""

    width: int
    height: int
    batch: int = 1
    steps: int | None = None
    guided: bool = True


@dataclass(frozen=True)
class Forecast:
    """blocks: those that share; steps: sampler steps that share, None when their number is unknown; limited: whether a
    part of the noise schedule limits them further. bytes: most that the bank holds; exact: whether it does.
    extra, most_extra: additional computation as a part of that of plain windows, for a subject of SUBJECT_SHARE of the
    picture and for one that fills it."""

    blocks: tuple[int, ...]
    steps: tuple[int, ...] | None
    limited: bool
    bytes: int
    exact: bool
    extra: float
    most_extra: float


def forecast(plan: SharePlan, model: ModelFacts, sampling: Sampling) -> Forecast:
    """The layer preset `family` must have been replaced (presets.for_model)."""
    config, info = plan.config, model.info
    blocks = tuple(sorted(schedule.shared_blocks(config, info.blocks))) if plan.shares else ()
    steps = None if sampling.steps is None else shared_steps(config, sampling.steps) if plan.shares else ()
    grid = info.grid(
        plan.timeline.window, sampling.height // info.compression[1], sampling.width // info.compression[2]
    )
    video = math.prod(grid)
    rows = sampling.batch * (2 if sampling.guided and config.share_uncond else 1)
    kept_text = TEXT_TOKENS if config.share_text else 0
    counted = [video] * len(plan.timeline.segments)
    size, exact = plan_bytes(plan, info, counted, video, kept_text, rows, model.element_size)
    part = 1.0 if not sampling.steps or steps is None else len(steps) / sampling.steps
    rows_part = 0.5 if sampling.guided and not config.share_uncond else 1.0
    extra, most = (
        part * _extra(plan, info, len(blocks), video, subject, rows_part) if blocks else 0.0
        for subject in (SUBJECT_SHARE if plan.guided else 1.0, 1.0)
    )
    further = _looking(plan, sampling) + _early(plan)
    limited = (config.start_percent, config.end_percent) != (0.0, 1.0)
    known = exact and plan.mask is None and not (kept_text and info.joint)
    return Forecast(blocks, steps, limited, size, known, extra + further, most + further)


def shared_steps(config: KVShareConfig, steps: int) -> tuple[int, ...]:
    """The sampler steps of `steps` that share, the percent window aside."""
    return tuple(
        step
        for step in range(steps)
        if schedule.shares_step(config, step) and schedule.strength_at(config, step, steps) > 0
    )


def windows_extra(plan: SharePlan) -> float:
    """Latent frames that a model call evaluates beyond those of the video, as a part of these."""
    timeline = plan.timeline
    count = len(schedule.evaluations(timeline, plan.config.order, shared=False))
    return count * timeline.window / timeline.latent_frames - 1


def _looking(plan: SharePlan, sampling: Sampling) -> float:
    """Additional evaluations that look for the subjects by the effect of their words, as a part of the run's; 0 where
    its steps are unknown."""
    if not (plan.finds_subjects and plan.config.masks.by_effect and sampling.steps):
        return 0.0
    segments = plan.timeline.segments
    rows = 2 if sampling.guided else 1
    return sum(len(plan.shown(segment)) for segment in segments) / (len(segments) * sampling.steps * rows)


def _early(plan: SharePlan) -> float:
    """Additional evaluations of segments that are sampled before others, as a part of the run's."""
    *early, everything = stages_of(plan)
    return sum(len(segments) for segments in early) / len(everything)


def _extra(plan: SharePlan, info: FamilyInfo, blocks: int, video: int, subject: float, rows_part: float) -> float:
    """Additional computation of a step that shares in `blocks` blocks, as a part of that of a plain one; subject: its
    part of the video. A block is counted as attention, four square matrices and a feed-forward four times as wide."""
    width = info.heads * info.head_dim
    block = 4 * video**2 * width + 24 * video * width**2
    plain = schedule.evaluations(plan.timeline, plan.config.order, shared=False)
    shared = schedule.evaluations(plan.timeline, plan.config.order, shared=True)
    *early, _ = stages_of(plan)
    looking = [index for stage in early for index in stage]
    looking += [evaluation.segment.index for evaluation in shared if evaluation.role in ("both", "target")]
    pairs = sum(_further_pairs(plan, index, video, subject) for index in looking)
    added = (len(shared) - len(plain)) * block * info.blocks + rows_part * pairs * 4 * width * blocks
    return added / (len(plain) * block * info.blocks)


def _further_pairs(plan: SharePlan, index: int, video: int, subject: float) -> float:
    """Pairs of a query and a key that a segment has beyond those of a plain one."""
    part_sources = plan.part_sources(index)
    count = len(part_sources.subjects)
    own = subject * video / count
    pairs = sum(own**2 * len(sources) for sources in part_sources.subjects)
    pairs += ((1 - subject) * video) ** 2 * len(part_sources.background)
    if plan.config.mode == "replace" and plan.config.strength >= 1:
        pairs -= sum(own * video for sources in part_sources.subjects if sources)
        pairs -= (1 - subject) * video**2 if part_sources.background else 0
    return pairs
