"""Follows the subjects through a sampling run: turns the attention calls that run into masks of the subjects' tokens.

Which calls count is decided here; what becomes of their maps, by the strategy of the configured kind of masks.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

import torch

from ..attention.token_split import TokenSplit
from ..forward.call import AttentionContext
from ..forward.forward import Forward
from ..plan.schedule import Role
from ..plan.share_plan import SharePlan
from ..record.record import RecordedMasks
from . import maps
from .evidence import Evidence
from .found_part import FoundPart
from .map_reader import MapReader
from .mask_history import MaskHistory
from .strategies import BlockMasks, ClipMasks, MaskPass, MaskStrategy, RunningMaps, UserMask


class SubjectTracker:
    """The subjects' masks in one run."""

    def __init__(
        self,
        plan: SharePlan,
        warn: Callable[[str], None],
        blocks: int,
        frame_patch: int = 1,
        held: Collection[int] = (),
    ):
        """warn: receives the reason where a subject cannot be followed; blocks: how many the model has; frame_patch:
        latent frames per token frame.

        held: segments with frames that the run leaves unchanged. To some models these frames come without the noise
        that the sigma promises, and words then act anywhere, so masks of these segments begin with maps.
        """
        self._plan = plan
        self._settings = plan.config.masks
        self._held = frozenset(held)
        self._given_up: set[int] = set()
        self._history = MaskHistory(plan, frame_patch)
        self._evidence = Evidence(plan, blocks)
        self._strategy = self._strategy_of(plan, warn, frame_patch)

    def _strategy_of(self, plan: SharePlan, warn: Callable[[str], None], frame_patch: int) -> MaskStrategy:
        if plan.mask is not None:
            return UserMask(plan, plan.mask, self._history, frame_patch)
        if plan.finds_subjects and self._settings.kind == "threshold":
            reader = MapReader(plan, maps.summed_probability, warn, frame_patch)
            return BlockMasks(self._settings, reader, self._history)
        reader = MapReader(plan, maps.subject_score, warn, frame_patch)
        return ClipMasks(plan, reader, self._evidence, self._history)

    @property
    def per_block(self) -> bool:
        """Whether every block has masks of its own."""
        return self._strategy.per_block

    def clear(self) -> None:
        """Frees everything."""
        self._strategy.clear()
        self._evidence.clear()
        self._history.clear()

    def begin_stage(self) -> None:
        """Begins a stage of the run, with other segments."""
        self._strategy.begin_stage()

    def finds_in_pass(self, now: MaskPass) -> bool:
        """Whether the attention maps of a model call count."""
        steps = self._settings.attn_map_step_idx
        if not self._plan.finds_subjects or (steps and now.step not in steps):
            return False
        return self._strategy.finds_in_pass(now)

    def begin_pass(self, now: MaskPass) -> None:
        """Begins a model call on the long latent."""
        self._strategy.begin_pass(now)

    def forget_pass(self) -> None:
        """Forgets the maps that the running model call gathered, because they may be of other calls."""
        self._strategy.forget_pass()

    def end_pass(self, device: torch.device | None) -> None:
        """Ends a model call, which ran on `device`, and makes masks of its maps."""
        self._strategy.end_pass(device)

    def uses_block(self, index: int, block: int) -> bool:
        """Whether the maps of `block` count in segment `index`."""
        if self._by_effect(index):
            return False
        return not self._settings.attn_map_layer_idx or block in self._settings.attn_map_layer_idx

    def add_map(self, context: AttentionContext, log_sum_exp: torch.Tensor | None = None) -> None:
        """Adds the map of one attention call. log_sum_exp: [conditional rows, heads, video tokens] of a joint call, for
        exact probabilities in it."""
        self._strategy.add_map(context, log_sum_exp)

    def running_maps(self, index: int, role: Role) -> RunningMaps | None:
        """The maps that an evaluation of segment `index` has added so far in this model call; None without any, or
        where they are not kept by evaluation."""
        return self._strategy.running(index, role) if isinstance(self._strategy, BlockMasks) else None

    def use_running_maps(self, index: int, role: Role, maps: RunningMaps) -> None:
        """Begins an evaluation of segment `index` with the maps of another one."""
        if isinstance(self._strategy, BlockMasks):
            self._strategy.use_running(index, role, maps)

    def add_likeness(self, context: AttentionContext) -> None:
        """Adds how much the video tokens of one self- or joint attention are like the examples of the subjects, where
        there are any in the segment, or in one that was evaluated before."""
        found = self._evidence.add_likeness(context)
        if not found and self._by_effect(context.forward.segment.index):
            found = self._evidence.look_first(context)
        if found:
            self._history.use_grid(context.forward.grid)

    def forget_effects(self) -> None:
        """Forgets the effects of words in an earlier run, because this one begins with pure noise."""
        self._evidence.effects.clear()

    def wants_effects(self, index: int) -> bool:
        """Whether segment `index` is to be evaluated with its subjects' words hidden, because nothing locates the
        subjects there yet."""
        return self._by_effect(index) and index not in self._given_up and self._evidence.needs_effects(index)

    def give_up(self, index: int) -> None:
        """Never asks for the effects of segment `index` again."""
        self._given_up.add(index)

    def add_effects(self, index: int, effects: torch.Tensor, grid: maps.Grid) -> None:
        """Takes how strongly hiding the words of each subject in segment `index` changes the prediction at each token,
        [subjects in the segment, rows, tokens of `grid`]."""
        self._history.use_grid(grid)
        self._evidence.add_effects(index, effects)

    def splits(self, forward: Forward, block: int, device: torch.device) -> list[TokenSplit] | None:
        """The split of every latent of the forward in `block`; None while there is none.

        Raises ValueError where known masks or a user's mask do not fit the forward.
        """
        return self._strategy.splits(forward, block, device)

    def recorded(self) -> RecordedMasks | None:
        """The newest masks over the whole timeline; None when no subject was followed."""
        return self._history.recorded(self._evidence.examples, self._evidence.effects)

    @property
    def given_up(self) -> Collection[int]:
        """Segments whose effects are never asked for again."""
        return self._given_up

    def teachers(self, indices: Iterable[int]) -> set[int]:
        """Those of the segments, in the order in which they are evaluated, in which later ones see what their subjects
        look like, unless nothing is found there."""
        waiting = (index for index in indices if self._by_effect(index) and index not in self._given_up)
        return self._evidence.first_look.teachers(index for index in waiting if index not in self._evidence.effects)

    def newest(self, index: int) -> torch.Tensor | None:
        """The newest masks of segment `index`, as found: another tensor whenever they are found again."""
        return self._history.masks.get(index)

    def part(self, indices: Collection[int]) -> FoundPart:
        """What is known of some segments, for another process that evaluates them."""
        part = self._history.part(frozenset(indices), self._evidence.examples, self._evidence.effects)
        learned = self._evidence.first_look.directions
        looks = {number: {block: one.cpu() for block, one in blocks.items()} for number, blocks in learned.items()}
        part = replace(part, given_up=frozenset(self._given_up & {*indices}), looks=looks)
        return self._strategy.part(part) if isinstance(self._strategy, ClipMasks) else part

    def take(self, part: FoundPart, device: torch.device) -> None:
        """Goes on from what another process has found, for a model on `device`."""
        self._history.take(part)
        self._evidence.examples |= part.examples
        self._evidence.effects |= part.effects
        self._evidence.first_look.take(part.looks)
        self._given_up |= part.given_up
        if isinstance(self._strategy, ClipMasks):
            self._strategy.take(part, device)

    def _by_effect(self, index: int) -> bool:
        return self._settings.by_effect and self._plan.may_share and index not in self._held
