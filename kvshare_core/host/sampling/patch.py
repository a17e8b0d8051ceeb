"""Puts a plan on a MODEL through the model-patcher, and runs it while sampling.

The patched MODEL carries frozen values and closures only. Run state lives in a `Session` that exists between the start
and the end of one `sample()`.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from comfy.model_patcher import create_model_options_clone
from comfy.patcher_extension import WrappersMP

from ...attention.positions import PositionMover
from ...families.base import Family, FamilyInfo
from ...families.block_presets import for_model
from ...forward.forward import Forward
from ...plan.model_fit import check_fits
from ...plan.schedule import shared_blocks, shares_in
from ...plan.share_plan import SharePlan
from ...plan.stages import stages_of
from ...record.record import KVShareRecord
from ...session.drift import match_to_anchor
from ...session.session import Session
from .. import KEY
from ..conditioning.mixing import TEXT_TOKENS
from ..loading.model_info import model_info
from . import memory
from .attention_override import attention_override, input_shapes
from .eager import EagerRegion
from .held_frames import HELD_KEY, held_frames
from .packed_latent import latent_of
from .progress import PROGRESS_KEY, RunProgress
from .run_noise import arrange_noise
from .segment_handler import FRAME_DIM, SegmentHandler, SegmentWindow, parts_over_time

log = logging.getLogger("kvshare")

RESERVE_KEY = "kvshare_reserve"
"""Transformer option of a run: bytes on the device that the host should keep free for the bank."""

EAGER_KEY = "kvshare_eager"
"""Transformer option of a run: its EagerRegion."""

SEED_ARGUMENT = 7
"""Place of the seed among the arguments of the host's `outer_sample`, of which noise is the first."""

SIGMAS_ARGUMENT, CALLBACK_ARGUMENT = 3, 5
"""Places of the sigmas and of the callback among them."""

SEVERAL_DEVICES = "multigpu_thread_device"
"""Transformer option of the host: the device of a forward beside which others run in threads of their own."""


def apply(model: Any, plan: SharePlan, earlier: KVShareRecord | None = None) -> tuple[Any, KVShareRecord]:
    """A clone of `model` that samples `plan`, and the record its runs will fill.

    earlier: record of another run of the same film, whose subject masks each run starts with if there are any by then.
    A plan put on before is replaced. Raises families.UnsupportedModelError for a model without a family, ValueError
    when another pack's context windows sit on the model or the plan asks for blocks that it does not have.
    """
    family, info = model_info(model)
    plan = replace(plan, config=for_model(plan.config, info.presets))
    check_fits(plan, info)
    scheme = family.rope_scheme(model.get_model_object("diffusion_model"), {})
    PositionMover(plan.config, scheme, gapped_beat=plan.gapped_beat)
    present = model.model_options.get("context_handler")
    if present is not None and not isinstance(present, SegmentHandler):
        raise ValueError(
            f"model: it already has context windows ({type(present).__name__}). Remove the node "
            "that sets them; the timeline makes its own segments."
        )
    patched = model.clone()
    record = KVShareRecord()
    patched.model_options["context_handler"] = SegmentHandler(plan.timeline, family.inputs, plan.config.order)
    for wrapper_type, wrapper in (
        (WrappersMP.OUTER_SAMPLE, _outer_sample_wrapper(plan, family, info, record, earlier)),
        (WrappersMP.PREPARE_SAMPLING, _prepare_sampling_wrapper),
        (WrappersMP.PREDICT_NOISE, _predict_noise_wrapper(plan)),
        (WrappersMP.APPLY_MODEL, _apply_model_wrapper),
    ):
        patched.remove_wrappers_with_key(wrapper_type, KEY)
        if wrapper is not None:
            patched.add_wrapper_with_key(wrapper_type, KEY, wrapper)
    if len(stages_of(plan)) > 1:
        # Outermost, so that every stage is a run of its own to what others put on the model (step caches).
        around = patched.wrappers[WrappersMP.OUTER_SAMPLE]
        patched.wrappers[WrappersMP.OUTER_SAMPLE] = {KEY: around.pop(KEY), **around}
    return patched, record


