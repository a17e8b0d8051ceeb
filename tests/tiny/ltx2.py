"""A tiny LTX-2 of every version and what it samples: a video with the audio that belongs to it.

Versions differ in flags of one class of the host, which it reads in a file's metadata. Those of LTX-2.3 and 2.5 are the
ones in the published checkpoints, with sizes of their own.
"""

import inspect
import json
from collections.abc import Mapping
from typing import Any

import comfy.sd
import torch
from comfy.nested_tensor import NestedTensor

from tests.tiny.cross_attention import BUILD, LTXV_CHANNELS, lively_state_dict
from tests.tiny.models import Sampling

HEADS = 4
TEXT_WIDTH = 64
VIDEO_WIDTH, AUDIO_WIDTH = HEADS * 32, HEADS * 16
AUDIO_CHANNELS, AUDIO_BANDS = 8, 16

FLAGS_2_3: Mapping[str, Any] = {
    "apply_gated_attention": True,
    "cross_attention_adaln": True,
    "connector_apply_gated_attention": True,
    "caption_proj_before_connector": True,
    "caption_projection_first_linear": False,
    "use_middle_indices_grid": True,
    "rope_type": "split",
    "frequencies_precision": "float64",
    # The text encoder's projection gives what the connectors take, which is as wide as the blocks.
    "connector_num_attention_heads": HEADS,
    "audio_connector_num_attention_heads": HEADS,
    "audio_connector_attention_head_dim": 16,
}

FLAGS_2_5: Mapping[str, Any] = {**FLAGS_2_3, "ff_bias": False, "use_keyframes_abs_pos_embedding": True}

FLAGS: Mapping[str, Mapping[str, Any]] = {"2": {}, "2.3": FLAGS_2_3, "2.5": FLAGS_2_5}

MARKS: Mapping[str, str] = {"2": "num_layers", "2.3": "cross_attention_adaln", "2.5": "ff_bias"}
"""A flag by which a host shows that it knows the version."""


def lacks_version(version: str) -> str | None:
    """Why the host cannot run a version; None when it can. Raises ModuleNotFoundError on hosts before LTX-2."""
    from comfy.ldm.lightricks.av_model import LTXAVModel

    known = MARKS[version] in inspect.signature(LTXAVModel.__init__).parameters
    return None if known else f"this host has no LTX-{version}: its LTX-2 has no {MARKS[version]}"


def tiny_ltx2(layers: int = 3, version: str = "2") -> Any:
    """An LTX-2 MODEL, video heads of 32 channels, audio heads of 16. Raises ModuleNotFoundError on older hosts."""
    weights, metadata = ltx2_weights(layers, version)
    return comfy.sd.load_diffusion_model_state_dict(weights, metadata=metadata)


def ltx2_weights(layers: int = 3, version: str = "2") -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The weights of `tiny_ltx2` and the metadata of their file."""
    from comfy.ldm.lightricks.av_model import LTXAVModel

    sizes: dict[str, Any] = {
        "attention_head_dim": 32,
        "num_attention_heads": HEADS,
        "audio_attention_head_dim": 16,
        "audio_num_attention_heads": HEADS,
        "audio_cross_attention_dim": AUDIO_WIDTH,
        "cross_attention_dim": VIDEO_WIDTH,
        "caption_channels": TEXT_WIDTH,
        "connector_num_attention_heads": 2,
        "connector_attention_head_dim": 32,
        "connector_num_layers": 1,
        "causal_temporal_positioning": True,
        **FLAGS[version],
    }
    module = LTXAVModel(num_layers=layers, **sizes, **BUILD)
    metadata = {"config": json.dumps({"transformer": sizes})}
    return lively_state_dict(module), metadata


def text_for_both(seed: int, tokens: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """A text as the model's own connectors leave it, for video and audio; the last token is padding."""
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(1, tokens, 2 * TEXT_WIDTH, generator=generator)
    return tensor, {"attention_mask": (torch.arange(tokens) < tokens - 1).long()[None]}


def projected_text(seed: int, tokens: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """A text as the encoder of LTX-2.3 and later gives it: projected for video and for audio, without padding, for the
    connectors, which fill it up to 1024 tokens."""
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(1, tokens, VIDEO_WIDTH + AUDIO_WIDTH, generator=generator)
    return tensor, {"unprocessed_ltxav_embeds": True}


def sample_both(
    sampling: Sampling,
    model: Any,
    positive: list[Any],
    negative: list[Any],
    shape: tuple[int, ...],
    steps_a_frame: int = 4,
    latent: torch.Tensor | None = None,
    **options: Any,
) -> torch.Tensor:
    """Samples a video of `shape` with as much audio as its first frame's picture and `steps_a_frame` for every other.

    latent: the video that it begins with, zeros unless given. Returns [batch, everything of a frame, frames]: the
    video, then the audio from the frame's last picture on.
    """
    batch, frames = shape[0], shape[2]
    audio = (batch, AUDIO_CHANNELS, steps_a_frame * (frames - 1) + 1, AUDIO_BANDS)
    generator = torch.Generator().manual_seed(5)
    noise = NestedTensor([torch.randn(size, generator=generator) for size in (shape, audio)])
    both = NestedTensor([torch.zeros(shape) if latent is None else latent, torch.zeros(audio)])
    video, sound = sampling.run(model, positive, negative, shape, noise, both, **options).unbind()
    padded = torch.nn.functional.pad(sound, (0, 0, 0, steps_a_frame - 1))
    per_frame = padded.unflatten(2, (frames, steps_a_frame)).movedim(2, -1)
    return torch.cat([video.movedim(2, -1).flatten(1, -2), per_frame.flatten(1, -2)], 1)


def sample_from_picture(
    sampling: Sampling,
    model: Any,
    positive: list[Any],
    negative: list[Any],
    shape: tuple[int, ...],
    strength: float = 0.7,
    **options: Any,
) -> torch.Tensor:
    """The same from a picture in the first latent frame, at the strength of the host's template for LTX-2.3."""
    latent, audio = torch.zeros(shape), torch.ones(shape[0], 1, 4 * (shape[2] - 1) + 1, 1)
    latent[:, :, :1] = torch.randn(1, LTXV_CHANNELS, 1, *shape[3:], generator=torch.Generator().manual_seed(3))
    mask = torch.ones(shape[0], 1, shape[2], 1, 1)
    mask[:, :, :1] = 1 - strength
    held = NestedTensor([mask, audio])
    return sample_both(sampling, model, positive, negative, shape, latent=latent, noise_mask=held, **options)
