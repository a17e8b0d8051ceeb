"""Runs one `sample()` of a patched MODEL: makes its run state, samples stage by stage, and frees everything."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from comfy.model_patcher import create_model_options_clone

from ...families.base import Family
from ...plan.model_fit import FittedPlan
from ...plan.schedule import shares_in
from ...plan.share_plan import SharePlan
from ...record.handover import Handover
from ...record.record import KVShareRecord, RunOrigin, latent_digest
from ...record.resampling import masks_in_size
from ...session.account import BY_CACHES
from ...session.sampling_run import SamplingRun
from ...session.settings import RunSettings
from ...timeline.pictures import as_video, video_shape
from ...timeline.timeline import FRAME_DIM
from .. import HANDOVER_TAG, KEY
from ..conditioning.carried_image import KnownFrames
from ..own_errors import own_errors
from ..running import record_is_read, signature_of_running, signatures_above
from . import memory
from .chain import Chain
from .elsewhere import StartedRun
from .held_frames import HeldFrames, held_frames, holds_without_noise
from .neighbours import mixed_up_by, neighbours_of
from .notices import Notices
from .packed_latent import part_times, stretches_of, video_part
from .pinned_slabs import HostSlabs
from .progress import RunProgress
from .run_noise import arrange_noise
from .run_state import RunState
from .segment_handler import SegmentHandler

POSITIONAL = ("noise", "latent_image", "sampler", "sigmas", "denoise_mask", "callback", "disable_pbar", "seed")
"""The arguments that the host passes to its `outer_sample` by position."""

Arguments = dict[str, Any]
"""All arguments of the host's `outer_sample`, by name."""


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

    @own_errors()
    def outer_sample(executor: Any, *args: Any, **kwargs: Any) -> Any:
        guider = executor.class_obj
        handler = guider.model_options.get("context_handler")
        if not isinstance(handler, SegmentHandler):
            raise ValueError(
                "Mask-Guided KV Share: a later node put other context windows on the model. Remove it, or move "
                "Mask-Guided KV Share behind it to see which one."
            )
        original = guider.model_options
        arguments: Arguments = {**dict.fromkeys(POSITIONAL), **dict(zip(POSITIONAL, args, strict=False)), **kwargs}
        in_batch = sampled.fitted.info.frames_in_batch
        held = held_frames(arguments, original, sampled.family.audio, in_batch)
        # Hosts pack what is several tensors, the video first.
        shapes: list[Any] = arguments.get("latent_shapes") or [arguments["noise"].shape]
        handover = next((entry[HANDOVER_TAG] for entry in _entries(guider) if HANDOVER_TAG in entry), Handover())
        lead = _lead(sampled, shapes)
        held = held and held.behind(lead)
        plan, window = _plan_of_run(sampled, guider, arguments, handover, shapes[0])
        notices = Notices()
        noise = arrange_noise(plan.timeline, arguments["noise"], arguments["seed"], shapes, notices, lead, in_batch)
        fitted = replace(sampled.fitted, plan=plan)
        # A later sampler takes over what one that stops early has found.
        read = float(arguments["sigmas"][-1]) > 0 or record_is_read()
        state = _make_state(replace(sampled, fitted=fitted), guider, window, held, shapes, notices, read)
        guider.model_options = create_model_options_clone(original)
        guider.model_options["transformer_options"][KEY] = state
        try:
            if handler.elsewhere is not None:
                started = StartedRun(
                    state.run,
                    held,
                    lead,
                    guider.model_patcher,
                    guider.model_options,
                    state.bank_bytes,
                    state.call_bytes,
                )
                state.elsewhere = handler.elsewhere.begin(started)
            result = _sample_stages(executor, state, {**arguments, "noise": noise}, shapes)
            if held is not None:
                result = held.put_back(result)
            masks, point = state.run.finish()
            maps = state.run.kept_maps
            origin = RunOrigin(latent_digest(result), signature_of_running())
            sampled.record.put(masks, point, plan.guided, origin, notices.said, maps)
            if masks is not None and float(arguments["sigmas"][-1]) > 0:
                handover.leave(result, masks)
            memory.report_held(state.run.bank.peak_bytes)
            return result
        finally:
            guider.model_options = original
            if state.elsewhere is not None:
                state.elsewhere.close()
            state.run.close()

    return outer_sample


