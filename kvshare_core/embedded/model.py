"""Loads the embedded models through ComfyUI's own loaders, as the diffusion model, CLIP and VAE they are.

There are two, trained on the same generated scenes: `cross-attention` in the layout of Wan, whose video tokens look at
the text in a call of their own, and `joint-attention` in the layout of HunyuanVideo, whose video and text tokens look
at each other in one call. The joint-attention model also draws two subjects. Both use the same VAE file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import comfy.model_patcher
import comfy.sd
import comfy.utils

from .clip import load_text_encoder
from .files import (
    JOINT_TEXT_ENCODER_FILE,
    JOINT_TRANSFORMER_FILE,
    TEXT_ENCODER_FILE,
    TRANSFORMER_FILE,
    VAE_FILE,
    WEIGHTS,
    weight_file,
)
from .vae import in_hunyuan_scale

Attention = Literal["cross-attention", "joint-attention"]
CROSS_ATTENTION: Attention = "cross-attention"
JOINT_ATTENTION: Attention = "joint-attention"
MODEL_FILES: dict[Attention, tuple[str, str]] = {
    CROSS_ATTENTION: (TRANSFORMER_FILE, TEXT_ENCODER_FILE),
    JOINT_ATTENTION: (JOINT_TRANSFORMER_FILE, JOINT_TEXT_ENCODER_FILE),
}
"""Transformer and text encoder of each model."""


class EmbeddedModel(NamedTuple):
    """The three parts, as the stock loader nodes would return them."""

    model: comfy.model_patcher.ModelPatcher
    clip: comfy.sd.CLIP
    vae: comfy.sd.VAE


def load_embedded(
    attention: Attention = CROSS_ATTENTION, weights: Path = WEIGHTS, model_options: Mapping[str, Any] | None = None
) -> EmbeddedModel:
    """Loads one of the models from the files in `weights`; `model_options` go to the host's loader of the transformer.

    Raises FileNotFoundError when a file is missing.
    """
    transformer, text_encoder = (weight_file(weights, name) for name in MODEL_FILES[attention])
    # Loaded by path, which lets newer hosts load it again for a second GPU.
    model = comfy.sd.load_diffusion_model(str(transformer), model_options=dict(model_options or {}))
    return EmbeddedModel(model, load_text_encoder(text_encoder), load_vae(weights, attention))


def load_vae(weights: Path = WEIGHTS, attention: Attention = CROSS_ATTENTION) -> comfy.sd.VAE:
    """The VAE, with the latents that a model of that kind expects. Raises FileNotFoundError without its file."""
    state: Any = comfy.utils.load_torch_file(str(weight_file(weights, VAE_FILE)), safe_load=True)
    vae = comfy.sd.VAE(sd=in_hunyuan_scale(state) if attention == JOINT_ATTENTION else state)
    vae.throw_exception_if_invalid()
    vars(vae.patcher)["cached_patcher_init"] = (load_vae_patcher, (weights, attention))
    return vae


def load_vae_patcher(
    weights: Path, attention: Attention = CROSS_ATTENTION, disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """Newer hosts call this for a second copy, as for one more GPU; like their own loader, it ignores the option."""
    return load_vae(weights, attention).patcher
