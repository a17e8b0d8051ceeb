"""Loads the embedded model through ComfyUI's own loaders: a diffusion model, a text encoder and a VAE like any other."""

from pathlib import Path
from typing import NamedTuple

import comfy.model_patcher
import comfy.sd
import comfy.utils

from .clip import load_text_encoder

FPS = 8
"""Frames per second that the training scenes stand for."""
NATIVE_LATENT_FRAMES = 5
"""Latent frames (17 frames of video) of a training clip; longer videos are evaluated as overlapping windows."""
SIDE = 96
"""Width and height of a training frame in pixels."""

WEIGHTS = Path(__file__).resolve().parent / "weights"
TRANSFORMER_FILE = "transformer.safetensors"
TEXT_ENCODER_FILE = "text_encoder.safetensors"
VAE_FILE = "vae.safetensors"


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
    return vae


def weight_file(weights: Path, name: str) -> Path:
    """The path of one weights file. Raises FileNotFoundError, saying how to make it, when it is missing."""
    file = weights / name
    if not file.is_file():
        raise FileNotFoundError(
            f"The embedded KV Share model lacks {file}. The file is part of the node pack: install the pack again, or train "
            "the model anew from the pack's folder with: python -m kvshare_core.embedded.training all"
        )
    return file
