"""Tiny models of the other layouts of the host's HunyuanVideo class, and what their conditioning has besides text."""

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import comfy.ops
import comfy.sd
import torch
from comfy.ldm.hunyuan_video.model import HunyuanVideo, HunyuanVideoParams

from kvshare_core.timeline.timeline import Timeline
from tests.tiny.models import JOINT_TEXT_WIDTH, POOLED_WIDTH, joint_text, lively_state_dict

CHANNELS = 16
CHANNELS_1_5 = 32
VISION_WIDTH = 1152
VISION_TOKENS = 5
SIGNS_WIDTH = 1472
SIGNS_TOKENS = 4


def tiny_hunyuan_layout(input_channels: int = CHANNELS, newer: bool = False, image: bool = False) -> Any:
    """A MODEL of 128 channels with two double and two single blocks. input_channels: 32 for SkyReels, 33 for
    image-to-video; newer: HunyuanVideo 1.5, of 65 input channels or 98 for super-resolution; image: with patches in two
    dimensions, for pictures.

    The host's own loader takes it for what it is, except for `image`, whose class is returned as it is.
    """
    sizes: dict[str, Any] = {
        "in_channels": input_channels,
        "out_channels": CHANNELS_1_5 if newer else CHANNELS,
        "vec_in_dim": None if newer or image else POOLED_WIDTH,
        "context_in_dim": JOINT_TEXT_WIDTH,
        "hidden_size": 128,
        "mlp_ratio": 4.0,
        "num_heads": 1,
        "depth": 2,
        "depth_single_blocks": 2,
        "axes_dim": [64, 64] if image else [16, 56, 56],
        "theta": 256,
        "patch_size": [1, 1] if image else [1, 1, 1] if newer else [1, 2, 2],
        "qkv_bias": True,
        "guidance_embed": not newer,
        "byt5": newer,
        "meanflow": False,
        "use_cond_type_embedding": newer,
        "vision_in_dim": VISION_WIDTH if newer else None,
        "meanflow_sum": newer,
    }
    known = {field.name for field in fields(HunyuanVideoParams)}
    module = HunyuanVideo(
        image_model="hunyuan_video",
        operations=comfy.ops.disable_weight_init,
        dtype=torch.float32,
        device="cpu",
        **{name: size for name, size in sizes.items() if name in known},
    )
    return module if image else comfy.sd.load_diffusion_model_state_dict(lively_state_dict(module))


def text_with_signs(seed: int, tokens: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """A text of HunyuanVideo 1.5 with the second encoder's tokens for what is written in the picture."""
    tensor, _ = joint_text(seed, tokens)
    generator = torch.Generator().manual_seed(seed + 500)
    signs = torch.randn(1, SIGNS_TOKENS, SIGNS_WIDTH, generator=generator)
    return tensor, {"pooled_output": None, "conditioning_byt5small": signs}


def start_image(timeline: Timeline, channels: int = CHANNELS, side: int = 6) -> dict[str, Any]:
    """A start picture to concatenate: a latent over all latent frames and the mask of what it does not give."""
    generator = torch.Generator().manual_seed(3)
    latent = torch.zeros(1, channels, timeline.latent_frames, side, side)
    latent[:, :, 0] = torch.randn(1, channels, side, side, generator=generator)
    mask = torch.ones(1, 1, timeline.latent_frames, side, side)
    mask[:, :, 0] = 0
    return {"concat_latent_image": latent, "concat_mask": mask}


def start_image_seen(timeline: Timeline, side: int = 3) -> dict[str, Any]:
    """A start picture for HunyuanVideo 1.5, with the vision encoder's output for it."""
    generator = torch.Generator().manual_seed(4)
    vision = torch.randn(1, VISION_TOKENS, VISION_WIDTH, generator=generator)
    return {
        **start_image(timeline, CHANNELS_1_5, side),
        "clip_vision_output": SimpleNamespace(last_hidden_state=vision),
    }


def small_video(timeline: Timeline, side: int = 3) -> dict[str, Any]:
    """What super-resolution adds: no start picture, the enlarged video and that it counts in every frame."""
    generator = torch.Generator().manual_seed(6)
    size = (timeline.latent_frames, side, side)
    latent = torch.zeros(1, 2 * CHANNELS_1_5 + 2, *size)
    latent[:, CHANNELS_1_5 + 1 : -1] = torch.randn(1, CHANNELS_1_5, *size, generator=generator)
    latent[:, -1] = 1
    return {"concat_latent_image": latent, "noise_augmentation": 0.7}


def reference_picture(timeline: Timeline, side: int = 6) -> dict[str, Any]:
    """A picture whose tokens stand before the video's."""
    return {"ref_latent": torch.randn(1, CHANNELS, 1, side, side, generator=torch.Generator().manual_seed(5))}
