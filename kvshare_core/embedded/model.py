"""Loads the embedded model through ComfyUI's own loaders, as the diffusion model, CLIP and VAE it is."""

from pathlib import Path
from typing import NamedTuple

import comfy.model_patcher
import comfy.sd
import comfy.utils

from .clip import load_text_encoder
from .files import TEXT_ENCODER_FILE, TRANSFORMER_FILE, VAE_FILE, WEIGHTS, weight_file


class EmbeddedModel(NamedTuple):
    """The three parts, as the stock loader nodes would return them."""

    model: comfy.model_patcher.ModelPatcher
    clip: comfy.sd.CLIP
    vae: comfy.sd.VAE


def load_embedded(weights: Path = WEIGHTS) -> EmbeddedModel:
    """Loads the three files in `weights`. Raises FileNotFoundError when one is missing."""
    return EmbeddedModel(load_diffusion_model(weights), load_clip(weights), load_vae(weights))


def load_diffusion_model(weights: Path = WEIGHTS) -> comfy.model_patcher.ModelPatcher:
    """The transformer. Loaded by path, which lets newer hosts load it again for a second GPU."""
    return comfy.sd.load_diffusion_model(str(weight_file(weights, TRANSFORMER_FILE)))


def load_clip(weights: Path = WEIGHTS) -> comfy.sd.CLIP:
    """The text encoder."""
    return load_text_encoder(weight_file(weights, TEXT_ENCODER_FILE))


def load_vae(weights: Path = WEIGHTS) -> comfy.sd.VAE:
    """The VAE."""
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(weight_file(weights, VAE_FILE)), safe_load=True))
    vae.throw_exception_if_invalid()
    vars(vae.patcher)["cached_patcher_init"] = (load_vae_patcher, (weights,))
    return vae


def load_vae_patcher(weights: Path, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """Newer hosts call this for a second copy, as for one more GPU; like their own loader, it ignores the option."""
    return load_vae(weights).patcher
