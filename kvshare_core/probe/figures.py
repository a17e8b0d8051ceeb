"""Which blocks of a model are good for masks and for sharing: figures from a few model calls, and a choice by them.

No figure needs labels. Moving one block's keys in time is FreeFlux's probe (arXiv 2503.16153), and switching a block's
part off and measuring what changes is Stable Flow's (arXiv 2411.14430).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..subject.maps import Grid, normalise_over_clip

MIDDLE, LATE = 0.5, 0.8
"""Parts of the run after which blocks are looked at."""

ENOUGH_PULL = 0.9
"""Part of what all blocks pull that the chosen ones have."""


@dataclass(frozen=True)
class ProbeSettings:
    """What a probe is made with.

    seed, steps, cfg, scheduler: of its two clips, the second of which has the next seed. noise_levels: at how many of
    the two levels blocks are changed; maps are read at both.

    Raises ValueError on values outside these ranges.
    """

    seed: int = 0
    steps: int = 12
    cfg: float = 5.0
    scheduler: str = "simple"
    noise_levels: int = 1

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"steps is {self.steps}; a probe needs at least 2.")
        if self.noise_levels not in (1, 2):
            raise ValueError(f"noise_levels is {self.noise_levels}; it must be 1 or 2.")

    @property
    def levels(self) -> tuple[int, int]:
        """The steps that are looked at: one in the middle, and a late one."""
        late = max(1, int(LATE * self.steps))
        return min(int(MIDDLE * self.steps), late - 1), late

    @property
    def sampled_steps(self) -> int:
        """How many steps the clips take: the rest is of no use."""
        return self.levels[-1] + 1

    def model_calls(self, blocks: int, moves_keys: bool) -> int:
        """Model calls of a probe, each of which is worth one of the sampler; guidance comes on top of the sampler's."""
        changes = 1 + blocks * (3 if moves_keys else 2)
        return 2 * self.sampled_steps + 4 * len(self.levels) + self.noise_levels * changes


@dataclass(frozen=True)
class Effects:
    """What changes of one block did to the prediction at one noise level, relative to the whole prediction.

    alone: every token sees of the video only itself; moved: the video's keys are half a clip earlier, None where keys
    carry no positions that could be moved; within, beside: the subject sees that of another clip in place of itself,
    looked at in the subject and outside it; pull: what that did, see `appearance_pull`.
    """

    alone: float
    moved: float | None
    within: float
    beside: float
    pull: float


@dataclass(frozen=True)
class BlockFigures:
    """What was found out about one block.

    agreement, contrast: of its map, in the middle of the run and late in it, see the functions. The others are means
    over the noise levels at which the block was changed, see Effects.
    """

    block: int
    agreement: tuple[float, ...]
    contrast: tuple[float, ...]
    alone: float
    moved: float | None
    within: float
    beside: float
    pull: float


def figures_of(
    block: int, agreement: Sequence[float], contrast: Sequence[float], effects: Sequence[Effects]
) -> BlockFigures:
    """The figures of a block, from its map at every noise level and what its changes did at some."""
    moved = [effect.moved for effect in effects if effect.moved is not None]
    return BlockFigures(
        block,
        tuple(agreement),
        tuple(contrast),
        _mean([effect.alone for effect in effects]),
        _mean(moved) if moved else None,
        _mean([effect.within for effect in effects]),
        _mean([effect.beside for effect in effects]),
        _mean([effect.pull for effect in effects]),
    )


def blocks_for_masks(agreements: Sequence[float]) -> tuple[int, ...]:
    """The blocks whose maps agree best with where the subject's words act: the upper class of all; all where none
    stands out.

    Contrast does not choose: a map may show something else clearly and steadily.
    """
    threshold, _ = split_in_two(torch.tensor(agreements, dtype=torch.float64))
    return tuple(block for block, value in enumerate(agreements) if value > threshold) or tuple(range(len(agreements)))


def blocks_for_sharing(pulls: Sequence[float]) -> tuple[int, ...]:
    """The fewest blocks that together have ENOUGH_PULL of what all blocks pull; all where none pulls."""
    order = sorted(range(len(pulls)), key=lambda block: -pulls[block])
    total = sum(max(0.0, pull) for pull in pulls)
    chosen: list[int] = []
    held = 0.0
    for block in order:
        if pulls[block] <= 0 or held >= ENOUGH_PULL * total:
            break
        chosen.append(block)
        held += pulls[block]
    return tuple(sorted(chosen)) or tuple(range(len(pulls)))


