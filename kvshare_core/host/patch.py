"""Puts a plan on a MODEL through the model-patcher, and runs it while sampling.

The patched MODEL carries frozen values and closures only. Run state lives in a `Session` that exists between the start
and the end of one `sample()`.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from comfy.model_patcher import create_model_options_clone
from comfy.patcher_extension import WrappersMP

from ..config import KVShareConfig
from ..families import find_family
from ..families.base import AttentionCall, Family, FamilyInfo
from ..record import KVShareRecord
from ..schedule import step_of
from ..session import Forward, Session, SharePlan
from . import KEY
from .segments import FRAME_DIM, SegmentHandler, SegmentWindow

log = logging.getLogger("kvshare")

NATIVE_FRAMES_ATTACHMENT = "kvshare_native_frames"
"""Attachment of a MODEL whose clips are shorter or longer than its family's: latent frames it was trained on."""


def model_info(model: Any) -> tuple[Family, FamilyInfo]:
    """Family and numbers of a MODEL. Raises families.UnsupportedModelError."""
    latent_format = model.get_model_object("latent_format")
    family, info = find_family(model.get_model_object("diffusion_model"), latent_format.latent_channels)
    native_frames = model.get_attachment(NATIVE_FRAMES_ATTACHMENT)
    return family, info if native_frames is None else replace(info, native_frames=native_frames)


def apply(model: Any, plan: SharePlan) -> tuple[Any, KVShareRecord]:
    """A clone of `model` that samples `plan`, and the record its runs will fill.

    A plan put on before is replaced. Raises families.UnsupportedModelError for a model without a family, ValueError
    when another pack's context windows sit on the model or the plan asks for blocks that it does not have.
    """
    family, info = model_info(model)
    _check_blocks(plan.config, info.blocks)
    present = model.model_options.get("context_handler")
    if present is not None and not isinstance(present, SegmentHandler):
        raise ValueError(
            f"model: it already has context windows ({type(present).__name__}). Remove the node "
            "that sets them; the timeline makes its own segments."
        )
    patched = model.clone()
    record = KVShareRecord()
    patched.model_options["context_handler"] = SegmentHandler(plan.timeline)
    for wrapper_type, wrapper in (
        (WrappersMP.OUTER_SAMPLE, _outer_sample_wrapper(plan, family, info, record)),
        (WrappersMP.PREPARE_SAMPLING, _prepare_sampling_wrapper),
        (WrappersMP.APPLY_MODEL, _apply_model_wrapper),
    ):
        patched.remove_wrappers_with_key(wrapper_type, KEY)
        patched.add_wrapper_with_key(wrapper_type, KEY, wrapper)
    return patched, record


def _check_blocks(config: KVShareConfig, blocks: int) -> None:
    chosen = config.layer_idx or (config.start_layer,)
    if max(chosen) >= blocks:
        name = "layer_idx" if config.layer_idx else "start_layer"
        raise ValueError(f"config: {name} asks for block {max(chosen)}, but this model has blocks 0 to {blocks - 1}.")


def _outer_sample_wrapper(
    plan: SharePlan, family: Family, info: FamilyInfo, record: KVShareRecord
) -> Callable[..., Any]:
    def outer_sample(executor: Any, *args: Any, **kwargs: Any) -> Any:
        guider = executor.class_obj
        handler = guider.model_options.get("context_handler")
        if not isinstance(handler, SegmentHandler):
            raise ValueError(
                "MaskGuidedKVShare: a later node put other context windows on the model. Remove it, or move "
                "MaskGuidedKVShare behind it to see which one."
            )
        diffusion_model = guider.model_patcher.model.diffusion_model
        session = Session(plan, family, info, diffusion_model, _warn)
        original = guider.model_options
        guider.model_options = create_model_options_clone(original)
        guider.model_options["transformer_options"][KEY] = session
        try:
            result = executor(*args, **kwargs)
            masks = session.recorded_masks()
            if masks is not None:
                record.put(masks)
            return result
        finally:
            guider.model_options = original
            session.close()

    return outer_sample


def _prepare_sampling_wrapper(executor: Any, model: Any, noise_shape: Any, *args: Any, **kwargs: Any) -> Any:
    """Lets the host budget memory for one segment: no forward ever sees the long latent."""
    handler = model.model_options.get("context_handler")
    if isinstance(handler, SegmentHandler):
        noise_shape = list(noise_shape)
        noise_shape[FRAME_DIM] = min(noise_shape[FRAME_DIM], handler.context_length)
    return executor(model, noise_shape, *args, **kwargs)


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
    forward = None if session is None else _open_forward(session, options, x, c_crossattn)
    if session is not None and forward is not None:
        options = {**options, "optimized_attention_override": _attention_override(session, forward, options)}
    return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)


def _open_forward(
    session: Session, options: dict[str, Any], x: torch.Tensor, text: torch.Tensor | None
) -> Forward | None:
    """The forward to watch, or None when nothing of it concerns the session or it is not one of a whole segment."""
    window = options.get("context_window")
    if not isinstance(window, SegmentWindow) or text is None:
        return None
    step = step_of(float(options["sigmas"].max()), options["sample_sigmas"].tolist())
    if not session.wants(step):
        return None
    names = list(zip(options["cond_or_uncond"], options["uuids"], strict=True))
    if any(name not in window.places for name in names):
        session.warn_once("another node evaluates conditioning of its own; it is left unshared.")
        return None
    if x.shape[2:] != window.shape:
        session.warn_once("conditioning for a part of the picture is left unshared.")
        return None
    return Forward(
        segment=window.segment,
        prompts=window.prompts,
        chunks=tuple((index, window.places[index, identity]) for index, identity in names),
        rows=x.shape[0] // len(names),
        grid=session.info.grid(*window.shape),
        text_tokens=text.shape[1],
        step=step,
    )


def _attention_override(session: Session, forward: Forward, options: dict[str, Any]) -> Callable[..., torch.Tensor]:
    """Our attention for one forward, in front of whatever override was there."""
    previous = options.get("optimized_attention_override")

    def override(function: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
        query, key, value, *rest = args
        heads = rest[0] if rest else kwargs["heads"]
        mask = rest[1] if len(rest) > 1 else kwargs.get("mask")
        call = AttentionCall(query, key, value, heads, 2 if kwargs.get("skip_reshape") else 1, mask is not None)

        def backend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            if previous is not None:
                return previous(function, query, key, value, *rest, **kwargs)
            return function(query, key, value, *rest, **kwargs)

        return session.attend(forward, call, backend)

    return override