def _lead(sampled: SampledPlan, shapes: Sequence[Any]) -> int:
    """How many latent frames of a reference picture the run's latent has in front of the video; the segment handler
    refuses one that is longer for another reason. Raises ValueError for a chain, which has no place for them."""
    plan, shape = sampled.fitted.plan, shapes[0]
    if sampled.fitted.info.reference_frames is None or len(shapes) > 1 or len(shape) != 5:
        return 0
    lead = max(0, shape[FRAME_DIM] - plan.timeline.latent_frames)
    if lead and plan.config.order == "chain":
        raise ValueError(
            "Mask-Guided KV Share: order 'chain' samples one segment after another, and has no place for the reference "
            "frame that WanVaceToVideo and WanAnimateToVideo put in front of the video. Set order to lockstep or "
            "sources_first in KV Sharing Config."
        )
    return lead


def _model_sampling(guider: Any) -> Any:
    """The noise schedule that a run samples with. A node such as ModelSamplingSD3 patches the model with its own, but
    the host puts it in place only when sampling begins."""
    return guider.model_patcher.get_model_object("model_sampling")


def _entries(guider: Any) -> Iterator[dict[str, Any]]:
    """All conditioning of a guider."""
    return (entry for entries in guider.conds.values() for entry in entries)


def _plan_of_run(
    sampled: SampledPlan, guider: Any, arguments: Arguments, handover: Handover, video_shape: Any
) -> tuple[SharePlan, tuple[float, float]]:
    """The plan with the masks that an earlier run found, in the size of this run's video, and the highest and the
    lowest sigma that share. A plan none of whose steps share has one stage."""
    plan, sigmas = sampled.fitted.plan, arguments["sigmas"].tolist()
    found = None
    if sampled.earlier is not None:
        found = sampled.earlier.findings(arguments["latent_image"], signatures_above()).masks
    if sampled.earlier is None and plan.finds_subjects:
        found = handover.masks_of(arguments["latent_image"])
        if found is not None and (found.segments is None or not plan.fits(found.segments)):
            found = None
    if found is not None:
        _, height, width = sampled.fitted.info.grid(plan.timeline.window, video_shape[-2], video_shape[-1])
        plan = replace(plan, known=masks_in_size(found, (height, width)))
    model_sampling = _model_sampling(guider)
    high, low = (
        float(model_sampling.percent_to_sigma(percent))
        for percent in (plan.config.start_percent, plan.config.end_percent)
    )
    if plan.config.order == "sources_first" and not shares_in(plan.config, sigmas, (high, low)):
        plan = replace(plan, config=replace(plan.config, order="lockstep"))
    return plan, (high, low)


def _make_state(
    sampled: SampledPlan,
    guider: Any,
    sigma_window: tuple[float, float],
    held: HeldFrames | None,
    shapes: list[Any],
    notices: Notices,
    masks_read: bool,
) -> RunState:
    """The state of a run that is about to start. shapes: of the whole latent's parts; masks_read: as in RunSettings."""
    fitted, plan, base_model = sampled.fitted, sampled.fitted.plan, guider.model_patcher.model
    budget = memory.bank_budget(plan.config.memory, guider.model_patcher.load_device)
    in_batch = fitted.info.frames_in_batch
    expected = memory.expected_bytes(fitted, guider, video_shape(shapes[0]) if in_batch else shapes[0])
    memory.report(expected, fitted.blocks)
    settings = RunSettings(
        fitted,
        sampled.family,
        base_model.diffusion_model,
        sigma_window,
        budget,
        guider.model_options["transformer_options"].get("rope_options") or {},
        float(_model_sampling(guider).sigma_max),
        _segments_with_held_frames(plan, held, base_model),
        neighbours_of(guider.model_patcher, guider.model_options),
        masks_read,
        HostSlabs(),
    )
    run = SamplingRun(settings, notices)
    progress = RunProgress(plan.timeline, guider.model_patcher, [len(stage) for stage in run.stages.all])
    notices.show_in(progress)
    mixed_up = mixed_up_by(settings.neighbours) if len(plan.timeline.segments) > 1 else None
    if mixed_up is not None:
        run.account.explain(mixed_up, *BY_CACHES)
    known = None if held is None else _known_frames(held, base_model, shapes, in_batch)
    bank = memory.bytes_to_reserve(plan.config.memory, expected.bank, budget, len(fitted.blocks))
    return RunState(run, progress, held, known, bank, expected.call)


