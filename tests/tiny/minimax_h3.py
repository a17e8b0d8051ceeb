"""A tiny MiniMax H3 and what it samples: a video with its stereo sound, which the model cannot do without."""

from typing import Any

import comfy.sd
import torch
from comfy.nested_tensor import NestedTensor

from kvshare_core.timeline.timeline import Timeline
from tests.tiny.cross_attention import BUILD, lively_state_dict
from tests.tiny.models import Sampling

CHANNELS, SIDE = 24, 6
AUDIO_CHANNELS, EARS = 32, 2
TEXT_WIDTH = 32
HEADS, HEAD_DIM, TURNING = 2, 32, 4
"""Heads, their channels, and the frequencies of each axis: 24 of the 32 channels turn."""

PICTURES_A_SECOND, AUDIO_STEPS_A_SECOND = 24, 40


def tiny_minimax_h3(layers: int = 3) -> Any:
    """A MiniMax H3 MODEL. Raises ModuleNotFoundError on older hosts."""
    return comfy.sd.load_diffusion_model_state_dict(minimax_h3_weights(layers))


def minimax_h3_weights(layers: int = 3) -> dict[str, torch.Tensor]:
    """The weights of `tiny_minimax_h3`."""
    from comfy.ldm.minimax.model import MiniMaxH3Model

    module = MiniMaxH3Model(
        hidden_size=HEADS * HEAD_DIM,
        num_layers=layers,
        token_refiner_num_layers=2,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM,
        ffn_hidden_size=64,
        text_dim=TEXT_WIDTH,
        timestep_input_dim=32,
        time_embed_hidden_size=32,
        time_embed_dim=32,
        rope_inv_freq_len=TURNING,
        **BUILD,
    )
    state = lively_state_dict(module)
    state["rope.inv_freq"] = 100.0 ** (-torch.arange(TURNING) / TURNING)
    return state


def tagged_text(seed: int, tokens: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """A text as the model's encoder gives it: every row with the tag of text."""
    tensor = torch.randn(1, tokens, TEXT_WIDTH, generator=torch.Generator().manual_seed(seed))
    return tensor, {"minimax_token_tags": torch.ones(tokens, dtype=torch.long)}


def first_and_last_picture(timeline: Timeline) -> dict[str, Any]:
    """What the host's node adds for a clip that begins and ends with a picture."""
    generator = torch.Generator().manual_seed(3)
    pictures = [torch.randn(1, CHANNELS, 1, SIDE, SIDE, generator=generator) for _ in range(2)]
    last = timeline.frames - 1
    return {
        "minimax_keyframes": [
            {"resolved_frame_index": index, "latent": latent} for index, latent in zip((0, last), pictures, strict=True)
        ],
        "minimax_frame_count": last + 1,
    }


def references(timeline: Timeline) -> dict[str, Any]:
    """What the host's node adds for a picture, a video with its sound, and a sound."""
    generator = torch.Generator().manual_seed(4)
    picture = torch.randn(1, CHANNELS, 1, 4, 8, generator=generator)
    video = torch.randn(1, CHANNELS, 2, 4, 4, generator=generator)
    sounds = [torch.randn(1, AUDIO_CHANNELS, EARS, steps, generator=generator) for steps in (8, 5)]
    return {
        "minimax_refs": [
            {"kind": "image", "latent_h": 4, "latent_w": 8, "latent": picture},
            {
                "kind": "video_audio",
                "latent_t": 2,
                "latent_h": 4,
                "latent_w": 4,
                "ref_audio_t": 8,
                "latent": video,
                "audio_latent": sounds[0],
            },
            {"kind": "audio", "ref_audio_t": 5, "audio_latent": sounds[1]},
        ]
    }


def pictures_before(frame: int) -> int:
    """Pictures of the latent frames before one: 1, 4, 4, 4 and 4 of every five."""
    return sum(1 if place % 5 == 0 else 4 for place in range(frame))


def sample_with_audio(
    sampling: Sampling,
    model: Any,
    positive: list[Any],
    negative: list[Any],
    shape: tuple[int, ...],
    steps: int | None = None,
    **options: Any,
) -> torch.Tensor:
    """Samples a video of `shape` with `steps` of audio, by default as many as its pictures last.

    Returns [batch, everything of a frame, frames]: the video, then the audio from the frame's first picture on.
    """
    batch, frames = shape[0], shape[2]
    pictures = pictures_before(frames)
    if steps is None:
        steps = round(pictures / PICTURES_A_SECOND * AUDIO_STEPS_A_SECOND)
    audio = (batch, AUDIO_CHANNELS, EARS, steps)
    generator = torch.Generator().manual_seed(5)
    noise = NestedTensor([torch.randn(size, generator=generator) for size in (shape, audio)])
    latent = NestedTensor([torch.zeros(size) for size in (shape, audio)])
    video, sound = sampling.run(model, positive, negative, shape, noise, latent, **options).unbind()
    bounds = [round(pictures_before(frame) * steps / pictures) for frame in range(frames + 1)]
    per_frame = torch.zeros(batch, AUDIO_CHANNELS * EARS, 8, frames)
    for frame in range(frames):
        stretch = sound[..., bounds[frame] : bounds[frame + 1]].flatten(1, 2)
        per_frame[:, :, : stretch.shape[-1], frame] = stretch
    return torch.cat([video.movedim(2, -1).flatten(1, -2), per_frame.flatten(1, -2)], 1)
