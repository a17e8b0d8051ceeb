"""Loads the embedded models through ComfyUI's own loaders, as the diffusion model, CLIP and VAE they are.

They are trained on the same generated scenes: `cross-attention` in the layout of Wan, whose video tokens attend to the
text in a call of their own; `image-to-video` in that of Wan 2.2's image-to-video models, with the same text encoder;
`joint-attention` in the layout of HunyuanVideo, whose video and text tokens attend to each other in one call; and
`one-stream-attention` in the layout of CogVideoX, where they share all weights too, which older hosts do not have. The
last two also draw two subjects. All four use the same VAE file. `vit3d`, the model of the user's notes, draws pixels
and attends within a frame and over time in turns.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import comfy.model_patcher
import comfy.model_sampling
import comfy.sd
import comfy.utils

from .clip import load_text_encoder
from .files import (
    FEW_STEPS_FILE,
    IMAGE_FEW_STEPS_FILE,
    IMAGE_TRANSFORMER_FILE,
    JOINT_FEW_STEPS_FILE,
    JOINT_TEXT_ENCODER_FILE,
    JOINT_TRANSFORMER_FILE,
    ONE_STREAM_FEW_STEPS_FILE,
    ONE_STREAM_TEXT_ENCODER_FILE,
    ONE_STREAM_TRANSFORMER_FILE,
    TEXT_ENCODER_FILE,
    TRANSFORMER_FILE,
    VAE_FILE,
    VIT3D_FILE,
    WEIGHTS,
    weight_file,
)
from .latents import NATIVE_LATENT_FRAMES
from .layouts import SIGMA_SHIFT, with_unread_inputs
from .vae import COGVIDEOX_SCALE, HUNYUAN_SCALE, in_scale
from .vit3d_model import load_vit3d, load_vit3d_clip, pixel_vae

EmbeddedKind = Literal["cross-attention", "image-to-video", "joint-attention", "one-stream-attention", "vit3d"]
CROSS_ATTENTION: EmbeddedKind = "cross-attention"
IMAGE_TO_VIDEO: EmbeddedKind = "image-to-video"
JOINT_ATTENTION: EmbeddedKind = "joint-attention"
ONE_STREAM_ATTENTION: EmbeddedKind = "one-stream-attention"
VIT3D: EmbeddedKind = "vit3d"
MODEL_FILES: dict[EmbeddedKind, tuple[str, str]] = {
    CROSS_ATTENTION: (TRANSFORMER_FILE, TEXT_ENCODER_FILE),
    IMAGE_TO_VIDEO: (IMAGE_TRANSFORMER_FILE, TEXT_ENCODER_FILE),
    JOINT_ATTENTION: (JOINT_TRANSFORMER_FILE, JOINT_TEXT_ENCODER_FILE),
    ONE_STREAM_ATTENTION: (ONE_STREAM_TRANSFORMER_FILE, ONE_STREAM_TEXT_ENCODER_FILE),
    VIT3D: (VIT3D_FILE, VIT3D_FILE),
}
"""Transformer and text encoder of each model."""
FEW_STEPS_FILES: Mapping[EmbeddedKind, str] = {
    CROSS_ATTENTION: FEW_STEPS_FILE,
    IMAGE_TO_VIDEO: IMAGE_FEW_STEPS_FILE,
    JOINT_ATTENTION: JOINT_FEW_STEPS_FILE,
    ONE_STREAM_ATTENTION: ONE_STREAM_FEW_STEPS_FILE,
}
"""The LoRA of each model that makes it draw in 4 to 8 steps without guidance."""
LATENT_SCALES: Mapping[EmbeddedKind, float] = {
    JOINT_ATTENTION: HUNYUAN_SCALE,
    ONE_STREAM_ATTENTION: COGVIDEOX_SCALE,
}
"""Latent scales of the layouts other than Wan's."""
DRAWS_PAIRS = (JOINT_ATTENTION, ONE_STREAM_ATTENTION)
"""Models that were trained on scenes with two subjects."""
NATIVE_FRAMES: Mapping[EmbeddedKind, int] = {
    kind: NATIVE_LATENT_FRAMES for kind in (CROSS_ATTENTION, IMAGE_TO_VIDEO, JOINT_ATTENTION, ONE_STREAM_ATTENTION)
}
"""Latent frames that the models were trained on, where their files do not say it."""


