"""Puts a plan on a MODEL through the model-patcher.

The patched MODEL carries frozen values and closures only. Run state exists between the start and the end of one
`sample()`, in a `RunState`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP

from ...attention.positions import PositionMover
from ...families.base import Family
from ...families.model_inputs import ImageChannels, PackedAudio
from ...forward.forward import Batch, PromptText
from ...plan.model_fit import fit_plan
from ...plan.share_plan import SharePlan
from ...plan.stages import stages_of
from ...record.record import KVShareRecord
from ...session.drift import match_to_anchor
from ...session.sampling_run import SamplingRun
from ...timeline.pictures import as_pictures, as_video
from ...timeline.timeline import FRAME_DIM
from .. import KEY
from ..loading.model_info import model_info
from . import memory
from .attention_override import ModelInputs, OpenedForward, apply_model_wrapper
from .eager import EAGER
from .outer_sample import SampledPlan, outer_sample_wrapper
from .packed_latent import latent_of, part_shapes
from .run_state import run_state
from .segment_handler import SegmentHandler
from .segment_weights import parts_over_time
from .segment_window import SegmentWindow

PLAN_ATTACHMENT = "kvshare_plan"
"""Attachment of a patched MODEL with the plan that it samples, for nodes behind."""

SEVERAL_DEVICES = "multigpu_thread_device"
"""Transformer option of the host: the device of a forward while others run in other threads."""


def apply(model: Any, plan: SharePlan, earlier: KVShareRecord | None = None) -> tuple[Any, KVShareRecord]:
    """A clone of `model` that samples `plan`, and the record its runs will fill.

    earlier: record of another run of the same film, whose subject masks each run starts with if there are any by then.
    An earlier plan on the MODEL is replaced. Raises families.UnsupportedModelError for a model without a family,
    ValueError when another pack's context windows are on the model or the plan asks for blocks that it does not have.
    """
    family, info = model_info(model)
    if plan.timeline.frame_cycle != info.frame_cycle:
        raise ValueError(
            f"timeline: it was planned for another model, whose latent frames stand for other pictures than those of "
            f"{info.family}. Connect this model to Long Video Segmenter too."
        )
    fitted = fit_plan(plan, info)
    plan = fitted.plan
    scheme = family.rope_scheme(model.get_model_object("diffusion_model"), {})
    PositionMover(plan.config, scheme, gapped_beat=plan.gapped_beat)
    present = model.model_options.get("context_handler")
    if present is not None and not isinstance(present, SegmentHandler):
        raise ValueError(
            f"model: it already has context windows ({type(present).__name__}). Remove the node "
            "that sets them; the timeline makes its own segments."
        )
    diffusion_model = model.get_model_object("diffusion_model")
    channels = _carrying_channels(family, diffusion_model, info.latent_channels)
    patched = model.clone()
    record = KVShareRecord()
    patched.model_options["context_handler"] = SegmentHandler(
        plan.timeline,
        family.inputs,
        plan.config.order,
        family.audio,
        channels,
        plan.config.carry_image,
        channels is not None and channels.optional(diffusion_model),
        info.reference_frames,
        info.frames_in_batch,
    )
    for wrapper_type, wrapper in (
        (WrappersMP.OUTER_SAMPLE, outer_sample_wrapper(SampledPlan(fitted, family, record, earlier))),
        (WrappersMP.PREPARE_SAMPLING, _prepare_sampling_wrapper),
        (WrappersMP.PREDICT_NOISE, _predict_noise_wrapper(plan, family.audio, info.frames_in_batch)),
        (WrappersMP.APPLY_MODEL, apply_model_wrapper(_open_forward)),
    ):
        patched.remove_wrappers_with_key(wrapper_type, KEY)
        if wrapper is not None:
            patched.add_wrapper_with_key(wrapper_type, KEY, wrapper)
    patched.set_attachments(PLAN_ATTACHMENT, plan)
    if len(stages_of(plan)) > 1:
        # Outermost, so that other packs' wrappers (step caches) take every stage for a run of its own.
        around = patched.wrappers[WrappersMP.OUTER_SAMPLE]
        patched.wrappers[WrappersMP.OUTER_SAMPLE] = {KEY: around.pop(KEY), **around}
    return patched, record


def _carrying_channels(family: Family, diffusion_model: Any, latent_channels: int) -> ImageChannels | None:
    """How an image-to-video model takes images as input channels; None for other models."""
    channels = family.image_channels
    if isinstance(channels, ImageChannels) and channels.carries(diffusion_model, latent_channels):
        return channels
    return None


def _prepare_sampling_wrapper(
    executor: Any, model: Any, noise_shape: Any, conds: Any, model_options: Any = None, **kwargs: Any
) -> Any:
    """Makes the host budget memory for one segment, since no forward evaluates the long latent, and for the bank."""
    handler = model.model_options.get("context_handler")
    if isinstance(handler, SegmentHandler) and (handler.frames_in_batch or len(noise_shape) in (3, 5)):
        state = run_state((model_options or {}).get("transformer_options", {}))
        noise_shape = list(noise_shape)
        reserve = 0 if state is None else state.bank_bytes + state.call_bytes
        if handler.frames_in_batch:
            noise_shape[0] = min(noise_shape[0], handler.context_length)
            noise_shape[0] += memory.frames_to_reserve(model, noise_shape, reserve)
            return executor(model, noise_shape, conds, model_options=model_options, **kwargs)
        # Packed video and audio are [batch, 1, numbers], of which a segment has its share.
        window = (
            handler.context_length
            if len(noise_shape) == 5
            else math.ceil(noise_shape[FRAME_DIM] * handler.context_length / handler.timeline.latent_frames)
        )
        lead = max(0, noise_shape[FRAME_DIM] - handler.timeline.latent_frames) if handler.references else 0
        noise_shape[FRAME_DIM] = min(noise_shape[FRAME_DIM], window + lead)
        noise_shape[FRAME_DIM] += memory.frames_to_reserve(model, noise_shape, reserve)
    return executor(model, noise_shape, conds, model_options=model_options, **kwargs)


def _predict_noise_wrapper(
    plan: SharePlan, audio: PackedAudio | None, frames_in_batch: bool
) -> Callable[..., Any] | None:
    """Drift control of a guider's prediction, once for every model call, after any guidance; None when there is nothing
    to control."""
    strength, timeline = plan.config.drift_control, plan.timeline
    if strength == 0 or len(timeline.segments) == 1:
        return None
    parts = parts_over_time(timeline, plan.config.order)

    def predict_noise(executor: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        denoised = executor(*args, **kwargs)
        state = run_state(executor.class_obj.model_options["transformer_options"])
        if state is not None and state.run.stages.early:
            return denoised
        if frames_in_batch:
            return as_pictures(match_to_anchor(as_video(denoised), parts, strength))
        conds = list(executor.class_obj.conds.values())
        # The segment handler has refused what is longer for another reason than reference frames.
        lead = 0 if part_shapes(conds) else max(0, denoised.shape[FRAME_DIM] - timeline.latent_frames)
        latent = latent_of(denoised[:, :, lead:], conds, timeline, audio)
        matched = latent.with_video(match_to_anchor(latent.video, parts, strength))
        return torch.cat([denoised[:, :, :lead], matched], FRAME_DIM) if lead else matched

    return predict_noise


def _open_forward(inputs: ModelInputs) -> OpenedForward | None:
    """What computes the attention of one call of the model; None when the call does not belong to a run of KV Share or
    does not evaluate a whole segment."""
    options = inputs.options
    state, window = run_state(options), options.get("context_window")
    if state is None or not isinstance(window, SegmentWindow) or inputs.text is None:
        return None
    run = state.run
    if not run.takes_part(window.evaluation, window.hides) or not _is_whole_segment(run, window, inputs):
        return None
    names, info = list(zip(options["cond_or_uncond"], options["uuids"], strict=True)), run.settings.info
    rows = inputs.latent.shape[0] // len(names)
    batch = Batch(
        tuple((index, window.places[(index, identity)]) for index, identity in names),
        window.prompts,
        rows // window.shape[0] if info.frames_in_batch else rows,
        SEVERAL_DEVICES not in options,
    )
    routes = {place: window.routes[identity] for place, (_, identity) in enumerate(names) if identity in window.routes}
    # A common prompt does not name the beat's subject.
    tokens = inputs.text_tokens(run.settings.family.inputs)
    text = PromptText(tokens, not window.common, routes, window.hides, window.text_tokens)
    grid, lead = info.grid(*window.shape), info.grid(window.lead, *window.shape[1:])
    forward = run.open_forward(window.evaluation, batch, text, grid, math.prod(lead))
    return OpenedForward(
        partial(run.attend, forward),
        EAGER,
        partial(run.leave_call, forward),
        forward,
        info.blocks,
        run.early_blocks,
    )


def _is_whole_segment(run: SamplingRun, window: SegmentWindow, inputs: ModelInputs) -> bool:
    """Whether a call of the model evaluates a whole segment with conditioning that the segment handler knows; warns
    otherwise."""
    names = zip(inputs.options["cond_or_uncond"], inputs.options["uuids"], strict=True)
    if any(name not in window.places for name in names):
        run.account.leave_conditioning(
            "another node evaluates conditioning of its own; it is left unshared. Connect the conditioning of "
            "Long Video Segmenter alone."
        )
        return False
    frames, *size = window.shape
    expected = (frames + window.lead, *size) if window.packed is None else (window.packed,)
    found = inputs.latent.shape[2:]
    if run.settings.info.frames_in_batch:
        found = (inputs.latent.shape[0] // len(inputs.options["uuids"]), *found)
    if found != expected:
        run.account.leave_conditioning(
            "conditioning for a part of the frame is left unshared. Connect the conditioning of Long Video Segmenter "
            "alone."
        )
        return False
    return True