def _segments_with_held_frames(plan: SharePlan, held: HeldFrames | None, base_model: Any) -> frozenset[int]:
    """Segments with frames that the run holds, or that a chain holds without the noise of the step."""
    touched = set() if held is None else held.touched_segments(plan.timeline)
    if plan.config.order == "chain" and holds_without_noise(base_model):
        touched |= {segment.index for segment in plan.timeline.segments if segment.index > 0}
    return frozenset(touched)


def _known_frames(held: HeldFrames, base_model: Any, shapes: list[Any], in_batch: bool) -> KnownFrames:
    """The video's frames that a run holds, as the model gets latents. in_batch: whether these are a batch of
    pictures."""
    video = video_part(base_model.process_latent_in(held.content), shapes)
    video = as_video(video) if in_batch else video
    free = held.free[0]
    return KnownFrames(video[:, :, video.shape[FRAME_DIM] - len(free) :], torch.tensor([not one for one in free]))


def _sample_stages(executor: Any, state: RunState, arguments: Arguments, shapes: list[Any]) -> Any:
    """What the run's stages make, each of which is a run of the host's `outer_sample`. shapes: of the latent's
    parts."""
    run, guider = state.run, executor.class_obj
    if not run.stages.has_early_stages:
        return _sample(executor, arguments)
    if arguments["callback"] is not None:
        arguments = {**arguments, "callback": state.progress.counted(arguments["callback"])}
    plan, bank_bytes, held, chain = run.settings.plan, state.bank_bytes, state.known, None
    if plan.config.order == "chain":
        times = part_times(run.settings.family.audio, len(shapes), run.settings.info.frames_in_batch)
        stretches = stretches_of(plan.timeline, shapes, run.settings.family.audio)
        chain = Chain(arguments, shapes, guider.model_patcher.model, times, stretches)
    while True:
        # Copied, since the host prepares the conditioning of a guider in place.
        conds = {name: [dict(entry) for entry in entries] for name, entries in guider.conds.items()}
        result = (
            _sample(executor, arguments) if chain is None else _sample_link(executor, state, chain, held, arguments)
        )
        if not run.stages.early:
            return result
        guider.conds = conds
        run.next_stage()
        if state.elsewhere is not None:
            state.elsewhere.next_stage()
        state.progress.next_stage()
        # What the bank holds on the device need not be kept free any more.
        state.bank_bytes = max(0, bank_bytes - run.bank.device_bytes)


def _sample_link(
    executor: Any, state: RunState, chain: Chain, held: KnownFrames | None, arguments: Arguments
) -> torch.Tensor:
    """Samples the segment of the running stage; the whole latent as far as it is finished. held: frames that the run
    holds from the start."""
    (segment,) = state.run.stages.segments
    finished = chain.known_frames()
    state.known = finished if held is None else held.overlaid_by(finished)
    chain.finish(segment, _sample(executor, chain.arguments(segment)))
    return chain.result


def _sample(executor: Any, arguments: Arguments) -> torch.Tensor:
    """Calls the host's `outer_sample` as the host does."""
    named = {name: value for name, value in arguments.items() if name not in POSITIONAL}
    return executor(*(arguments[name] for name in POSITIONAL), **named)
