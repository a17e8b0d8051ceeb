"""A tiny ViT3D with seeded random weights, made by the pack's host-side classes."""

from typing import Any

import comfy.model_management
import comfy.model_patcher
import torch

from kvshare_core.embedded.text import TEXT_WIDTH
from kvshare_core.embedded.vit3d import BackboneShape
from kvshare_core.embedded.vit3d_file import ViT3DFile, ViT3DShape
from kvshare_core.embedded.vit3d_model import ViT3DConfig
from kvshare_core.embedded.vocabulary import PAD, UNKNOWN

TINY = ViT3DShape(
    frames=3,
    height=16,
    width=16,
    time_dim=8,
    text_dim=TEXT_WIDTH,
    embed_dim=16,
    num_temporal_heads=2,
    backbone=BackboneShape(image_size=16, patch_size=4, layers=4, heads=2, mlp_dim=24),
    patch_features=True,
    mixing_every=2,
)
WORDS = (PAD, UNKNOWN, "fox", "runs")


def tiny_vit3d(shape: ViT3DShape = TINY) -> Any:
    """A ViT3D MODEL whose attention differs from place to place."""
    config = ViT3DConfig(ViT3DFile(shape, WORDS, 3.0, {}))
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({})
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.diffusion_model.named_parameters():
        if parameter.ndim == 1:
            values = (
                torch.ones(parameter.shape)
                if name.endswith(("norm.weight", "ln.weight", "1.weight", "2.weight"))
                else torch.zeros(parameter.shape)
            )
        else:
            values = torch.randn(parameter.shape, generator=generator) * 0.25
        parameter.data = values
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))
