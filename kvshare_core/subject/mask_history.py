"""The masks of a sampling run: the newest of every segment, those of some earlier steps, and what is recorded of them.

Heat and masks are [subjects, rows, tokens].
"""

from collections.abc import Mapping

import torch

from ..plan.share_plan import SharePlan
from ..record.record import Examples, RecordedMasks, RecordedStep, RecordedSubject, SegmentMasks, over_timeline
from . import maps
from .found_part import FoundPart, on_cpu

MOST_STEPS = 8
"""Steps whose masks are recorded at most; of a longer run evenly spaced ones."""


class MaskHistory:
    """The masks of one run, by segment. It begins with the known masks of the plan."""

    def __init__(self, plan: SharePlan, frame_patch: int = 1):
        """frame_patch: latent frames per token frame."""
        self.masks: dict[int, torch.Tensor] = {}
        """The newest masks of each segment."""
        if plan.known is not None:
            self.masks |= {index: mask for index, mask in enumerate(plan.known.masks) if mask is not None}
        self._plan = plan
        self._frame_patch = frame_patch
        self._grid: maps.Grid | None = None
        self._heat: dict[int, torch.Tensor] = {}
        self._steps: dict[int, dict[int, torch.Tensor]] = {}
        self._spacing = 1

    @property
    def grid(self) -> maps.Grid:
        """The token grid of a segment, which an attention call or a forward has given before."""
        assert self._grid is not None
        return self._grid

    def use_grid(self, grid: maps.Grid) -> None:
        """Sets the token grid of a segment."""
        self._grid = grid

    def put(self, index: int, mask: torch.Tensor, heat: torch.Tensor | None = None) -> None:
        """Replaces the masks of segment `index`, and the heat that they were made from."""
        self.masks[index] = mask
        if heat is not None:
            self._heat[index] = heat

    def keep_step(self, step: int, masks: Mapping[int, torch.Tensor]) -> None:
        """Keeps the masks that sampler step `step` found, by segment; drops those of every other step where they become
        too many."""
        if step % self._spacing:
            return
        self._steps[step] = {**self._steps.get(step, {}), **masks}
        if len(self._steps) > MOST_STEPS:
            self._spacing *= 2
            self._steps = {kept: found for kept, found in self._steps.items() if kept % self._spacing == 0}

    def part(
        self, indices: frozenset[int], examples: Mapping[int, Examples], effects: Mapping[int, torch.Tensor]
    ) -> FoundPart:
        """What is known of some segments, with their examples and effects."""
        steps = {step: on_cpu(masks, indices) for step, masks in self._steps.items()}
        cpu = torch.device("cpu")
        shown = {index: known.to(cpu) for index, known in examples.items() if index in indices}
        masks, heat = on_cpu(self.masks, indices), on_cpu(self._heat, indices)
        return FoundPart(self._grid, masks, heat, steps, shown, on_cpu(effects, indices), frozenset())

    def take(self, part: FoundPart) -> None:
        """Adds what another process has found."""
        if part.grid is not None:
            self.use_grid(part.grid)
        for index, mask in part.masks.items():
            self.put(index, mask, part.heat.get(index))
        for step, masks in part.steps.items():
            if masks:
                self.keep_step(step, masks)

    def clear(self) -> None:
        """Frees everything."""
        for store in (self.masks, self._heat, self._steps):
            store.clear()

    def recorded(self, examples: Mapping[int, Examples], effects: Mapping[int, torch.Tensor]) -> RecordedMasks | None:
        """The newest masks over the whole timeline, with the examples and effects of each segment that they come from;
        None where there are no masks."""
        if not self.masks or self._grid is None:
            return None
        timeline, names = self._plan.timeline, self._plan.names
        found: dict[int, torch.Tensor] = {}
        for index, mask in self.masks.items():
            both = torch.stack([self._heat.get(index, mask).float().cpu(), mask.float().cpu()])
            found[index] = self._over_latent_frames(both)
        heat, mask = over_timeline(timeline, found)
        mask = (mask >= 0.5).float()
        naming = map(self._plan.naming, range(len(names)))
        subjects = tuple(map(RecordedSubject, names, heat, mask, naming))
        segments = self._segment_masks(examples, effects)
        return RecordedMasks(timeline, heat.amax(0), mask.amax(0), subjects, segments, self._recorded_steps())

    def _segment_masks(self, examples: Mapping[int, Examples], effects: Mapping[int, torch.Tensor]) -> SegmentMasks:
        indices = [segment.index for segment in self._plan.timeline.segments]
        cpu = torch.device("cpu")
        return SegmentMasks(
            self._plan.names,
            tuple(self.masks[index].cpu() if index in self.masks else None for index in indices),
            tuple(examples[index].to(cpu) if index in examples else None for index in indices),
            tuple(effects[index].cpu() if index in effects else None for index in indices),
        )

    def _recorded_steps(self) -> tuple[RecordedStep, ...]:
        steps: list[RecordedStep] = []
        for step, masks in sorted(self._steps.items()):
            found = {index: self._over_latent_frames(mask.float()) for index, mask in masks.items()}
            steps.append(RecordedStep(step, over_timeline(self._plan.timeline, found) >= 0.5))
        return tuple(steps)

    def _over_latent_frames(self, values: torch.Tensor) -> torch.Tensor:
        """Values [..., tokens] of a segment as [..., latent frames, h, w]."""
        return maps.spread_over_latent_frames(
            values.unflatten(-1, self.grid), self._plan.timeline.window, self._frame_patch
        )
