"""A tiny LTX-2 and what it samples: a video with the audio that belongs to it."""

import json
from typing import Any

import comfy.sd
import torch
from comfy.nested_tensor import NestedTensor

from tests.tiny.cross_attention import BUILD, lively_state_dict
from tests.tiny.models import Sampling

HEADS = 4
TEXT_WIDTH = 64
AUDIO_CHANNELS, AUDIO_BANDS = 8, 16


def tiny_ltx2(layers: int = 3) -> Any:
    """An LTX-2 MODEL, video heads of 32 channels, audio heads of 16. Raises ModuleNotFoundError on older hosts."""
    weights, metadata = ltx2_weights(layers)
    return comfy.sd.load_diffusion_model_state_dict(weights, metadata=metadata)


def ltx2_weights(layers: int = 3) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The weights of `tiny_ltx2` and the metadata of their file."""
    from comfy.ldm.lightricks.av_model import LTXAVModel

    sizes = {
        "attention_head_dim": 32,
        "num_attention_heads": HEADS,
        "audio_attention_head_dim": 16,
        "audio_num_attention_heads": HEADS,
        "audio_cross_attention_dim": HEADS * 16,
        "cross_attention_dim": HEADS * 32,
        "caption_channels": TEXT_WIDTH,
        "connector_num_attention_heads": 2,
        "connector_attention_head_dim": 32,
        "connector_num_layers": 1,
        "causal_temporal_positioning": True,
    }
    module = LTXAVModel(num_layers=layers, **sizes, **BUILD)
    metadata = {"config": json.dumps({"transformer": sizes})}
    return lively_state_dict(module), metadata


def text_for_both(seed: int, tokens: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """A text as the model's own connectors leave it, for video and audio; the last token is padding."""
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(1, tokens, 2 * TEXT_WIDTH, generator=generator)
    return tensor, {"attention_mask": (torch.arange(tokens) < tokens - 1).long()[None]}


def sample_both(
    sampling: Sampling,
    model: Any,
    positive: list[Any],
    negative: list[Any],
    shape: tuple[int, ...],
    steps_a_frame: int = 4,
    **options: Any,
) -> torch.Tensor:
    """Samples a video of `shape` with as much audio as its first frame's picture and `steps_a_frame` for every other.

    Returns [batch, everything of a frame, frames]: the video, then the audio from the frame's last picture on.
    """
    batch, frames = shape[0], shape[2]
    audio = (batch, AUDIO_CHANNELS, steps_a_frame * (frames - 1) + 1, AUDIO_BANDS)
    generator = torch.Generator().manual_seed(5)
    noise = NestedTensor([torch.randn(size, generator=generator) for size in (shape, audio)])
    latent = NestedTensor([torch.zeros(size) for size in (shape, audio)])
    video, sound = sampling.run(model, positive, negative, shape, noise, latent, **options).unbind()
    padded = torch.nn.functional.pad(sound, (0, 0, 0, steps_a_frame - 1))
    per_frame = padded.unflatten(2, (frames, steps_a_frame)).movedim(2, -1)
    return torch.cat([video.movedim(2, -1).flatten(1, -2), per_frame.flatten(1, -2)], 1)
