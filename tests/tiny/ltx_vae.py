"""A tiny video VAE of LTX: 8 x 32 x 32, 128 channels, through the host's own loader."""

import json
from typing import Any

import comfy.sd
from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE

from tests.tiny.cross_attention import LTXV_CHANNELS, lively_state_dict


def tiny_ltx_vae() -> Any:
    """A VAE with 8 channels in its widest layers."""
    config = {
        "_class_name": "CausalVideoAutoencoder",
        "dims": 3,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": LTXV_CHANNELS,
        "blocks": [["res_x", 1], ["compress_all", 1], ["compress_all", 1], ["compress_all", 1], ["res_x", 1]],
        "encoder_base_channels": 8,
        "decoder_base_channels": 8,
        "norm_layer": "pixel_norm",
        "patch_size": 4,
        "latent_log_var": "uniform",
    }
    state = lively_state_dict(VideoVAE(config=config))
    for name, scale in (("std-of-means", 1.0), ("mean-of-means", 0.0)):
        state[f"per_channel_statistics.{name}"] = state["encoder.conv_out.conv.bias"].new_full((LTXV_CHANNELS,), scale)
    return comfy.sd.VAE(sd=state, metadata={"config": json.dumps({"vae": config})})
