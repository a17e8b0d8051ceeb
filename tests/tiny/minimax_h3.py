"""A tiny MiniMax H3 and what it samples: a video with its stereo sound, which the model cannot do without."""

from collections.abc import Callable
from typing import Any

import comfy.sd
import torch
from comfy.nested_tensor import NestedTensor

from kvshare_core.timeline.timeline import Timeline
from tests.tiny.cross_attention import BUILD, lively_state_dict
from tests.tiny.models import Sampling

CHANNELS, SIDE = 24, 6
AUDIO_CHANNELS, EARS = 32, 2
TEXT_WIDTH = 48
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
    for name in [name for name in state if name.endswith((".q_norm.weight", ".k_norm.weight"))]:
        state[name] = torch.full_like(state[name], 1.6)
    state["rope.inv_freq"] = 100.0 ** (-torch.arange(TURNING) / TURNING)
    return state


def tagged_text(seed: int, tokens: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """A text as the model's encoder gives it: every row with the tag of text."""
    tensor = torch.randn(1, tokens, TEXT_WIDTH, generator=torch.Generator().manual_seed(seed))
    return tensor, {"minimax_token_tags": torch.ones(tokens, dtype=torch.long)}
