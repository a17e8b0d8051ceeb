"""Numbers of the native layouts that the embedded models have; training/ has the networks themselves.

Two inputs of these layouts are wider than what the embedded models give them: Wan's text ends in zeros, and the pooled
text of HunyuanVideo is zero. The weights that read only zeros are not stored but put back when a file is loaded.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from .text import TEXT_WIDTH

TEXT_DIM = 4096
"""Width of a text token in Wan's layout."""
POOLED_DIM = 768
"""Width of the pooled text, which the host insists on for HunyuanVideo's layout. The embedded model has none: it is
zero, so that everything a caption says reaches the video through attention to its words."""
SIGMA_SHIFT = 7.0
"""Of the noise schedule that the one-stream model is trained and sampled with."""

UNREAD_INPUTS = {"text_embedding.0.weight": (TEXT_WIDTH, TEXT_DIM), "vector_in.in_layer.weight": (0, POOLED_DIM)}
"""Layers whose input ends in zeros: how many of its columns are stored, and how many the layout has."""


def without_unread_inputs(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A transformer's weights as they are stored."""
    widths = {name: stored for name, (stored, _) in UNREAD_INPUTS.items()}
    return {name: tensor[:, : widths[name]] if name in widths else tensor for name, tensor in state.items()}


def with_unread_inputs(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Stored weights as the layout has them, with zeros for the columns that are not stored."""
    whole = dict(state)
    for name, (_, width) in UNREAD_INPUTS.items():
        if name in whole:
            whole[name] = F.pad(whole[name], (0, width - whole[name].shape[1]))
    return whole
