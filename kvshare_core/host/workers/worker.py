"""The worker's side: loads the MODEL, holds the state of a run for its span, and evaluates its part of every call."""

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import comfy.model_management
import torch

from ...subject.found_part import FoundPart
from ..loading.model_info import ModelSource
from ..loading.model_source import load_source
from .messages import CallMessage, CallReply, Done, Failure, ModelRecipe, RunFacts, Schedule
from .worker_run import WorkerRun

MOST_MODELS = 2
"""How many models a worker keeps, as films with two experts need."""


class Worker:
    """One process that evaluates segments. `call` calls its methods, one after another but for `interrupt`."""

    def __init__(self, threads: int):
        """threads: of torch on the CPU, as many as in the process with the sampler, for the same sums."""
        self._threads = threads
        self._known: dict[str, Any] = {}
        self._models: dict[ModelSource, Any] = {}
        self._run: WorkerRun | None = None
        self._stopped: set[int] = set()
        self._failure: str | None = None

    def call(self, method: str, *arguments: Any) -> Any:
        """What a method returns. What it raises is told as a `Failure`, after which the worker has no run any more; the
        run's next call says why."""
        try:
            with torch.inference_mode():
                return getattr(self, method)(*arguments)
        except comfy.model_management.InterruptProcessingException:
            failure = Failure("interrupted", "it was interrupted.")
        except (torch.OutOfMemoryError, MemoryError) as reason:
            failure = Failure("memory", str(reason).strip() or "out of memory")
        except ValueError as reason:
            failure = Failure("error", str(reason))
        except Exception as reason:
            failure = Failure("error", f"{type(reason).__name__}: {reason}")
        self._failure = failure.message
        self.drop_run()
        return failure

    def hello(self) -> Done:
        """Says that it is there."""
        return Done(os.getpid(), self._run is not None)

    def know(self, names: Sequence[str], *values: Any) -> Done:
        """Remembers values that messages refer to by name."""
        self._known |= dict(zip(names, values, strict=True))
        return self._done()

    def begin(self, facts: RunFacts) -> Done:
        """Begins a run; one that was not ended is dropped."""
        self.drop_run()
        self._failure = None
        torch.set_num_threads(self._threads)
        self._run = WorkerRun(facts, self._model(facts.recipe))
        return self._done()

    def settle(self, run: int, sigma: float, sigmas: Sequence[float]) -> Done:
        """Goes on with a run whose last model call was at `sigma`."""
        self._of(run).settle(sigma, sigmas)
        return self._done()

    def take(self, run: int, found: FoundPart) -> Done:
        """Goes on from what others have found."""
        self._of(run).take(found)
        return self._done()

    def next_stage(self, run: int) -> Done:
        """Ends a stage of a run."""
        self._of(run).next_stage()
        return self._done()

    def evaluate(self, message: CallMessage) -> CallReply:
        """Evaluates a part of a model call."""
        torch.set_num_threads(self._threads)
        comfy.model_management.interrupt_current_processing(False)
        if message.run in self._stopped:
            raise comfy.model_management.InterruptProcessingException
        return self._of(message.run).evaluate(message, self._known)

    def end(self, run: int, names: Sequence[str]) -> Done:
        """Ends a run and forgets what has these names."""
        if self._run is not None and self._run.facts.run == run:
            self.drop_run()
        for name in names:
            self._known.pop(name, None)
        self._stopped.discard(run)
        return self._done()

    def interrupt(self, run: int) -> None:
        """Stops a run within one segment; called while another method runs."""
        self._stopped.add(run)
        comfy.model_management.interrupt_current_processing(True)

    def drop_run(self) -> None:
        """Frees everything but the models."""
        if self._run is not None:
            self._run.close()
            self._run = None
            comfy.model_management.soft_empty_cache()

    def _done(self) -> Done:
        return Done(os.getpid(), self._run is not None)

    def _of(self, run: int) -> WorkerRun:
        if self._run is None or self._run.facts.run != run:
            raise ValueError(self._failure or f"run {run} has not begun here.")
        return self._run

    def _model(self, recipe: ModelRecipe) -> Any:
        """The MODEL of a recipe; the newest models stay loaded."""
        model = self._models.pop(recipe.source, None)
        if model is None:
            for source in list(self._models)[: max(0, len(self._models) + 1 - MOST_MODELS)]:
                del self._models[source]
            model = load_source(recipe.source)
        self._models[recipe.source] = model
        model = model.clone()
        if recipe.schedule is not None:
            model.add_object_patch("model_sampling", schedule_of(recipe.schedule))
        if recipe.patches is not None:
            model.patches = self._known[recipe.patches]
            # By this the host knows whether the weights are patched already.
            model.patches_uuid = recipe.patches
        return model


def schedule_of(schedule: Schedule) -> Any:
    """A noise schedule, made of classes of the host."""
    kinds = tuple(getattr(import_module(module), name) for module, name in schedule.classes)
    kind = kinds[0] if len(kinds) == 1 else type("NoiseSchedule", kinds, {})
    made = kind.__new__(kind)
    torch.nn.Module.__init__(made)
    for name, value in schedule.values.items():
        setattr(made, name, value)
    for name, buffer in schedule.buffers.items():
        made.register_buffer(name, buffer)
    return made
