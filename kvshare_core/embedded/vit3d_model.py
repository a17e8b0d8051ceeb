"""Loads a ViT3D file into ComfyUI: a MODEL for the stock samplers, a CLIP of its own words, and a VAE that is none.

ComfyUI has no such model, so the pack states what the host's loader would find out: its class, how it is sampled (flow
matching) and what its latents are (pixels in -1..1). Everything else is the host's.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models_base
import comfy.utils
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers

from .clip import WordTextModel, WordTokenizer
from .text import TEXT_WIDTH
from .vit3d import STEPS, Options, ViT3D
from .vit3d_file import WORD_TABLE, ViT3DFile, read_vit3d
from .vocabulary import UNKNOWN


def host_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int, options: Options
) -> torch.Tensor:
    """The attention function that the user's ComfyUI runs."""
    return optimized_attention(query, key, value, heads, transformer_options=options)


class HostViT3D(ViT3D):
    """ViT3D as a diffusion model of the host."""

    def __init__(self, **arguments: Any):
        super().__init__(attention=host_attention, **arguments)

    def forward(
        self,
        x: torch.Tensor,
        timestep: torch.Tensor,
        context: torch.Tensor | None = None,
        transformer_options: Options | None = None,
        **others: Any,
    ) -> torch.Tensor:
        options = transformer_options or {}
        wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, dict(options))
        whole = WrapperExecutor.new_class_executor(super().forward, self, wrappers)
        return whole.execute(x, timestep, context, options, **others)


class PixelVideo(comfy.latent_formats.LatentFormat):
    """Latents that are the video itself, in -1..1."""

    latent_channels = 3
    latent_dimensions = 3
    spacial_downscale_ratio = 1
    temporal_downscale_ratio = 1

    def __init__(self) -> None:
        self.latent_rgb_factors = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]

    def process_in(self, latent: torch.Tensor) -> torch.Tensor:
        """Nothing changes."""
        return latent

    def process_out(self, latent: torch.Tensor) -> torch.Tensor:
        """Nothing changes."""
        return latent


class ViT3DConfig(comfy.supported_models_base.BASE):
    """What the host has to know of a ViT3D to make and sample it."""

    unet_extra_config: Mapping[str, Any] = {}
    latent_format = PixelVideo
    # In bfloat16 the noisy frame itself would be too coarse.
    supported_inference_dtypes = (torch.float16, torch.float32)
    memory_usage_factor = 0.04

    def __init__(self, content: ViT3DFile):
        super().__init__(content.shape.arguments())
        self.sampling_settings = {"shift": content.shift, "multiplier": STEPS}

    def get_model(self, state_dict: Any, prefix: str = "", device: Any = None) -> comfy.model_base.BaseModel:
        """The model without its weights."""
        made: Any = HostViT3D
        return comfy.model_base.BaseModel(self, comfy.model_base.ModelType.FLOW, device, made)


class ListedWordTokenizer(WordTokenizer):
    """The tokenizer of a model that has a list of words of its own."""

    def __init__(
        self, embedding_directory: object = None, tokenizer_data: object = None, *, words: tuple[str, ...] = ()
    ):
        super().__init__()
        self.known = words
        self._places = {word: place for place, word in enumerate(words)}

    def id_of(self, word: str) -> int:
        """Row of `word` in the table of word vectors."""
        return self._places.get(word, self._places[UNKNOWN])

    def word_of(self, number: int) -> str:
        """The word of a row."""
        return self.known[number]


class NarrowWordTextModel(WordTextModel):
    """The text encoder without the zeros that Wan's width needs."""

    text_dim = TEXT_WIDTH


def load_vit3d(
    path: str | Path, model_options: Mapping[str, Any] | None = None, disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """The MODEL of a ViT3D file. Newer hosts call this again for a second copy. Raises ValueError for another file."""
    content = vit3d_content(path)
    options, management = model_options or {}, comfy.model_management
    state: Any = comfy.utils.load_torch_file(str(path), safe_load=True)
    del state[WORD_TABLE]
    config = ViT3DConfig(content)
    device, dtypes = management.get_torch_device(), list(config.supported_inference_dtypes)
    dtype = options.get("dtype") or management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(state),
        supported_dtypes=dtypes,
        weight_dtype=comfy.utils.weight_dtype(state),
    )
    config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, device, dtypes))
    config.custom_operations = options.get("custom_operations")
    config.optimizations["fp8"] = options.get("fp8_optimizations", False)
    offload = management.unet_offload_device()
    model = config.get_model(state).to(offload)
    kind: Any = comfy.model_patcher.ModelPatcher
    if not disable_dynamic:
        kind = getattr(comfy.model_patcher, "CoreModelPatcher", kind)
    patcher: Any = kind(model, load_device=device, offload_device=offload)
    dynamic = hasattr(patcher, "is_dynamic") and patcher.is_dynamic()
    model.load_model_weights(state, "", **({"assign": True} if dynamic else {}))
    vars(patcher)["cached_patcher_init"] = (load_vit3d, (str(path), dict(options)))
    return patcher


def load_vit3d_clip(path: str | Path, **options: Any) -> comfy.sd.CLIP:
    """The text encoder in a ViT3D file; `options` go to the host's class. Raises ValueError for another file."""
    content = vit3d_content(path)
    state: Any = comfy.utils.load_torch_file(str(path), safe_load=True)
    table = state[WORD_TABLE]
    target = comfy.supported_models_base.ClipTarget(
        partial(ListedWordTokenizer, words=content.words), partial(NarrowWordTextModel, rows=len(table))
    )
    clip = comfy.sd.CLIP(target, parameters=table.numel(), **options)
    clip.load_sd({"words": table})
    vars(clip.patcher)["cached_patcher_init"] = (load_vit3d_clip_patcher, (str(path),))
    return clip


def load_vit3d_clip_patcher(path: str, **options: Any) -> comfy.model_patcher.ModelPatcher:
    """Newer hosts call this for a second copy."""
    return load_vit3d_clip(path, **options).patcher


def pixel_vae() -> comfy.sd.VAE:
    """The host's VAE that leaves pixels as they are, for videos."""
    vae = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
    vae.throw_exception_if_invalid()
    vae.latent_dim = 3
    vars(vae.patcher)["cached_patcher_init"] = (pixel_vae_patcher, ())
    return vae


def pixel_vae_patcher(disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """Newer hosts call this for a second copy; like their own loader of a VAE, it ignores the option."""
    return pixel_vae().patcher


def vit3d_content(path: str | Path) -> ViT3DFile:
    """What a ViT3D file says besides its weights. Raises ValueError for another file."""
    content = read_vit3d(path)
    if content is None:
        raise ValueError(f"{path} is no ViT3D file. Train one with: python3 dev.py train vit3d")
    return content
