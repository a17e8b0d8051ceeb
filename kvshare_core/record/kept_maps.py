"""Attention maps of a run as numbers: what the video and the words attend to, by segment, step and block."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch

MapKind = Literal["text_video", "text_text", "spatial", "temporal"]
MAP_KINDS: tuple[MapKind, ...] = get_args(MapKind)


@dataclass(frozen=True)
class KeptMap:
    """The attention of one block to its own tokens, in one segment and step: probabilities of the model's own softmax,
    mean over heads, float32 on the CPU; without the keys of other segments and the weights of words. What a model does
    not compute is None.

    A segment between two prompts has the words of both.
    """

    segment: int
    step: int
    block: int
    words: tuple[tuple[int, str], ...] = ()
    """Beat and word of every column."""
    text_video: torch.Tensor | None = None
    """Attention of every video token to each word, summed over the word's tokens: [batch, words, frames, h, w]. In
    joint models a share of the attention to everything, else of that to the text."""
    text_text: torch.Tensor | None = None
    """Attention of each word (a row) to each word, mean over the tokens of the first: [batch, words, words]. Joint
    models only."""
    spatial: torch.Tensor | None = None
    """Attention of each place of a frame (a row) to each place of the same frame, mean over frames:
    [batch, h * w, h * w]."""
    temporal: torch.Tensor | None = None
    """Attention of each token frame (a row) to each token frame, mean over the places of the first:
    [batch, frames, frames]. Not of models that have every frame as a batch row."""

    def found(self) -> dict[MapKind, torch.Tensor]:
        """The maps that there are."""
        maps: dict[MapKind, torch.Tensor | None] = {kind: getattr(self, kind) for kind in MAP_KINDS}
        return {kind: values for kind, values in maps.items() if values is not None}
