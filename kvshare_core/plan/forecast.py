"""Tells before a run what it will take: steps and blocks that share, memory for keys and values, computation."""

import math
from collections import Counter
from dataclasses import dataclass

from ..families.base import FamilyInfo
from . import schedule
from .bank_size import plan_bytes
from .block_parts import BlockPart, block_parts
from .call_memory import call_bytes
from .model_fit import FittedPlan
from .share_plan import SharePlan
from .stages import stages_of

SUBJECT_SHARE = 0.3
"""Fraction of the picture that a subject is assumed to fill, where nothing has been found yet."""

TEXT_TOKENS = 256
"""Text tokens that are counted where they are kept too; the text encoder decides how many there are."""


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model before it is loaded."""

    info: FamilyInfo
    element_size: int
    """Bytes of a number in the dtype in which the model computes."""


@dataclass(frozen=True)
class Sampling:
    """How a plan will be sampled."""

    width: int
    """In pixels, as `height`."""
    height: int
    batch: int = 1
    steps: int | None = None
    """None when unknown."""
    guided: bool = True
    """Whether there are unconditional rows besides the conditional ones."""


@dataclass(frozen=True)
class Forecast:
    """What a run will take."""

    blocks: tuple[int, ...]
    """The transformer blocks that share."""
    steps: tuple[int, ...] | None
    """The sampler steps that share; None when their number is unknown."""
    limited: bool
    """Whether a part of the noise schedule limits the steps further."""
    bytes: int
    """Bytes that the bank will hold at most."""
    expected: int
    """The same for a subject of SUBJECT_SHARE of the picture."""
    exact: bool
    """Whether it will hold `bytes`."""
    call_bytes: int
    """Bytes on the device that one shared attention call holds at most, beside what the model's own call takes."""
    extra: float
    """Additional computation as a fraction of that of plain windows, for a subject of SUBJECT_SHARE of the picture."""
    most_extra: float
    """The same for a subject that fills the picture."""
    finding: int
    """Evaluations of segments that the first step takes in addition, to find the subjects; part of `extra`, where the
    number of steps is known."""


def forecast(fitted: FittedPlan, element_size: int, sampling: Sampling) -> Forecast:
    """What a run of the plan will take; element_size: bytes of a number in the dtype in which the model computes."""
    plan, info, config = fitted.plan, fitted.info, fitted.plan.config
    blocks = fitted.blocks if plan.shares else ()
    steps = None if sampling.steps is None else shared_steps(plan, sampling.steps)
    grid = info.grid(
        plan.timeline.window, sampling.height // info.compression[1], sampling.width // info.compression[2]
    )
    video = math.prod(grid)
    rows = sampling.batch * (2 if sampling.guided and config.share_uncond else 1)
    kept_text = TEXT_TOKENS if config.share_text else 0
    size, exact = _held_bytes(fitted, 1.0, video, kept_text, rows, element_size)
    share = SUBJECT_SHARE if plan.guided else 1.0
    expected = _held_bytes(fitted, share, video, kept_text, rows, element_size)[0]
    every_row = sampling.batch * (2 if sampling.guided else 1)
    counted = [video] * len(plan.timeline.segments)
    call = call_bytes(fitted, counted, video, TEXT_TOKENS, every_row, element_size)
    rows_part = 0.5 if sampling.guided and not config.share_uncond else 1.0
    extra, most = (
        _sharing_extra(fitted, video, subject, rows_part, steps, sampling.steps) if blocks else 0.0
        for subject in (share, 1.0)
    )
    finding = _finding_evaluations(plan)
    further = _finding_extra(plan, finding, sampling) + _early_stages_extra(plan)
    limited = (config.start_percent, config.end_percent) != (0.0, 1.0)
    known = exact and plan.mask is None and not (kept_text and info.joint)
    return Forecast(blocks, steps, limited, size, expected, known, call, extra + further, most + further, finding)


def _held_bytes(
    fitted: FittedPlan, subject: float, video: int, text: int, rows: int, element_size: int
) -> tuple[int, bool]:
    """What `plan_bytes` finds for subjects that fill the part `subject` of the picture."""
    counted = [round(subject * video)] * len(fitted.plan.timeline.segments)
    return plan_bytes(fitted, counted, video, text, rows, element_size)


def shared_steps(plan: SharePlan, steps: int) -> tuple[int, ...]:
    """The sampler steps of `steps` in which any segment shares, the percent window aside."""
    targets = [segment.index for segment in plan.timeline.segments if plan.sources(segment.index)]

    def shares(step: int) -> bool:
        usual = schedule.strength_at(plan.config, step, steps)
        return any(plan.scaled_strength(index, usual) > 0 for index in targets)

    return tuple(step for step in range(steps) if schedule.shares_step(plan.config, step) and shares(step))


