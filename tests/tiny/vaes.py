"""Tiny VAEs of the layouts that the host loads, with seeded random weights, through its own loader."""

from typing import Any

import comfy.ldm.wan.vae
import comfy.sd
import comfy.taesd.taehv
import comfy.taesd.taesd
import torch

from tests.tiny.cross_attention import lively_state_dict


def tiny_wan_vae() -> Any:
    """Wan 2.1's VAE with 8 channels in its widest-spread layers: 4 x 8 x 8, 16 channels."""
    module = comfy.ldm.wan.vae.WanVAE(
        dim=8,
        z_dim=16,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        attn_scales=[],
        temperal_downsample=[False, True, True],
    )
    return comfy.sd.VAE(sd=lively_state_dict(module))


def tiny_image_vae() -> Any:
    """The small autoencoder that the host knows for latents of Stable Diffusion, 8 x 8 with 4 channels."""
    return comfy.sd.VAE(sd=image_vae_weights())


def image_vae_weights() -> dict[str, torch.Tensor]:
    """Seeded weights of that autoencoder; its scale and shift, numbers without dimensions, are its own."""
    module, generator = comfy.taesd.taesd.TAESD(), torch.Generator().manual_seed(0)
    weights: dict[str, torch.Tensor] = {}
    for name, parameter in module.named_parameters():
        spread = parameter[0].numel() ** -0.5 if parameter.ndim else 0.0
        noise = torch.randn(parameter.shape, generator=generator) * spread
        weights[name] = noise if parameter.ndim else parameter.detach().clone()
    return weights


def tiny_autoencoder(channels: int) -> Any:
    """The small autoencoder that the host knows for latents of 48 channels (Wan 2.2) and of 32 (HunyuanVideo 1.5), both
    4 x 16 x 16: it stands for their full ones, whose sizes the host's loader fixes."""
    module = comfy.taesd.taehv.TAEHV(latent_channels=channels)
    return comfy.sd.VAE(sd=lively_state_dict(module))