def _outer_sample_wrapper(
    frozen_plan: SharePlan, family: Family, info: FamilyInfo, record: KVShareRecord, earlier: KVShareRecord | None
) -> Callable[..., Any]:
    def outer_sample(executor: Any, *args: Any, **kwargs: Any) -> Any:
        found = None if earlier is None else earlier.latest()
        plan = frozen_plan if found is None else replace(frozen_plan, known=found.segments)
        guider = executor.class_obj
        handler = guider.model_options.get("context_handler")
        if not isinstance(handler, SegmentHandler):
            raise ValueError(
                "MaskGuidedKVShare: a later node put other context windows on the model. Remove it, or move "
                "MaskGuidedKVShare behind it to see which one."
            )
        base_model = guider.model_patcher.model
        high, low = (
            float(base_model.model_sampling.percent_to_sigma(percent))
            for percent in (plan.config.start_percent, plan.config.end_percent)
        )
        if plan.config.order == "sources_first" and not shares_in(
            plan.config, args[SIGMAS_ARGUMENT].tolist(), (high, low)
        ):
            plan = replace(plan, config=replace(plan.config, order="lockstep"))
        # Hosts pack what is several tensors, the video first.
        shapes: list[Any] = kwargs.get("latent_shapes") or [args[0].shape]
        video_shape = shapes[0]
        seed = args[SEED_ARGUMENT] if len(args) > SEED_ARGUMENT else kwargs.get("seed")
        args = (arrange_noise(plan.timeline, args[0], seed, shapes, _warn), *args[1:])
        budget = memory.bank_budget(plan.config.memory, guider.model_patcher.load_device)
        size, exact = memory.expected_bytes(plan, info, guider, video_shape)
        memory.report(size, exact, shared_blocks(plan.config, info.blocks))
        original = guider.model_options
        held = held_frames(args, kwargs, original)
        session = Session(
            plan,
            family,
            info,
            base_model.diffusion_model,
            _warn,
            (high, low),
            budget,
            guider.model_options["transformer_options"].get("rope_options"),
            float(base_model.model_sampling.sigma_max),
            () if held is None else held.touched_segments(plan.timeline),
        )
        guider.model_options = create_model_options_clone(original)
        guider.model_options["transformer_options"][KEY] = session
        guider.model_options["transformer_options"][EAGER_KEY] = EagerRegion()
        stages = [len(stage) for stage in session.stages.all]
        progress = RunProgress(plan.timeline, guider.model_patcher, stages)
        guider.model_options["transformer_options"][PROGRESS_KEY] = progress
        guider.model_options["transformer_options"][RESERVE_KEY] = memory.bytes_on_device(
            plan.config.memory, size, budget
        )
        if held is not None:
            guider.model_options["transformer_options"][HELD_KEY] = held
        try:
            result = _sample_stages(executor, session, progress, args, kwargs)
            if held is not None:
                result = held.put_back(result)
            record.put(*session.finish())
            memory.report_held(session.bank.peak_bytes)
            return result
        finally:
            guider.model_options = original
            session.close()

    return outer_sample