def windows_extra(plan: SharePlan) -> float:
    """Latent frames that a model call evaluates beyond those of the video, as a fraction of these."""
    timeline = plan.timeline
    count = len(schedule.plain_evaluations(timeline, plan.config.order))
    return count * timeline.window / timeline.latent_frames - 1


def _finding_evaluations(plan: SharePlan) -> int:
    """Additional evaluations of segments that locate the subjects by the effect of their words: for all subjects of
    each segment that shows one for the first time."""
    if not (plan.finds_subjects and plan.may_share and plan.config.masks.by_effect):
        return 0
    count, found = 0, set[int]()
    for segment in plan.timeline.segments:
        shown = plan.shown(segment)
        if not found.issuperset(shown):
            count += len(shown)
            found.update(shown)
    return count


def _finding_extra(plan: SharePlan, evaluations: int, sampling: Sampling) -> float:
    """These evaluations, of the prompt's rows alone, as a fraction of the run's; 0 where its steps are unknown."""
    rows = 2 if sampling.guided else 1
    return evaluations / (len(plan.timeline.segments) * sampling.steps * rows) if sampling.steps else 0.0


def _early_stages_extra(plan: SharePlan) -> float:
    """Additional evaluations of segments that are sampled in several stages, as a fraction of the run's."""
    return sum(len(segments) for segments in stages_of(plan)) / len(plan.timeline.segments) - 1


def _sharing_extra(
    fitted: FittedPlan, video: int, subject: float, rows_part: float, shared: tuple[int, ...] | None, steps: int | None
) -> float:
    """Additional computation in the `shared` ones of `steps` steps, as a fraction of the run's; of a step that shares,
    where the number of steps is unknown."""
    plan, config = fitted.plan, fitted.plan.config
    if shared is None or not steps:
        full = config.strength or config.end_strength or 0.0
        return _step_extra(fitted, video, subject, rows_part, _without_own_keys(plan, full))
    # Few strengths occur, however many steps there are.
    strengths = Counter(schedule.strength_at(config, step, steps) for step in shared)
    extra = sum(
        count * _step_extra(fitted, video, subject, rows_part, _without_own_keys(plan, usual))
        for usual, count in strengths.items()
    )
    return extra / steps


def _without_own_keys(plan: SharePlan, usual: float) -> frozenset[int]:
    """The segments in which source keys replace the own video's altogether, while the configuration's strength is
    `usual`."""
    rules = {index: plan.config.rules(plan.scaled_strength(index, usual)) for index in _indices(plan)}
    return frozenset(index for index, one in rules.items() if one.mode == "replace" and one.own_weight == 0)


def _indices(plan: SharePlan) -> range:
    return range(len(plan.timeline.segments))


def _step_extra(fitted: FittedPlan, video: int, subject: float, rows_part: float, replaced: frozenset[int]) -> float:
    """Additional computation of a step that shares, as a fraction of that of a plain one; subject: its fraction of the
    video's tokens. A block is counted as attention, four square matrices and a feed-forward four times as wide."""
    costs = [_part_costs(part, subject, rows_part, replaced) for part in block_parts(fitted, (), video, 1)]
    return sum(added for added, _ in costs) / sum(whole for _, whole in costs)


def _part_costs(part: BlockPart, subject: float, rows_part: float, replaced: frozenset[int]) -> tuple[float, float]:
    """What sharing adds in the blocks of one size, and what a plain step takes in them."""
    plan, info, video = part.fitted.plan, part.fitted.info, part.video_tokens
    width = info.heads * info.head_dim
    block = (4 * video**2 * width + 24 * video * width**2) * part.rows
    plain = schedule.plain_evaluations(plan.timeline, plan.config.order)
    sharing = schedule.sharing_evaluations(plan.timeline, plan.config.order)
    *early, last = stages_of(plan)
    targets = [index for stage in early for index in stage]
    targets += [
        evaluation.segment.index
        for evaluation in sharing
        if evaluation.role in ("both", "target") and evaluation.segment.index in last
    ]
    pairs = sum(_further_pairs(plan, index, video, subject, index in replaced) for index in targets)
    shared = rows_part * pairs * 4 * width * len(part.fitted.blocks) * part.rows
    added = (len(sharing) - len(plain)) * block * info.blocks + shared
    return added, len(plain) * block * info.blocks


def _further_pairs(plan: SharePlan, index: int, video: int, subject: float, replaced: bool) -> float:
    """Pairs of a query and a key that a segment has beyond those of a plain one; replaced: whether source keys replace
    the own video's altogether."""
    parts = plan.part_sources(index)
    count = len(parts.subjects)
    own = subject * video / count
    sharing = [sources for _, sources in parts.sharing]
    pairs = sum(own**2 * len(sources) for sources in sharing)
    pairs += ((1 - subject) * video) ** 2 * len(parts.background)
    if replaced:
        pairs -= own * video * len(sharing)
        pairs -= (1 - subject) * video**2 if parts.background else 0
    return pairs
