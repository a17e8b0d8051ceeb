"""Loads a video model with its text encoder and VAE through the host's own loaders."""

from typing import Any

import comfy.sd
import comfy.utils
import folder_paths
import torch

from ..embedded.latents import NATIVE_LATENT_FRAMES
from ..embedded.model import load_embedded
from ..families import UnsupportedModelError
from .patch import NATIVE_FRAMES_ATTACHMENT, model_info

EMBEDDED = "embedded"
"""Name of the small model that ships with the pack, in every list of the loader."""

WEIGHT_DTYPES: dict[str, torch.dtype | None] = {
    "default": None,
    "fp8_e4m3fn": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}


def diffusion_model_names() -> list[str]:
    """The embedded model and the user's diffusion models."""
    return [EMBEDDED, *folder_paths.get_filename_list("diffusion_models")]


def text_encoder_names() -> list[str]:
    """The embedded text encoder and the user's text encoders."""
    return [EMBEDDED, *folder_paths.get_filename_list("text_encoders")]


def vae_names() -> list[str]:
    """The embedded VAE and the user's VAEs."""
    return [EMBEDDED, *folder_paths.get_filename_list("vae")]


def load_video_model(diffusion_model: str, text_encoder: str, vae: str, weight_dtype: str) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of the named files.

    Raises ValueError when embedded and own files are mixed, families.UnsupportedModelError when the file is no video
    diffusion transformer, FileNotFoundError for a file that is gone.
    """
    chosen = {"diffusion_model": diffusion_model, "text_encoder": text_encoder, "vae": vae}
    embedded = [name for name, value in chosen.items() if value == EMBEDDED]
    if len(embedded) == len(chosen):
        model, clip, decoder = load_embedded()
        model.set_attachments(NATIVE_FRAMES_ATTACHMENT, NATIVE_LATENT_FRAMES)
        return model, clip, decoder
    if embedded:
        others = ", ".join(name for name in chosen if name not in embedded)
        raise ValueError(
            f"LoadVideoDiT: {', '.join(embedded)} is '{EMBEDDED}' but {others} is a file of yours. The embedded model, "
            "text encoder and VAE only fit each other: choose it for all three, or files for all three."
        )
    model = _load_diffusion_model(diffusion_model, weight_dtype)
    clip = comfy.sd.load_clip(
        ckpt_paths=[folder_paths.get_full_path_or_raise("text_encoders", text_encoder)],
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        clip_type=comfy.sd.CLIPType.WAN,
    )
    decoder = comfy.sd.VAE(sd=comfy.utils.load_torch_file(folder_paths.get_full_path_or_raise("vae", vae)))
    decoder.throw_exception_if_invalid()
    return model, clip, decoder


def _load_diffusion_model(name: str, weight_dtype: str) -> Any:
    path = folder_paths.get_full_path_or_raise("diffusion_models", name)
    dtype = WEIGHT_DTYPES[weight_dtype]
    try:
        model = comfy.sd.load_diffusion_model(path, model_options={} if dtype is None else {"dtype": dtype})
        model_info(model)
    except UnsupportedModelError as reason:
        raise UnsupportedModelError(f"LoadVideoDiT: diffusion_model '{name}' cannot be used: {reason}") from None
    except RuntimeError as reason:
        raise UnsupportedModelError(
            f"LoadVideoDiT: diffusion_model '{name}' is no diffusion model that ComfyUI can load: {reason}"
        ) from reason
    return model
