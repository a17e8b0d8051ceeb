"""Tiny VAEs of MiniMax H3, through the host's own loader, whose sizes they replace while it builds them."""

from functools import partial
from typing import Any
from unittest import mock

import comfy.sd
import torch

from tests.tiny.cross_attention import lively_state_dict


def tiny_h3_vae() -> Any:
    """The video VAE: 17 pictures in 5 latent frames, 24 channels. Raises ModuleNotFoundError on older hosts."""
    import comfy.ldm.minimax.vae as host

    with (
        mock.patch.object(host, "ViT3DDecoder", partial(host.ViT3DDecoder, num_layers=1, heads=1)),
        mock.patch.object(host, "MiniMaxH3VideoVAE", partial(host.MiniMaxH3VideoVAE, ch=32, num_res_blocks=1)),
    ):
        return _loaded(host.MiniMaxH3VideoVAE())


def tiny_h3_audio_vae() -> Any:
    """The audio VAE: 800 samples in a step, 32 channels. Raises ModuleNotFoundError on older hosts."""
    import comfy.ldm.minimax.audio_vae as host

    sizes = {"encoder_dim": 4, "latent_dim": 128, "decoder_dim": 128}
    with mock.patch.object(host, "MiniMaxH3AudioVAE", partial(host.MiniMaxH3AudioVAE, **sizes)):
        return _loaded(host.MiniMaxH3AudioVAE())


def _loaded(module: torch.nn.Module) -> Any:
    state = {**module.state_dict(), **lively_state_dict(module)}
    channels = len(state["latents_mean"])
    state |= {"latents_mean": torch.zeros(channels), "latents_std": torch.ones(channels)}
    return comfy.sd.VAE(sd=state)
