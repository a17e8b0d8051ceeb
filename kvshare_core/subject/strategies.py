"""Three ways to get the subjects' masks of a forward: one per segment and noise level (`ClipMasks`), one per block
(`BlockMasks`, DiTCtrl section 3.2), or the user's (`UserMask`).

Scores, heat and masks are [subjects, rows, tokens].
"""

from dataclasses import dataclass, replace
from typing import Protocol

import torch

from ..attention.token_split import TokenSplit, split_tokens
from ..config import MaskSettings
from ..devices import upload
from ..forward.call import AttentionContext
from ..forward.forward import Forward
from ..plan.schedule import Role
from ..plan.share_plan import SharePlan
from . import maps
from .evidence import Evidence
from .found_part import FoundPart, on_cpu
from .map_reader import MapReader
from .mask_history import MaskHistory

BlockOfForward = tuple[int, Role, int]
"""Segment, role and block that a mask of `BlockMasks` belongs to."""


RunningMaps = tuple[torch.Tensor, int]
"""Maps [subjects, rows, tokens] of some blocks, added up, and how many they are."""


@dataclass(frozen=True)
class MaskPass:
    """One model call on the long latent, as far as masks depend on it."""

    step: int = 0
    """The sampler step, counted from 0."""
    steps: int = 1
    """How many steps the sampler makes."""
    repeats: bool = False
    """Whether the call before had the same noise level. Such a call belongs to guidance, which compares the two: it
    uses the masks of the call before, so that a change of masks does not pass for an effect of guidance, and leaves
    what was recorded."""


class MaskStrategy(Protocol):
    """Makes the masks of one run from its attention calls."""

    @property
    def per_block(self) -> bool:
        """Whether every block has masks of its own."""
        ...

    def begin_stage(self) -> None:
        """Begins a stage of the run, with other segments."""
        ...

    def finds_in_pass(self, now: MaskPass) -> bool:
        """Whether a model call needs attention maps."""
        ...

    def begin_pass(self, now: MaskPass) -> None:
        """Begins a model call."""
        ...

    def add_map(self, context: AttentionContext, log_sum_exp: torch.Tensor | None) -> None:
        """Adds the map of one attention call; log_sum_exp: as for `MapReader.scores`."""
        ...

    def forget_pass(self) -> None:
        """Forgets the maps of the running model call."""
        ...

    def end_pass(self, device: torch.device | None) -> None:
        """Ends a model call, which ran on `device`."""
        ...

    def splits(self, forward: Forward, block: int, device: torch.device) -> list[TokenSplit] | None:
        """The split of every latent of the forward in `block`; None while there is none."""
        ...

    def clear(self) -> None:
        """Frees everything."""
        ...


