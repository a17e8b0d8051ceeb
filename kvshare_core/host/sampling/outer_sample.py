"""Runs one `sample()` of a patched MODEL: makes its run state, samples stage by stage, and frees everything."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from comfy.model_patcher import create_model_options_clone

from ...families.base import Family
from ...plan.model_fit import FittedPlan
from ...plan.schedule import shares_in
from ...plan.share_plan import SharePlan
from ...record.record import KVShareRecord
from ...record.resampling import masks_in_size
from ...session.sampling_run import SamplingRun
from ...session.settings import RunSettings
from .. import KEY
from . import memory
from .eager import EagerRegion
from .held_frames import HeldFrames, held_frames
from .progress import RunProgress
from .run_noise import arrange_noise
from .run_state import RunState
from .segment_handler import SegmentHandler

log = logging.getLogger("kvshare")

SIGMAS_ARGUMENT, CALLBACK_ARGUMENT, SEED_ARGUMENT = 3, 5, 7
"""Places among the arguments of the host's `outer_sample`, of which noise is the first."""


@dataclass(frozen=True)
class SampledPlan:
    """What a patched MODEL samples."""

    fitted: FittedPlan
    family: Family
    record: KVShareRecord
    """Is filled when a run ends."""
    earlier: KVShareRecord | None = None
    """Record of another run of the same film, whose subject masks each run starts with if there are any by then."""


def outer_sample_wrapper(sampled: SampledPlan) -> Callable[..., Any]:
    """A wrapper of the host's `outer_sample`: one run of the plan."""

    def outer_sample(executor: Any, *args: Any, **kwargs: Any) -> Any:
        guider = executor.class_obj
        if not isinstance(guider.model_options.get("context_handler"), SegmentHandler):
            raise ValueError(
                "MaskGuidedKVShare: a later node put other context windows on the model. Remove it, or move "
                "MaskGuidedKVShare behind it to see which one."
            )
        original = guider.model_options
        held = held_frames(args, kwargs, original)
        # Hosts pack what is several tensors, the video first.
        shapes: list[Any] = kwargs.get("latent_shapes") or [args[0].shape]
        plan, window = _plan_of_run(sampled, guider, args, shapes[0])
        seed = args[SEED_ARGUMENT] if len(args) > SEED_ARGUMENT else kwargs.get("seed")
        args = (arrange_noise(plan.timeline, args[0], seed, shapes, _warn), *args[1:])
        fitted = replace(sampled.fitted, plan=plan)
        state = _make_state(replace(sampled, fitted=fitted), guider, window, held, shapes[0])
        guider.model_options = create_model_options_clone(original)
        guider.model_options["transformer_options"][KEY] = state
        try:
            result = _sample_stages(executor, state, args, kwargs)
            if held is not None:
                result = held.put_back(result)
            sampled.record.put(*state.run.finish())
            memory.report_held(state.run.bank.peak_bytes)
            return result
        finally:
            guider.model_options = original
            state.run.close()

    return outer_sample


def _plan_of_run(
    sampled: SampledPlan, guider: Any, args: tuple[Any, ...], video_shape: Any
) -> tuple[SharePlan, tuple[float, float]]:
    """The plan with the masks that an earlier run found, in the size of this run's video, and the highest and the
    lowest sigma that share. A plan none of whose steps share has one stage."""
    found = None if sampled.earlier is None else sampled.earlier.latest()
    plan = sampled.fitted.plan
    if found is not None:
        _, height, width = sampled.fitted.info.grid(plan.timeline.window, video_shape[-2], video_shape[-1])
        plan = replace(plan, known=masks_in_size(found, (height, width)))
    model_sampling = guider.model_patcher.model.model_sampling
    high, low = (
        float(model_sampling.percent_to_sigma(percent))
        for percent in (plan.config.start_percent, plan.config.end_percent)
    )
    sigmas = args[SIGMAS_ARGUMENT].tolist()
    if plan.config.order == "sources_first" and not shares_in(plan.config, sigmas, (high, low)):
        plan = replace(plan, config=replace(plan.config, order="lockstep"))
    return plan, (high, low)


def _make_state(
    sampled: SampledPlan, guider: Any, sigma_window: tuple[float, float], held: HeldFrames | None, video_shape: Any
) -> RunState:
    """The state of a run that is about to start. video_shape: of the whole latent's video."""
    fitted, plan, base_model = sampled.fitted, sampled.fitted.plan, guider.model_patcher.model
    budget = memory.bank_budget(plan.config.memory, guider.model_patcher.load_device)
    size, exact = memory.expected_bytes(fitted, guider, video_shape)
    memory.report(size, exact, fitted.blocks)
    settings = RunSettings(
        fitted,
        sampled.family,
        base_model.diffusion_model,
        sigma_window,
        budget,
        guider.model_options["transformer_options"].get("rope_options") or {},
        float(base_model.model_sampling.sigma_max),
        frozenset() if held is None else frozenset(held.touched_segments(plan.timeline)),
    )
    run = SamplingRun(settings, _warn)
    progress = RunProgress(plan.timeline, guider.model_patcher, [len(stage) for stage in run.stages.all])
    return RunState(run, progress, EagerRegion(), held, memory.bytes_on_device(plan.config.memory, size, budget))


def _sample_stages(executor: Any, state: RunState, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the host's `outer_sample` returns in the last of the run's stages, each of which is a run of it."""
    run, guider = state.run, executor.class_obj
    if not run.stages.has_early_stages:
        return executor(*args, **kwargs)
    args, kwargs = _counting(state.progress, args, kwargs)
    reserve = state.reserve
    while run.stages.early:
        # Copied, since the host prepares the conditioning of a guider in place.
        conds = {name: [dict(entry) for entry in entries] for name, entries in guider.conds.items()}
        executor(*args, **kwargs)
        guider.conds = conds
        run.next_stage()
        state.progress.next_stage()
        # What the bank holds on the device need not be kept free any more.
        state.reserve = max(0, reserve - run.bank.device_bytes)
    return executor(*args, **kwargs)


def _counting(
    progress: RunProgress, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of the host's `outer_sample` with a callback that counts through the whole run."""
    if len(args) > CALLBACK_ARGUMENT:
        callback = args[CALLBACK_ARGUMENT]
        counted = None if callback is None else progress.counted(callback)
        return (*args[:CALLBACK_ARGUMENT], counted, *args[CALLBACK_ARGUMENT + 1 :]), kwargs
    callback = kwargs.get("callback")
    return args, kwargs if callback is None else {**kwargs, "callback": progress.counted(callback)}


def _warn(message: str) -> None:
    log.warning("MaskGuidedKVShare: %s", message)