class EmbeddedModel(NamedTuple):
    """The three parts, as the stock loader nodes would return them."""

    model: comfy.model_patcher.ModelPatcher
    clip: comfy.sd.CLIP
    vae: comfy.sd.VAE


class FlowSampling(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
    """Sampling by flow matching, as the host's node ModelSamplingSD3 gives it to a model."""


def is_available(kind: EmbeddedKind) -> bool:
    """Whether the host knows the layout of that model."""
    return kind != ONE_STREAM_ATTENTION or find_spec("comfy.ldm.cogvideo") is not None


def load_embedded(
    kind: EmbeddedKind = CROSS_ATTENTION, weights: Path = WEIGHTS, model_options: Mapping[str, Any] | None = None
) -> EmbeddedModel:
    """Loads one of the models from the files in `weights`; `model_options` go to the host's loader of the transformer.

    Raises FileNotFoundError when a file is missing and ValueError when the host does not know the layout.
    """
    if not is_available(kind):
        raise ValueError(
            "The embedded one-stream model is built like CogVideoX, which this ComfyUI does not know. Update ComfyUI "
            "or choose another model."
        )
    transformer, text_encoder = (weight_file(weights, name) for name in MODEL_FILES[kind])
    if kind == VIT3D:
        return EmbeddedModel(load_vit3d(transformer, model_options), load_vit3d_clip(text_encoder), pixel_vae())
    model = load_transformer(transformer, dict(model_options or {}))
    if kind == ONE_STREAM_ATTENTION:
        # The host would sample it as CogVideoX, which predicts something else.
        sampling = FlowSampling(model.model.model_config)
        sampling.set_parameters(shift=SIGMA_SHIFT, multiplier=1000)
        model.add_object_patch("model_sampling", sampling)
    return EmbeddedModel(model, load_text_encoder(text_encoder, kind in DRAWS_PAIRS), load_vae(weights, kind))


def load_transformer(
    file: Path, model_options: dict[str, Any], disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """What the host's loader makes of a stored transformer. Newer hosts call this again for a second copy, as for one
    more GPU; like the VAE's, it ignores the last option. Raises ValueError for a file that is no such model."""
    state: Any = comfy.utils.load_torch_file(str(file), safe_load=True)
    model = comfy.sd.load_diffusion_model_state_dict(with_unread_inputs(state), model_options=model_options)
    if model is None:
        raise ValueError(f"ComfyUI does not recognise {file}. Install the pack again, or train the model anew.")
    vars(model)["cached_patcher_init"] = (load_transformer, (file, model_options))
    return model


def with_few_steps(
    model: comfy.model_patcher.ModelPatcher, kind: EmbeddedKind, weights: Path = WEIGHTS
) -> comfy.model_patcher.ModelPatcher:
    """`model`, one of that kind, with its LoRA for 4 to 8 steps at cfg 1, as the host's LoRA nodes load it. Raises
    FileNotFoundError without its file."""
    state: Any = comfy.utils.load_torch_file(str(weight_file(weights, FEW_STEPS_FILES[kind])), safe_load=True)
    patched: Any = comfy.sd.load_lora_for_models(model, None, state, 1.0, 0.0)[0]
    return patched


def load_vae(weights: Path = WEIGHTS, kind: EmbeddedKind = CROSS_ATTENTION) -> comfy.sd.VAE:
    """The VAE, with the latents that a model of that kind expects. Raises FileNotFoundError without its file."""
    state: Any = comfy.utils.load_torch_file(str(weight_file(weights, VAE_FILE)), safe_load=True)
    vae = comfy.sd.VAE(sd=in_scale(state, LATENT_SCALES[kind]) if kind in LATENT_SCALES else state)
    vae.throw_exception_if_invalid()
    vars(vae.patcher)["cached_patcher_init"] = (load_vae_patcher, (weights, kind))
    return vae


def load_vae_patcher(
    weights: Path, kind: EmbeddedKind = CROSS_ATTENTION, disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """Newer hosts call this for a second copy, as for one more GPU; like their own loader, it ignores the option."""
    return load_vae(weights, kind).patcher
