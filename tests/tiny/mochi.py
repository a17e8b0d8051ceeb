"""A tiny Mochi model. The host's detection knows one size only, so it is made from a configuration by hand."""

from typing import Any

import comfy.model_patcher
import comfy.supported_models
import torch

CHANNELS = 12
TEXT_WIDTH = 64
TEXT_LENGTH = 16
"""Tokens that the text is padded to; 256 in the real model."""


def tiny_mochi(layers: int = 3, heads: int = 2) -> Any:
    """A Mochi MODEL of 128 channels for the video and 64 for the text."""
    sizes: dict[str, Any] = {
        "image_model": "mochi_preview",
        "depth": layers,
        "patch_size": 2,
        "num_heads": heads,
        "hidden_size_x": 128,
        "hidden_size_y": 64,
        # The host insists on 12288 hidden channels.
        "mlp_ratio_x": 96.0,
        "mlp_ratio_y": 4.0,
        "learn_sigma": False,
        "in_channels": CHANNELS,
        "qk_norm": True,
        "qkv_bias": False,
        "out_bias": True,
        "attn_drop": 0.0,
        "patch_embed_bias": True,
        "posenc_preserve_area": True,
        "timestep_mlp_bias": True,
        "attend_to_padding": False,
        "timestep_scale": 1000.0,
        "use_t5": True,
        "t5_feat_dim": TEXT_WIDTH,
        "t5_token_length": TEXT_LENGTH,
        "rope_theta": 10000.0,
    }
    config = comfy.supported_models.GenmoMochi(sizes)
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "")
    _fill(model.diffusion_model)
    device = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=device)


def _fill(module: torch.nn.Module) -> None:
    """Seeded weights that keep activations near 1, with peaked attention."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        if "_norm_" in name:
            parameter.data.fill_(1.6)
        else:
            # Positions reach 100 in small pictures: frequencies must be low for neighbours to look alike.
            spread = 0.01 if name == "pos_frequencies" else 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * spread)


def padded_text(seed: int, tokens: int, length: int = TEXT_LENGTH) -> tuple[torch.Tensor, dict[str, Any]]:
    """A text of `tokens` tokens as Mochi's encoder gives it: padded to `length`, with a mask that tells them apart."""
    text = torch.randn(1, length, TEXT_WIDTH, generator=torch.Generator().manual_seed(seed))
    return text, {"attention_mask": (torch.arange(length) < tokens).long()[None]}
