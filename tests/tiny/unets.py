"""Tiny UNets of SD 1.5, SD 2.x, SDXL and Stable Video Diffusion, built by the host's own classes."""

from typing import Any

import comfy.model_patcher
import comfy.supported_models
import torch

from tests.tiny.models import Sampling, lively_state_dict

CHANNELS = 4
TEXT_WIDTHS = {"SD15": 768, "SD20": 1024, "SDXL": 2048}
POOLED_WIDTH = 1280

COMMON: dict[str, Any] = {
    "image_size": 32,
    "in_channels": CHANNELS,
    "out_channels": CHANNELS,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "use_spatial_transformer": True,
    "use_temporal_attention": False,
    "legacy": False,
}
"""Two levels: blocks 0 and 1 on the way down, 2 in the middle, 3 to 6 on the way up."""

SIZES: dict[str, dict[str, Any]] = {
    "SD15": {"num_heads": 2, "num_head_channels": -1, "use_linear_in_transformer": False, "adm_in_channels": None},
    "SD20": {"num_heads": -1, "num_head_channels": 16, "use_linear_in_transformer": True, "adm_in_channels": None},
    "SDXL": {
        "num_heads": -1,
        "num_head_channels": 16,
        "use_linear_in_transformer": True,
        "num_classes": "sequential",
        "adm_in_channels": 2816,
        "transformer_depth": [0, 2],
        "transformer_depth_output": [0, 0, 2, 1],
    },
}


def tiny_unet(kind: str = "SD15", **changes: Any) -> Any:
    """A MODEL of a supported class of the host, `SD15`, `SD20` or `SDXL`."""
    config = getattr(comfy.supported_models, kind)({})
    config.unet_config = {
        **config.unet_config,
        **COMMON,
        **SIZES[kind],
        "context_dim": TEXT_WIDTHS[kind],
        **config.unet_extra_config,
        **{name: SIZES[kind][name] for name in ("num_heads", "num_head_channels")},
        **changes,
    }
    return _patcher(config)


def tiny_svd() -> Any:
    """A MODEL of Stable Video Diffusion."""
    config = comfy.supported_models.SVD_img2vid({})
    extra = {**config.unet_extra_config, "num_heads": -1, "num_head_channels": 16}
    config.unet_config = {
        **COMMON,
        **extra,
        "in_channels": 8,
        "context_dim": 64,
        "use_linear_in_transformer": True,
        "use_temporal_attention": True,
        "use_temporal_resblock": True,
        "video_kernel_size": [3, 1, 1],
        "extra_ff_mix_layer": True,
        "use_spatial_context": True,
        "merge_strategy": "learned_with_images",
        "merge_factor": 0.0,
        "disable_temporal_crossattention": False,
        "adm_in_channels": 768,
        "num_classes": "sequential",
    }
    return _patcher(config)


def _patcher(config: Any) -> Any:
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "")
    model.diffusion_model.load_state_dict(lively_state_dict(model.diffusion_model))
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def text_of(kind: str, seed: int, tokens: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """A text [1, tokens, width] as the model's encoder gives it; SDXL's with its pooled output."""
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(1, tokens, TEXT_WIDTHS[kind], generator=generator)
    return tensor, {"pooled_output": torch.randn(1, POOLED_WIDTH, generator=generator)} if kind == "SDXL" else {}


def sample_pictures(
    sampling: Sampling, model: Any, positive: list[Any], negative: list[Any], shape: tuple[int, ...], **options: Any
) -> torch.Tensor:
    """Samples a batch of pictures; shape and result as those of a video [1, channels, frames, height, width]."""
    _, channels, frames, *size = shape
    pictures = sampling.run(model, positive, negative, (frames, channels, *size), **options)
    return pictures.movedim(0, 1)[None]
