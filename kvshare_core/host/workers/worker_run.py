"""One sampling run as a worker takes part in it: the state of its span, and its part of every model call."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import comfy.sampler_helpers
import comfy.samplers
import torch
from comfy.model_patcher import create_model_options_clone

from ...plan.model_fit import fit_plan
from ...session.sampling_run import SamplingRun
from ...session.settings import RunSettings
from ...subject.found_part import FoundPart
from .. import KEY
from ..conditioning.carried_image import ImagesGiven, KnownFrames
from ..conditioning.of_beats import EntriesOfBeats
from ..loading.model_info import model_info
from ..sampling import memory
from ..sampling.packed_latent import Latent, part_times, stretches_of
from ..sampling.patch import apply
from ..sampling.pinned_slabs import HostSlabs
from ..sampling.progress import RunProgress
from ..sampling.run_state import RunState
from ..sampling.segment_call import SegmentCall
from ..sampling.segment_handler import SegmentHandler
from .messages import CallMessage, CallReply, Names, RunFacts
from .travel import on_device

NOTHING_NEW = FoundPart(None, {}, {}, {}, {}, {}, frozenset())


class WorkerRun:
    """State of one run in a worker."""

    def __init__(self, facts: RunFacts, model: Any):
        """model: the MODEL of the facts' recipe. Raises ValueError where the plan does not fit it."""
        self.facts = facts
        self._patched = apply(model, facts.plan)[0]
        self._handler: SegmentHandler = self._patched.model_options["context_handler"]
        self._said: list[str] = []
        self._given = ImagesGiven()
        self._entries: dict[str, dict[str, Any]] = {}
        self._loaded: tuple[Any, Any] | None = None
        self._told: set[int] = set()
        family, info = model_info(self._patched)
        plan, device = facts.plan, self._patched.load_device
        settings = RunSettings(
            fit_plan(plan, info),
            family,
            self._patched.model.diffusion_model,
            facts.sigma_window,
            memory.bank_budget(plan.config.memory, device),
            facts.rope_options,
            facts.full_noise,
            facts.held,
            facts.neighbours,
            facts.masks_read,
            HostSlabs(),
        )
        self._run = SamplingRun(settings, self._said.append)
        self._sent = {segment.index: self._run.tracker.newest(segment.index) for segment in plan.timeline.segments}
        self._options = create_model_options_clone(self._patched.model_options)
        self._options.pop("context_handler")
        progress = RunProgress(plan.timeline, self._patched)
        state = RunState(self._run, progress, None, None, facts.bank_bytes, facts.call_bytes)
        self._options["transformer_options"][KEY] = state
        comfy.sampler_helpers.prepare_model_patcher(self._patched, {}, self._options)

    def settle(self, sigma: float, sigmas: Sequence[float]) -> None:
        """Goes on after a model call at `sigma` that another process made."""
        self._run.begin_pass(sigma, sigmas)
        self._run.end_pass()
        self._run.account.part()

    def take(self, found: FoundPart) -> None:
        """Goes on from what others have found."""
        self._run.tracker.take(found, self._patched.load_device)
        self._sent = {index: self._run.tracker.newest(index) for index in self._sent}

    def next_stage(self) -> None:
        """Ends a stage."""
        self._run.next_stage()

    def close(self) -> None:
        """Frees everything."""
        self._run.close()
        if self._loaded is not None:
            self._patched.cleanup()
            comfy.sampler_helpers.cleanup_models({}, self._loaded[1])
            self._loaded = None

    def evaluate(self, message: CallMessage, known: Mapping[str, Any]) -> CallReply:
        """Evaluates a part of a model call; known: what messages refer to by name."""
        run, model = self._run, self._model(message)
        device = self._patched.load_device
        run.tracker.take(replace(NOTHING_NEW, any_found=message.any_found, looks=message.looks), device)
        given_up = len(run.tracker.given_up)
        sigmas: list[float] = message.sigmas.tolist()
        planned = {
            (evaluation.segment.index, evaluation.role): evaluation
            for evaluation in run.begin_pass(float(message.timestep.max()), sigmas)
        }
        call = self._call(message, known, model)
        predictions: dict[Any, tuple[list[torch.Tensor], int]] = {}
        for name in message.evaluations:
            made = call.prediction(planned[name], message.pieces[name[0]].to(device))
            if name[0] in message.own:
                predictions[name] = ([output.cpu() for output in made.outputs], made.prompts)
        run.end_pass()
        said, self._said[:] = tuple(self._said), ()
        return CallReply(
            predictions,
            self._news(message.own),
            run.account.part(),
            said,
            len(run.tracker.given_up) > given_up,
            run.part.trusted,
            run.bank.peak_bytes,
        )

    def _news(self, own: frozenset[int]) -> FoundPart | None:
        """What is known of segments whose masks have been found anew."""
        tracker = self._run.tracker
        new = {index for index in own if tracker.newest(index) is not self._sent[index]}
        self._sent |= {index: tracker.newest(index) for index in new}
        part = tracker.part(new)
        now = self._run.part.model_pass
        steps = {} if now is None else {step: masks for step, masks in part.steps.items() if step == now.step}
        looks = {number: blocks for number, blocks in part.looks.items() if number not in self._told}
        self._told |= looks.keys()
        return replace(part, steps=steps, looks=looks) if new or part.any_found or looks else None

    def _model(self, message: CallMessage) -> Any:
        """The host's model, brought to the device before the first call."""
        if self._loaded is None:
            shapes = message.shapes
            numbers = sum(shape[1:].numel() for shape in shapes)
            whole = list(shapes[0]) if len(shapes) == 1 else [shapes[0][0], 1, numbers]
            model, _, others = comfy.sampler_helpers.prepare_sampling(self._patched, whole, {}, self._options)
            self._loaded = model, others
            self._patched.pre_run()
        return self._loaded[0]

    def _call(self, message: CallMessage, known: Mapping[str, Any], model: Any) -> SegmentCall:
        handler, device = self._handler, self._patched.load_device
        options = dict(self._options)
        options["transformer_options"] = {
            **self._options["transformer_options"],
            **on_device(message.options, device),
            "sample_sigmas": message.sigmas.to(device),
        }
        # Only their shapes count, so they take no memory.
        parts = tuple(torch.zeros((), device=device).expand(shape) for shape in message.shapes)
        latent = Latent(
            parts,
            stretches_of(handler.timeline, message.shapes, handler.audio),
            part_times(handler.audio, len(parts)),
        )
        lists = [None if names is None else EntriesOfBeats(self._conditioning(names, known)) for names in message.lists]
        return SegmentCall(
            handler,
            comfy.samplers.calc_cond_batch,
            model,
            message.timestep.to(device),
            options,
            latent,
            lists,
            self._run,
            handler.image_channels if message.images else None,
            KnownFrames.none_of(latent.video).copy() if message.images else KnownFrames(latent.video, torch.zeros(0)),
            self._given,
        )

    def _conditioning(self, names: Names, known: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Entries of conditioning on the device, brought there once."""
        for name in names:
            if name not in self._entries:
                self._entries[name] = on_device(known[name], self._patched.load_device)
        return [self._entries[name] for name in names]
