"""What a run has found out about the subjects in some segments, for another process that evaluates them too."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from ..record.record import Examples
from .maps import Grid

Masks = dict[int, torch.Tensor]
"""By segment, bool [subjects, rows, tokens]."""


@dataclass(frozen=True)
class FoundPart:
    """All tensors are on the CPU; dictionaries are by segment."""

    grid: Grid | None
    """The token grid of a segment; None while no call has shown it."""
    masks: Masks
    """The newest masks."""
    heat: Masks
    """What they were made from, float."""
    steps: Mapping[int, Masks]
    """By sampler step, the masks that it found and that are recorded."""
    examples: Mapping[int, Examples]
    effects: Masks
    """Where words act, float [subjects in the segment, rows, tokens]."""
    given_up: frozenset[int]
    """Segments whose effects are never asked for again."""
    used: Masks = field(default_factory=dict[int, torch.Tensor])
    """The masks that divide tokens, where these are the same in every block."""
    used_before: Masks = field(default_factory=dict[int, torch.Tensor])
    """Those of the model call before."""
    any_found: bool = False
    """Whether masks were found in any segment, of this part or not."""
    looks: Mapping[int, Mapping[int, torch.Tensor]] = field(default_factory=dict[int, Mapping[int, torch.Tensor]])
    """By subject and block, the directions in which subjects lie (first_look.py)."""


def on_cpu(tensors: Mapping[int, torch.Tensor], indices: frozenset[int]) -> Masks:
    """Those of some segments, on the CPU."""
    return {index: tensor.cpu() for index, tensor in tensors.items() if index in indices}