def _sample_stages(
    executor: Any, session: Session, progress: RunProgress, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """What the host's `outer_sample` gives in the last of the session's stages, each of which is a run of it."""
    if not session.stages.several:
        return executor(*args, **kwargs)
    args, kwargs = _counting(progress, args, kwargs)
    guider = executor.class_obj
    options = guider.model_options["transformer_options"]
    reserve = options[RESERVE_KEY]
    while session.stages.early:
        # Copied, since the host prepares the conditioning of a guider in its place.
        conds = {name: [dict(entry) for entry in entries] for name, entries in guider.conds.items()}
        executor(*args, **kwargs)
        guider.conds = conds
        session.next_stage()
        progress.next_stage()
        # What the bank holds on the device need not be kept free any more.
        options[RESERVE_KEY] = max(0, reserve - session.bank.device_bytes)
    return executor(*args, **kwargs)


def _counting(
    progress: RunProgress, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of the host's `outer_sample` with a callback that counts through the whole run."""
    if len(args) > CALLBACK_ARGUMENT:
        callback = args[CALLBACK_ARGUMENT]
        told = None if callback is None else progress.counted(callback)
        return (*args[:CALLBACK_ARGUMENT], told, *args[CALLBACK_ARGUMENT + 1 :]), kwargs
    callback = kwargs.get("callback")
    return args, kwargs if callback is None else {**kwargs, "callback": progress.counted(callback)}


def _prepare_sampling_wrapper(
    executor: Any, model: Any, noise_shape: Any, conds: Any, model_options: Any = None, **kwargs: Any
) -> Any:
    """Lets the host budget memory for one segment, since no forward ever sees the long latent, and for the bank."""
    handler = model.model_options.get("context_handler")
    if isinstance(handler, SegmentHandler) and len(noise_shape) in (3, 5):
        reserve = (model_options or {}).get("transformer_options", {}).get(RESERVE_KEY, 0)
        noise_shape = list(noise_shape)
        # Packed video and audio are [batch, 1, numbers], of which a segment has its share.
        window = (
            handler.context_length
            if len(noise_shape) == 5
            else math.ceil(noise_shape[FRAME_DIM] * handler.context_length / handler.timeline.latent_frames)
        )
        noise_shape[FRAME_DIM] = min(noise_shape[FRAME_DIM], window)
        noise_shape[FRAME_DIM] += memory.frames_to_reserve(model, noise_shape, reserve)
    return executor(model, noise_shape, conds, model_options=model_options, **kwargs)


def _predict_noise_wrapper(plan: SharePlan) -> Callable[..., Any] | None:
    """Drift control on what a guider predicts, once for every model call, whatever guidance it is made of; None where
    there is nothing to control."""
    strength, timeline = plan.config.drift_control, plan.timeline
    if strength == 0 or len(timeline.segments) == 1:
        return None
    parts = parts_over_time(timeline, plan.config.order)

    def predict_noise(executor: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        denoised = executor(*args, **kwargs)
        session: Session | None = executor.class_obj.model_options["transformer_options"].get(KEY)
        if session is not None and session.stages.early:
            return denoised
        latent = latent_of(denoised, list(executor.class_obj.conds.values()), timeline)
        return latent.with_video(match_to_anchor(latent.video, parts, strength))

    return predict_noise


def _warn(message: str) -> None:
    log.warning("MaskGuidedKVShare: %s", message)


def _apply_model_wrapper(
    executor: Any,
    x: torch.Tensor,
    t: torch.Tensor,
    c_concat: Any = None,
    c_crossattn: Any = None,
    control: Any = None,
    transformer_options: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Any:
    options = transformer_options or {}
    session: Session | None = options.get(KEY)
    forward = None if session is None else _open_forward(session, options, x, c_crossattn, kwargs)
    if session is None or forward is None:
        return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
    eager: EagerRegion = options[EAGER_KEY]
    override = attention_override(partial(session.attend, forward), options, input_shapes(kwargs))
    options = {**options, "optimized_attention_override": override}
    with eager:
        return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)


def _open_forward(
    session: Session, options: dict[str, Any], x: torch.Tensor, text: torch.Tensor | None, inputs: Mapping[str, Any]
) -> Forward | None:
    """The forward to watch, or None when nothing of it concerns the session or it is not one of a whole segment.

    inputs: what else the model gets, by name.
    """
    window = options.get("context_window")
    if not isinstance(window, SegmentWindow) or text is None:
        return None
    names = list(zip(options["cond_or_uncond"], options["uuids"], strict=True))
    forward = session.open_forward(
        window.evaluation,
        tuple((index, window.places.get((index, identity), -1)) for index, identity in names),
        window.prompts,
        x.shape[0] // len(names),
        session.info.grid(*window.shape),
        min(text.shape[1], inputs.get(TEXT_TOKENS, text.shape[1])),
        window.hides,
    )
    if forward is None:
        return None
    forward.routes = {
        place: window.routes[identity] for place, (_, identity) in enumerate(names) if identity in window.routes
    }
    forward.alone = SEVERAL_DEVICES not in options
    # A common prompt does not name the beat's subject, which is read once the beat's own holds.
    forward.own_text = not window.common
    forward.reads = forward.reads and forward.own_text
    if any(name not in window.places for name in names):
        session.warn_once("another node evaluates conditioning of its own; it is left unshared.")
        return None
    if x.shape[2:] != (window.shape if window.packed is None else (window.packed,)):
        session.warn_once("conditioning for a part of the picture is left unshared.")
        return None
    return forward