class ClipMasks:
    """Contrast and appearance: one mask per segment, found in one model call and used from the next noise level on.

    All segments of a model call therefore use masks of the same call, and so does a call that guidance compares with
    it.
    """

    per_block = False

    def __init__(self, plan: SharePlan, reader: MapReader, evidence: Evidence, history: MaskHistory):
        self._plan = plan
        self._settings = plan.config.masks
        self._reader = reader
        self._evidence = evidence
        self._history = history
        self._known = dict(history.masks)
        self._none_found = not self._known
        self._now = MaskPass()
        self._splits: dict[int, list[TokenSplit]] = {}
        self._before: dict[int, list[TokenSplit]] = {}
        self._masks_before: dict[int, torch.Tensor] = {}

    def begin_stage(self) -> None:
        """Begins a stage with other segments, whose masks must be found even where masks no longer change."""
        self._none_found = not self._known

    def finds_in_pass(self, now: MaskPass) -> bool:
        """Whether a model call needs attention maps: where it may change masks, or none exist."""
        return not now.repeats and (self._none_found or not self._is_frozen(now))

    def begin_pass(self, now: MaskPass) -> None:
        """Begins a model call."""
        self._now = now
        if not now.repeats:
            self._before = dict(self._splits)
            self._masks_before = {index: self._history.masks[index] for index in self._splits}
        self._evidence.drop_scores()

    def add_map(self, context: AttentionContext, log_sum_exp: torch.Tensor | None) -> None:
        """Adds the scores of the words in one attention call."""
        scores = self._reader.scores(context, log_sum_exp)
        if scores is None:
            return
        forward = context.forward
        if scores:
            total = torch.stack([scores[number] for number in sorted(scores)])
        else:
            total = torch.zeros(0, forward.batch.latents, forward.video_tokens, device=context.call.query.device)
        self._history.use_grid(forward.grid)
        self._evidence.add_words(forward.segment.index, total)

    def forget_pass(self) -> None:
        """Drops the scores of the running model call."""
        self._evidence.drop_scores()

    def end_pass(self, device: torch.device | None) -> None:
        """Turns the scores of a model call into the masks of the next; one transfer from `device` for all."""
        self._reader.end_pass()
        history = self._history
        kept = history.masks.keys() if self._is_frozen(self._now) else frozenset[int]()
        found: dict[int, torch.Tensor] = {}
        heats: dict[int, torch.Tensor] = {}
        for index in sorted({*self._evidence.segments} - kept):
            score = self._evidence.score(index)
            shown = self._plan.shown(self._plan.timeline.segments[index])
            heat, mask = (score, score > 0) if not shown else self._found(score, history.masks.get(index), shown)
            heats[index], found[index] = (self._with_absent(values, shown) for values in (heat, mask))
        self._evidence.drop_scores()
        if not found:
            return
        for index, mask in found.items():
            history.put(index, mask, heats[index])
        self._none_found = False
        first = next(iter(found.values())).device
        on_cpu = torch.stack([mask.to(first) for mask in found.values()]).cpu()
        history.keep_step(self._now.step, dict(zip(found, on_cpu, strict=True)))
        for index, masks in zip(found, on_cpu, strict=True):
            self._splits[index] = _split_rows(masks, self._settings.rim, history.grid, device or torch.device("cpu"))

    def splits(self, forward: Forward, block: int, device: torch.device) -> list[TokenSplit] | None:
        """The splits by the newest masks of the segment, the same in every block; at first by the plan's known masks.

        Raises ValueError where the known masks have another shape than the forward.
        """
        splits, index = self._before if self._now.repeats else self._splits, forward.segment.index
        if index not in splits and index in self._known:
            known = self._known[index]
            here = (len(self._plan.names), forward.batch.latents, forward.video_tokens)
            if known.shape != here:
                raise ValueError(
                    f"known masks: segment {index} has {list(known.shape)} [subjects, batch, tokens] in them, but "
                    f"{list(here)} in this run; make the latent as it was."
                )
            self._history.use_grid(forward.grid)
            splits[index] = _split_rows(known, self._settings.rim, forward.grid, device)
        return splits.get(index)

    def part(self, part: FoundPart) -> FoundPart:
        """`part` with the masks of its segments that divide tokens."""
        now = {index: part.masks[index] for index in self._splits.keys() & part.masks.keys()}
        before = on_cpu(self._masks_before, frozenset(part.masks))
        return replace(part, used=now, used_before=before, any_found=not self._none_found)

    def take(self, part: FoundPart, device: torch.device) -> None:
        """Goes on from what another process has found, for a model on `device`."""
        rim = self._settings.rim
        for masks, splits in ((part.used, self._splits), (part.used_before, self._before)):
            for index, mask in masks.items():
                splits[index] = _split_rows(mask, rim, self._history.grid, device)
        self._masks_before |= part.used_before
        if part.any_found:
            self._none_found = False

    def clear(self) -> None:
        """Frees everything but the plan's known masks."""
        self._reader.clear()
        self._splits.clear()
        self._before.clear()
        self._masks_before.clear()

    def _is_frozen(self, now: MaskPass) -> bool:
        """Whether masks that exist no longer change."""
        return now.step >= self._settings.freeze_after * now.steps

    def _found(
        self, score: torch.Tensor, before: torch.Tensor | None, shown: tuple[int, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Heat and masks of the subjects in the segment, whose numbers are `shown`; before: the masks of all subjects
        until now."""
        heat = maps.normalise_over_clip(score)
        if before is not None:
            before = upload(before, score.device)
            before = before if len(shown) == len(before) else torch.stack([before[number] for number in shown])
        mask = maps.threshold_mask(heat, self._settings.thres, before, self._settings.hysteresis)
        return heat, maps.divide_claims(_finished(mask, score, self._settings, self._history.grid), heat)

    def _with_absent(self, values: torch.Tensor, shown: tuple[int, ...]) -> torch.Tensor:
        """Values [shown subjects, rows, tokens] as those of all subjects; 0 for those that are not shown."""
        count = len(self._plan.names)
        if len(shown) == count:
            return values
        rest = values.new_zeros(values.shape[1:])
        return torch.stack([values[shown.index(number)] if number in shown else rest for number in range(count)])


class BlockMasks:
    """DiTCtrl's masks of one subject: those of a block come from the maps of this forward up to that block."""

    per_block = True

    def __init__(self, settings: MaskSettings, reader: MapReader, history: MaskHistory):
        self._settings = settings
        self._reader = reader
        self._history = history
        self._now = MaskPass()
        self._running: dict[tuple[int, Role], RunningMaps] = {}
        self._splits: dict[BlockOfForward, list[TokenSplit]] = {}

    def begin_stage(self) -> None:
        """Changes nothing: no mask outlives its model call."""

    def finds_in_pass(self, now: MaskPass) -> bool:
        """Every model call needs its own maps."""
        return True

    def begin_pass(self, now: MaskPass) -> None:
        """Begins a model call."""
        self._now = now
        self._drop_masks()

    def add_map(self, context: AttentionContext, log_sum_exp: torch.Tensor | None) -> None:
        """Adds the probabilities of the subject's words in one attention call."""
        scores = self._reader.scores(context, log_sum_exp)
        if not scores:
            return
        forward = context.forward
        total = torch.stack([scores[number] for number in sorted(scores)])
        self._history.use_grid(forward.grid)
        place = (forward.segment.index, forward.role)
        before, count = self._running.get(place, (torch.zeros_like(total), 0))
        self._running[place] = (before + total, count + 1)

    def running(self, index: int, role: Role) -> RunningMaps | None:
        """The maps of segment `index` in its evaluation as `role`, so far."""
        return self._running.get((index, role))

    def use_running(self, index: int, role: Role, maps: RunningMaps) -> None:
        """Takes maps for the evaluation of segment `index` as `role`."""
        self._running[index, role] = maps

    def forget_pass(self) -> None:
        """Drops the masks of the running model call."""
        self._drop_masks()

    def end_pass(self, device: torch.device | None) -> None:
        """Drops the masks of a model call."""
        self._reader.end_pass()
        self._drop_masks()

    def splits(self, forward: Forward, block: int, device: torch.device) -> list[TokenSplit] | None:
        """The split by the mean map of the blocks so far; None where the prompt has not yet passed `block`."""
        name = (forward.segment.index, forward.role, block)
        if name not in self._splits:
            running = self._running.get(name[:2])
            if running is None or forward.batch.conditional_rows is None:
                return None
            score = running[0] / running[1]
            heat = maps.normalise_over_frames(score, forward.grid)
            mask = maps.threshold_mask(heat, self._settings.thres)
            mask = _finished(mask, score, self._settings, self._history.grid)
            if not self._now.repeats:
                self._history.put(forward.segment.index, mask, heat)
            self._splits[name] = _split_rows(mask.cpu(), self._settings.rim, self._history.grid, device)
        return self._splits[name]

    def clear(self) -> None:
        """Frees everything."""
        self._reader.clear()
        self._drop_masks()

    def _drop_masks(self) -> None:
        self._running.clear()
        self._splits.clear()


class UserMask:
    """One subject's mask from the user, for all model calls; it needs no attention maps."""

    per_block = False

    def __init__(self, plan: SharePlan, mask: torch.Tensor, history: MaskHistory, frame_patch: int = 1):
        """mask: [pictures, h, w] in 0..1; frame_patch: latent frames per token frame."""
        self._timeline = plan.timeline
        self._mask = mask
        self._history = history
        self._frame_patch = frame_patch
        self._splits: dict[int, list[TokenSplit]] = {}

    def begin_stage(self) -> None:
        """Changes nothing: the mask covers all segments."""

    def finds_in_pass(self, now: MaskPass) -> bool:
        """No model call needs maps."""
        return False

    def begin_pass(self, now: MaskPass) -> None:
        """Changes nothing: the mask is the same in every model call."""

    def add_map(self, context: AttentionContext, log_sum_exp: torch.Tensor | None) -> None:
        """Ignores a map."""

    def forget_pass(self) -> None:
        """Changes nothing: the mask is the same in every model call."""

    def end_pass(self, device: torch.device | None) -> None:
        """Changes nothing: the mask is the same in every model call."""

    def splits(self, forward: Forward, block: int, device: torch.device) -> list[TokenSplit] | None:
        """The split of the segment's tokens, the same for every latent. Raises ValueError when the mask has too few
        pictures."""
        segment = forward.segment
        if segment.index not in self._splits:
            pictures = self._timeline.pictures_of(segment)
            mask = maps.mask_to_tokens(self._mask, pictures, forward.grid, self._frame_patch) >= 0.5
            self._history.use_grid(forward.grid)
            self._history.put(segment.index, mask.expand(1, forward.batch.latents, -1))
            self._splits[segment.index] = [split_tokens(mask.cpu(), device)] * forward.batch.latents
        return self._splits[segment.index]

    def clear(self) -> None:
        """Frees everything but the user's mask."""
        self._splits.clear()


def _finished(mask: torch.Tensor, score: torch.Tensor, settings: MaskSettings, grid: maps.Grid) -> torch.Tensor:
    """A mask without the frames in which the subject is absent, and cleaned, as far as the settings want that."""
    if settings.presence > 0:
        mask = maps.drop_absent_frames(mask, score, settings.presence, grid)
    return maps.clean_mask(mask, grid) if settings.clean else mask


def _split_rows(masks: torch.Tensor, rim: int, grid: maps.Grid, device: torch.device) -> list[TokenSplit]:
    """The split of every latent by masks [subjects, rows, tokens] on the CPU, grown by `rim` tokens."""
    whole = maps.with_rim(masks, rim, grid)
    return [split_tokens(whole[:, row], device) for row in range(whole.shape[1])]
