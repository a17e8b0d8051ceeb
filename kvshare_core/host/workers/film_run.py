"""The part of one sampling run that workers do, as the process with the sampler sees it.

This process keeps what every worker finds out about the subjects, so that another can go on for one that is lost, from
the start of the running model call.
"""

import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import comfy.model_management
import torch

from ...plan.schedule import Evaluation
from ...plan.worker_split import Split, split_segments
from ..sampling.elsewhere import StartedRun
from ..sampling.segment_call import Prediction, SegmentCall
from .crew import Crew, ModelCall
from .messages import CallReply, Failure, ModelRecipe, RunFacts
from .pool import LostWorkerError, Pool
from .settings import Patience
from .travel import NODE, travelling_options

log = logging.getLogger("kvshare")

LOOK_SECONDS = 0.1
"""How often an interrupt is looked for."""

MOST_FAULTS = 3
"""Lost workers in one model call that end the run."""

CARRIES = (
    f"{NODE}: this image-to-video model begins each segment with frames of the one before, which another worker has. "
    "Turn carry_image off in KV Sharing Config and give every prompt an image with Long Video Beat Images, or remove "
    f"{NODE}."
)
"""What is said where a segment needs what is predicted of the one before."""

_numbers = itertools.count(1)


class FilmRun:
    """One run with workers."""

    def __init__(self, started: StartedRun, pool: Pool, recipe: ModelRecipe, patches: Any, patience: Patience):
        """patches: those of the recipe's name, None for none."""
        run = started.run
        settings = run.settings
        facts = RunFacts(
            next(_numbers),
            recipe,
            settings.plan,
            settings.sigma_window,
            dict(settings.rope_options),
            settings.full_noise,
            settings.held,
            settings.neighbours,
            settings.masks_read,
            started.bank_bytes,
            started.call_bytes,
        )
        self._started, self._run, self._patience = started, run, patience
        self._crew = Crew(pool, facts, patches, started.patcher.load_device)
        self._split: Split | None = None
        self._faults = 0
        self._last_sigma: float | None = None
        self._stage: ModelCall | None = None
        self._longest: float | None = None
        self._peak = 0

    def predictions(self, call: SegmentCall, needed: Sequence[Evaluation]) -> Iterator[tuple[Evaluation, Prediction]]:
        """As in ElsewhereRun."""
        if call.channels is not None and call.handler.carry_image and len(needed) > 1:
            raise ValueError(CARRIES)
        if self._split is None:
            self._begin(needed)
        told = self._told_call(call, needed)
        self._crew.share_out({evaluation.segment.index for evaluation in needed})
        try:
            replies = self._evaluated(told)
            if told.teachers and any(reply.gave_up for reply in replies):
                # Then another segment shows the subject first, which may be one that some workers did not evaluate.
                told = replace(told, whole=True)
                for number in self._crew.busy:
                    self._crew.set_up(number, told)
                replies = self._evaluated(told)
        except BaseException:
            self._crew.pool.interrupt(self._crew.facts.run)
            raise
        self._keep(told, replies)
        made = {name: found for reply in replies for name, found in reply.predictions.items()}
        device = call.latent.video.device
        for evaluation in needed:
            outputs, prompts = made[evaluation.segment.index, evaluation.role]
            yield evaluation, Prediction([output.to(device) for output in outputs], prompts)

    def next_stage(self) -> None:
        """As in ElsewhereRun."""
        if self._stage is not None:
            self._crew.stages.append(self._stage)
        self._stage, self._last_sigma = None, None
        self._crew.next_stage()

    def close(self) -> None:
        """As in ElsewhereRun."""
        if self._peak:
            log.info("%s: each worker held up to %.1f MiB of keys and values.", NODE, self._peak / 2**20)
        self._crew.end()

    def _begin(self, needed: Sequence[Evaluation]) -> None:
        """Divides the segments, and begins the run on all workers that have any."""
        plan = self._run.settings.plan
        wanted = {evaluation.segment.index for evaluation in needed} if self._started.held is not None else None
        if self._run.stages.has_early_stages:
            wanted = None
        self._split = split_segments(plan, self._crew.pool.count, wanted)
        if self._started.patcher.load_device.type != "cpu":
            # This process evaluates nothing, and a worker may be on the same device.
            comfy.model_management.unload_all_models()
        self._crew.begin(self._split)

    def _told_call(self, call: SegmentCall, needed: Sequence[Evaluation]) -> ModelCall:
        run = self._run
        lists = tuple(
            None if entries is None else tuple(map(self._crew.entries.name_of, entries.entries))
            for entries in call.lists
        )
        pieces = {
            evaluation.segment.index: call.latent.piece(evaluation.segment.index).to("cpu", copy=True).contiguous()
            for evaluation in needed
        }
        now, indices = run.part.now, [evaluation.segment.index for evaluation in needed]
        everything = [segment.index for segment in run.settings.plan.timeline.segments]
        return ModelCall(
            call.timestep.to("cpu", copy=True),
            call.model_options["transformer_options"]["sample_sigmas"].to("cpu", copy=True),
            travelling_options(call.model_options, self._started.patcher.load_device),
            tuple(part.shape for part in call.latent.parts),
            lists,
            tuple(needed),
            pieces,
            call.channels is not None,
            run.stages.early,
            run.needs_sources,
            frozenset(run.tracker.teachers(indices) if now is not None and now.finds_subjects else ()),
            False,
            run.tracker.part(everything),
            self._last_sigma,
        )

    def _evaluated(self, told: ModelCall) -> list[CallReply]:
        """The replies of all workers to a model call, also of others in place of those that were lost."""
        self._faults = 0
        crew, pool = self._crew, self._crew.pool
        waiting = {crew.ask(number, told): number for number in crew.busy}
        replies: list[CallReply] = []
        began = time.monotonic()
        while waiting:
            comfy.model_management.throw_exception_if_processing_interrupted()
            for reference in pool.any_finished([*waiting], LOOK_SECONDS):
                number = waiting.pop(reference)
                try:
                    reply = pool.answer(reference)
                except LostWorkerError as reason:
                    waiting |= self._replaced(number, told, str(reason))
                    began = time.monotonic()
                    continue
                if isinstance(reply, CallReply):
                    replies.append(reply)
                elif isinstance(reply, Failure) and reply.kind == "error":
                    raise ValueError(f"{NODE}: a worker stopped: {reply.message}")
                else:
                    waiting |= self._replaced(number, told, reply.message)
                    began = time.monotonic()
            if time.monotonic() - began > self._limit:
                for reference, number in list(waiting.items()):
                    del waiting[reference]
                    waiting |= self._replaced(number, told, f"it gave no answer for {self._limit:.0f} seconds")
                began = time.monotonic()
        if not self._faults:
            self._longest = max(self._longest or 0.0, time.monotonic() - began)
        return replies

    @property
    def _limit(self) -> float:
        """Seconds after which a worker counts as lost."""
        if self._longest is None or self._faults:
            return self._patience.start
        return max(self._patience.least, self._patience.factor * self._longest)

    def _replaced(self, number: int, told: ModelCall, reason: str) -> dict[Any, int]:
        """A lost worker's part of a model call, asked of one that is started in its place, or of another where none can
        be started. Raises RuntimeError after too many faults in one call, or without any worker left."""
        self._faults += 1
        log.warning("%s: worker %d was lost (%s); its segments are evaluated again.", NODE, number + 1, reason)
        if self._faults > MOST_FAULTS:
            raise RuntimeError(f"{NODE}: workers were lost {self._faults} times in one step, the last time: {reason}")
        self._crew.restart(number)
        heir = number if self._started_again(number) else self._crew.heir_of(number)
        if heir is None:
            raise RuntimeError(f"{NODE}: no worker is left. The last one was lost: {reason}")
        self._crew.set_up(heir, told)
        return {self._crew.ask(heir, told): heir}

    def _started_again(self, number: int) -> bool:
        """Whether a worker that was started in place of another is there."""
        pool, until = self._crew.pool, time.monotonic() + self._patience.restart
        hello = pool.call(number, "hello")
        while time.monotonic() < until:
            comfy.model_management.throw_exception_if_processing_interrupted()
            if pool.any_finished([hello], LOOK_SECONDS):
                try:
                    pool.answer(hello)
                except LostWorkerError as reason:
                    log.warning("%s: no other worker could be started: %s", NODE, reason)
                    return False
                return True
        return False

    def _keep(self, told: ModelCall, replies: Sequence[CallReply]) -> None:
        """Takes in what the workers found, said and counted. Raises ValueError where the model's calls could not be
        told: from then on one process shares nothing, and several would not stop at the same call."""
        run = self._run
        for reply in replies:
            for message in reply.said:
                run.warn_once(message)
            if reply.found is not None:
                run.tracker.take(reply.found, torch.device("cpu"))
            run.account.take(reply.account)
            self._peak = max(self._peak, reply.peak_bytes)
        if not all(reply.trusted for reply in replies):
            raise ValueError(
                f"{NODE}: the attention of this model could not be told apart, so that nothing is shared from some "
                f"call on. Take nodes that change the model off it, or remove {NODE}."
            )
        now = run.part.model_pass
        if told.early and now is not None and not now.repeats:
            self._stage = told
        self._last_sigma = told.sigma