def split_in_two(values: torch.Tensor) -> tuple[float, float]:
    """The threshold that parts `values` into two classes with the largest variance between them (Otsu), and that
    variance. Values above the threshold are the upper class. Equal values have the variance 0 and no upper class."""
    ordered = values.double().flatten().sort().values.cpu()
    count = len(ordered)
    below = torch.arange(1, count, dtype=torch.float64)
    sums = ordered.cumsum(0)
    gap = (sums[-1] - sums[:-1]) / (count - below) - sums[:-1] / below
    between = below * (count - below) / count**2 * gap**2
    between[ordered[1:] == ordered[:-1]] = 0.0
    if count < 2 or float(between.max()) == 0.0:
        return float(ordered[-1]), 0.0
    place = int(between.argmax())
    return float(ordered[place] / 2 + ordered[place + 1] / 2), float(between[place])


def subject_mask(score: torch.Tensor) -> torch.Tensor:
    """Boolean mask of the tokens that stand out in a map [tokens]."""
    heat = normalise_over_clip(score)
    return heat > split_in_two(heat)[0]


def temporal_overlap(mask: torch.Tensor, grid: Grid) -> float:
    """Mean intersection over union of a mask [tokens] in consecutive latent frames; frames without any of it overlap
    not at all, and a single frame wholly."""
    frames = mask.unflatten(-1, (grid[0], -1))
    if grid[0] == 1:
        return 1.0
    both, either = (frames[1:] & frames[:-1]).sum(-1), (frames[1:] | frames[:-1]).sum(-1)
    return float((both / either.clamp(min=1)).mean())


def contrast(score: torch.Tensor, grid: Grid) -> float:
    """How clearly and steadily a map [tokens] shows anything, 0 to 1: four times the variance between its two classes
    once it is normalised to 0..1, times the upper one's overlap over time."""
    heat = normalise_over_clip(score)
    threshold, variance = split_in_two(heat)
    return 4 * variance * temporal_overlap(heat > threshold, grid)


def agreement(score: torch.Tensor, effect: torch.Tensor) -> float:
    """Correlation, -1 to 1, of a map [tokens] with where the words act; 0 where either is flat."""
    heat, where = (normalise_over_clip(values).double() for values in (score, effect))
    heat, where = heat - heat.mean(), where - where.mean()
    size = float(heat.norm() * where.norm())
    return float(heat @ where) / size if size > 0 else 0.0


def over_latent(mask: torch.Tensor, grid: Grid, patch: Grid, shape: Sequence[int]) -> torch.Tensor:
    """A mask [tokens] as one of the latent's cells [frames, height, width] = `shape`."""
    cells = mask.reshape(grid)
    for dim, size in enumerate(patch):
        cells = cells.repeat_interleave(size, dim=dim)
    return cells[: shape[0], : shape[1], : shape[2]]


def relative_change(changed: torch.Tensor, plain: torch.Tensor, cells: torch.Tensor | None = None) -> float:
    """Root mean square of how far a prediction [1, channels, frames, height, width] moved, relative to that of the
    plain prediction; within boolean `cells` [frames, height, width] where given."""
    moved = (changed - plain).float()
    if cells is not None:
        moved = moved[:, :, cells]
    return float(moved.square().mean().sqrt() / plain.float().square().mean().sqrt())


def appearance_pull(
    changed: torch.Tensor, plain: torch.Tensor, cells: torch.Tensor, other: torch.Tensor, other_cells: torch.Tensor
) -> float:
    """How much of the way from the subject's mean look to that of another clip's subject a change has gone: 0 for none
    of it, 1 for all, negative for away. Predictions and cells are those of `relative_change`."""
    before, after, goal = (
        prediction[0, :, where].float().mean(-1)
        for prediction, where in ((plain, cells), (changed, cells), (other, other_cells))
    )
    way = goal - before
    length = float(way @ way)
    return float((after - before) @ way) / length if length > 0 else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
