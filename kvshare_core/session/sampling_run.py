"""One sampling run: owns the bank, the subjects' masks and the counters.

The host layer makes a run when sampling starts and closes it when sampling ends, however it ends. A model call on the
long latent is a *pass*: `begin_pass`, then one forward (or more, when the host splits its batch) for every evaluation
in order, then `end_pass`, after which only keys that later stages need are kept. In a plan of several stages the latent
is sampled once for each, with `next_stage` in between.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch

from ..attention.parts import Backend
from ..bank.bank import KeyValueBank
from ..families.base import AttentionCall, UnexpectedCallError
from ..forward.forward import Batch, Forward, PromptText
from ..plan import schedule
from ..plan.schedule import Evaluation
from ..plan.stages import Stages
from ..point.map_keeper import MapKeeper
from ..point.watcher import PointWatcher
from ..record.kept_maps import KeptMap
from ..record.record import RecordedMasks, RecordedPoint
from ..subject.hidden_words import HiddenWords
from ..subject.map_reader import UNKNOWN_PROMPT
from ..subject.strategies import MaskPass
from ..subject.tracker import SubjectTracker
from ..timeline.timeline import Segment
from .account import Outcome, RunAccount
from .call_maps import CallMaps
from .call_sharing import CallSharer
from .call_texts import CallTexts
from .early_blocks import EarlyBlocks
from .model_pass import plan_pass
from .run_calls import RunCalls
from .settings import RunSettings
from .taking_part import TakingPart
from .warn_once import WarnOnce


class SamplingRun:
    """State of one sampling run, from which the pieces that compute its attention calls are put together."""

    def __init__(self, settings: RunSettings, warn: Callable[[str], None]):
        """warn: receives each warning once."""
        plan = settings.plan
        self.settings = settings
        self.warn_once = WarnOnce(warn)
        self.stages = Stages(plan)
        self.tracker = SubjectTracker(plan, self.warn_once, settings.info.blocks, settings.frame_patch, settings.held)
        self._points = PointWatcher(plan, settings.frame_patch)
        self._maps = MapKeeper(plan, settings.info.blocks, settings.frame_patch, self.warn_once)
        self._hidden_words = HiddenWords(plan, settings.info, self.warn_once)
        self.account = RunAccount(settings, self.warn_once)
        """What the run did and did not do."""
        self._sharer = CallSharer(settings, self.tracker, self.account, self.warn_once)
        self._calls = RunCalls(
            settings,
            CallMaps(settings, self.tracker, self.warn_once),
            CallTexts(settings, self._hidden_words, self.warn_once),
            self._sharer,
            self._points.add_map,
            self._maps.add_map,
        )
        self.early_blocks = EarlyBlocks(settings, self.tracker)
        self.outcome = Outcome()
        """What the run did, once it is finished."""
        self.part = TakingPart(plan, self.stages, self.tracker)
        self._last_sigma: float | None = None

    @property
    def bank(self) -> KeyValueBank:
        """Holds the keys and values of source segments."""
        return self._sharer.bank

    def use_bank(self, bank: KeyValueBank) -> None:
        """Replaces the bank before its first entry, by one that measures what a run does with it."""
        self._sharer.bank = bank

    @property
    def shared_calls(self) -> int:
        """Batch rows computed with source keys so far, over all attention calls."""
        return self._sharer.shared_calls

    def close(self) -> None:
        """Frees everything; safe to call twice."""
        self.bank.close()
        self.early_blocks.clear()
        self.tracker.clear()
        self._points.clear()
        self._maps.clear()

    def finish(self) -> tuple[RecordedMasks | None, RecordedPoint | None]:
        """Ends a run that sampled to its end: what it found, and a warning where it did not share as planned."""
        masks = self.tracker.recorded()
        self.outcome = self.account.outcome(masks is not None)
        if self.outcome.sentence is not None:
            self.warn_once(self.outcome.sentence)
        return masks, self._points.recorded()

    @property
    def kept_maps(self) -> tuple[KeptMap, ...]:
        """The attention maps that the configuration asked for, so far."""
        return self._maps.kept

    def next_stage(self) -> None:
        """Ends a stage; the latent is sampled from its beginning again."""
        self.stages.next()
        self._last_sigma = None
        self.tracker.begin_stage()

    def begin_pass(self, sigma: float, sample_sigmas: Sequence[float]) -> list[Evaluation]:
        """Starts a model call on the long latent; the evaluations of the stage's segments, in order.

        sample_sigmas: the sigmas of the run, falling, with the final one.
        """
        # A second pass at one sigma is guidance that perturbs the model (by skipping layers, for example): its maps do
        # not count for later passes.
        repeats = sigma == self._last_sigma
        step, steps = schedule.step_of(sigma, sample_sigmas), len(sample_sigmas) - 1
        mask_pass = MaskPass(step, steps, repeats)
        useful = self.settings.plan.may_share or self.settings.masks_read
        finds_subjects = useful and self.tracker.finds_in_pass(mask_pass)
        if self._last_sigma is None and self.stages.first and sigma >= self.settings.full_noise * (1 - 1e-4):
            self.tracker.forget_effects()
        self._last_sigma = sigma
        now = self.part.model_pass = plan_pass(self.settings, sigma, sample_sigmas, finds_subjects, repeats)
        self.account.begin_pass(now, sample_sigmas)
        self._calls.prompted.clear()
        self._release()
        self.tracker.begin_pass(mask_pass)
        self._maps.begin_pass(step, steps, repeats)
        trusted = self.part.trusted
        return self.stages.evaluations(trusted and now.shares, leaves_keys=trusted)

    @property
    def needs_sources(self) -> bool:
        """Whether segments attend to others that the current pass evaluates, or a later one uses their maps; in a run
        of several stages the source keys exist already."""
        now = self.part.now
        return not self.stages.has_early_stages and now is not None and (now.shares or now.finds_subjects)

    def end_pass(self) -> None:
        """Ends a model call: turns the maps it gathered into masks and releases its keys."""
        self._release()
        self.tracker.end_pass(self._calls.device)
        self._points.end_pass()
        self._maps.end_pass()

    def begin_evaluation(self, evaluation: Evaluation) -> None:
        """Releases the keys that neither this evaluation nor a later one attends to."""
        self.account.begin_evaluation()
        if not self.stages.has_early_stages:
            self.bank.keep_segments(partial(self.settings.plan.is_attended_from, evaluation.segment.index))

    def end_evaluation(self, evaluation: Evaluation) -> None:
        """Counts what the ordinary evaluation of a segment came to."""
        now = self.part.model_pass
        if now is not None:
            attends, waits = self.part.attends(now, evaluation), self.part.in_effects(evaluation.segment.index)
            if attends or self.takes_part(evaluation):
                self.account.end_evaluation(now, attends, waits, self.part.trusted)

    def wants_effects(self, segment: Segment, prompts: int | None) -> bool:
        """Whether `segment` should be evaluated again in this pass, once for each of its subjects, with the subject's
        words hidden. Asked after its ordinary evaluation, in which the model must have received its own prompt.
        prompts: as in Batch."""
        if not self.part.in_effects(segment.index):
            return False
        if prompts is None:
            self.warn_once(UNKNOWN_PROMPT)
        return segment.index in self._calls.prompted

    def see_effects(self, segment: Segment, plain: torch.Tensor, hidden: Mapping[int, torch.Tensor]) -> None:
        """Takes a segment's prediction [rows, channels, frames, height, width], and by number of each of its subjects
        the prediction with that subject's words hidden."""
        if self.part.trusted and not self._hidden_words.record_effects(segment.index, plain, hidden, self.tracker):
            number = segment.index + 1
            self.warn_once(f"hiding the subject's words changed nothing in segment {number}; it is not followed there.")

    def takes_part(self, evaluation: Evaluation, hidden_subject: int | None = None) -> bool:
        """Whether a forward of `evaluation` differs from the host's or is of any use to the run.

        hidden_subject: number of the subject whose words it hides, or None.
        """
        if self.part.now is None:
            return False
        return (
            hidden_subject is not None
            or self.part.in_sharing(evaluation)
            or self.part.in_maps(evaluation)
            or bool(evaluation.segment.texts)
            or self.settings.plan.weighs(evaluation.segment)
            or self._points.wants(evaluation.segment)
            or self._maps.wants(evaluation.segment)
        )

    def open_forward(
        self, evaluation: Evaluation, batch: Batch, text: PromptText, grid: tuple[int, int, int], lead_tokens: int = 0
    ) -> Forward:
        """A forward of the current pass that takes part. One that hides words does nothing else. lead_tokens: of
        reference frames in front of the segment. Raises PromptNeededError, once in a run, for a batch that needs the
        prompt's masks before they are there."""
        self.part.check_order(evaluation, batch, self.account.met_prompt)
        now, segment = self.part.model_pass, evaluation.segment
        assert now is not None
        shares = text.hidden_subject is None and self.part.in_sharing(evaluation)
        finds_subjects = text.hidden_subject is None and text.own and self.part.in_maps(evaluation)
        is_target, is_source = evaluation.role in ("both", "target"), evaluation.role in ("both", "source")
        # Later stages must not attend to a model that guidance perturbs.
        perturbed = self.stages.has_early_stages and now.repeats
        forward = Forward(
            segment,
            batch,
            text,
            grid,
            now.step,
            evaluation.role,
            now.strengths[segment.index],
            shares,
            finds_subjects,
            self.settings.plan.sources(segment.index) if is_target else (),
            self.stages.consumers(segment.index) if is_source and not perturbed else 0,
            lead_tokens,
        )
        self._sharer.prefetch(forward, 0)
        if text.hidden_subject is None:
            self.account.opened(forward)
        return forward

    def attend(self, forward: Forward, call: AttentionCall, backend: Backend) -> torch.Tensor | None:
        """The output [rows, heads, tokens, head_dim] of one attention call, or None where the ordinary call will do.

        `backend(query, key, value)` attends as the host would have done.
        """
        if not self.part.trusted:
            return None
        try:
            return self._calls.attend(forward, call, backend)
        except UnexpectedCallError as reason:
            if reason.lost:
                # What was found and kept so far may belong to other calls than it seemed.
                self.part.trusted = False
                self.close()
            self._calls.leave(forward, reason)
            return None

    def leave_call(self, forward: Forward, what: str) -> None:
        """Leaves a call as it is whose arguments are not known. what: is said of the first such call."""
        self._calls.leave_unread(forward, what)

    def _release(self) -> None:
        """Releases the keys of a pass, unless later stages need them."""
        self.early_blocks.clear()
        if not self.stages.has_early_stages:
            self.bank.clear()
