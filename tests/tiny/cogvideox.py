"""Tiny CogVideoX models, loaded through the host's own loader."""

import importlib
from typing import Any

import comfy.ops
import comfy.sd
import torch

from kvshare_core.timeline.timeline import Timeline

CHANNELS = 16
TEXT_WIDTH = 48
HEAD_DIM = 64


def cogvideox_module(
    rotary: bool = True,
    table: bool = False,
    frame_patch: int | None = None,
    input_channels: int = CHANNELS,
    heads: int = 2,
    layers: int = 3,
    start_strength: bool = False,
    stretch: float = 1.875,
) -> Any:
    """The host's CogVideoX module of `heads` * 64 channels with seeded weights. Without `rotary` it adds positions to
    its tokens; table: whether its weights have a table of positions to add, for which `heads` must be a multiple of 3;
    frame_patch 2 makes it a 1.5; 32 input channels take an image, 48 a video and a mask to fill in; start_strength adds
    the input `ofs` of 1.5's image-to-video; stretch: positions per token of 1.0 in height and width.

    Raises ModuleNotFoundError where the host has no CogVideoX.
    """
    host_module = importlib.import_module("comfy.ldm.cogvideo.model")
    module = host_module.CogVideoXTransformer3DModel(
        num_attention_heads=heads,
        attention_head_dim=HEAD_DIM,
        in_channels=input_channels,
        out_channels=CHANNELS,
        time_embed_dim=32,
        ofs_embed_dim=32 if start_strength else None,
        text_embed_dim=TEXT_WIDTH,
        num_layers=layers,
        patch_size_t=frame_patch,
        spatial_interpolation_scale=stretch,
        use_rotary_positional_embeddings=rotary,
        use_learned_positional_embeddings=table,
        operations=comfy.ops.disable_weight_init,
        dtype=torch.float32,
        device="cpu",
    )
    module.load_state_dict(_state_dict(module))
    return module


def tiny_cogvideox(rotary: bool = True, **sizes: Any) -> Any:
    """A CogVideoX MODEL of the `sizes` of `cogvideox_module`, as the host loads it: without `rotary`, it adds the
    positions of a table. Raises ModuleNotFoundError where the host has no CogVideoX."""
    return comfy.sd.load_diffusion_model_state_dict(cogvideox_module(rotary, not rotary, **sizes).state_dict())


def _state_dict(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Seeded weights that keep activations near 1, with peaked attention."""
    generator = torch.Generator().manual_seed(0)
    state = {name: buffer.clone() for name, buffer in module.state_dict().items() if name.endswith("pos_embedding")}
    for name, parameter in module.named_parameters():
        if name.endswith(("norm_q.weight", "norm_k.weight")):
            state[name] = torch.full(parameter.shape, 1.6)
        elif "norm" in name and "linear" not in name and name.endswith("weight"):
            state[name] = torch.ones(parameter.shape)
        else:
            spread = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            state[name] = torch.randn(parameter.shape, generator=generator) * spread
    return state


def start_image(timeline: Timeline, side: int = 6, channels: int = CHANNELS) -> dict[str, Any]:
    """What an image-to-video node adds: a latent to concatenate over all latent frames."""
    generator = torch.Generator().manual_seed(3)
    return {"concat_latent_image": torch.randn(1, channels, timeline.latent_frames, side, side, generator=generator)}


def masked_video(timeline: Timeline) -> dict[str, Any]:
    """What is concatenated to fill in a video: a latent of the mask and one of the video."""
    return start_image(timeline, channels=2 * CHANNELS)
