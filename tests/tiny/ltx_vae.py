"""Tiny parts of LTX besides its model: the video VAE, 8 x 32 x 32 with 128 channels, LTX-2's audio VAE, and its
upsampler; both VAEs through the host's own loader."""

import json
from typing import Any

import comfy.model_patcher
import comfy.sd
import torch
from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE

from tests.tiny.cross_attention import BUILD, LTXV_CHANNELS, lively_state_dict


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


def tiny_ltx_audio_vae() -> Any:
    """The audio VAE of LTX-2, with 8 channels in its widest layers. Raises ModuleNotFoundError on older hosts."""
    from comfy.ldm.lightricks.vae.audio_vae import AudioVAE

    layers = {
        "double_z": True,
        "mel_bins": 64,
        "z_channels": 8,
        "resolution": 256,
        "downsample_time": False,
        "in_channels": 2,
        "out_ch": 2,
        "ch": 8,
        "ch_mult": [1, 2, 4],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "dropout": 0.0,
        "mid_block_add_attention": False,
        "norm_type": "pixel",
        "causality_axis": "height",
    }
    audio = {"model": {"params": {"ddconfig": layers, "sampling_rate": 16000}}}
    vocoder = {"upsample_initial_channel": 32, "output_sample_rate": 16000}
    metadata = {"config": json.dumps({"audio_vae": audio, "vocoder": vocoder})}
    module = AudioVAE(metadata)
    state = {**module.state_dict(), **lively_state_dict(module)}
    for name, value in (("std-of-means", 1.0), ("mean-of-means", 0.0)):
        state[f"autoencoder.per_channel_statistics.{name}"].fill_(value)
    return comfy.sd.VAE(sd=state, metadata=metadata)


def tiny_ltx_upsampler() -> Any:
    """LTX-2's upsampler to twice the height and width, as the host's loader gives it."""
    from comfy.ldm.lightricks.latent_upsampler import LatentUpsampler

    sizes: dict[str, Any] = {"in_channels": LTXV_CHANNELS, "mid_channels": 32, "num_blocks_per_stage": 1, "dims": 3}
    sizes |= {"spatial_upsample": True, "temporal_upsample": False}
    module = LatentUpsampler.from_config(sizes, operations=BUILD["operations"])
    module.load_state_dict(lively_state_dict(module), strict=False)
    return comfy.model_patcher.ModelPatcher(module, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))
