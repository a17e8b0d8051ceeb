"""What a model family tells about its attention calls. One file per family; this one holds what they share."""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch

CallKind = Literal["self", "cross", "other"]


@dataclass(frozen=True)
class AttentionCall:
    """One attention call as the host made it.

    token_dim: 1 for tensors [rows, tokens, heads * head_dim], 2 for [rows, heads, tokens, head_dim].
    masked: whether the call came with an attention mask.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    heads: int
    token_dim: int
    masked: bool

    @property
    def query_tokens(self) -> int:
        return self.query.shape[self.token_dim]

    @property
    def key_tokens(self) -> int:
        return self.key.shape[self.token_dim]


@dataclass(frozen=True)
class CallSite:
    """What an attention call is: the block it belongs to and what its queries look at."""

    block: int
    kind: CallKind


@dataclass(frozen=True)
class FamilyInfo:
    """Numbers of one loaded model.

    patch, compression: (frames, height, width) tokens per latent step and latent steps per picture step.
    native_frames: latent frames of the clips the model was trained on.
    """

    family: str
    blocks: int
    heads: int
    patch: tuple[int, int, int]
    compression: tuple[int, int, int]
    latent_channels: int
    native_frames: int

    def grid(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Token grid of a latent of that size; sizes that the patch does not divide are padded, as the models do."""
        sizes = (frames, height, width)
        return tuple(-(-size // patch) for size, patch in zip(sizes, self.patch, strict=True))  # type: ignore[return-value]


class UnexpectedCallError(Exception):
    """An attention call that does not fit the family's call cycle: sharing must leave this forward alone."""


class Family(Protocol):
    """One model family. Stateless: the position in the call cycle is passed in."""

    name: str

    def describe(self, diffusion_model: torch.nn.Module, latent_channels: int) -> FamilyInfo | None:
        """Numbers of `diffusion_model`, or None when it is not of this family."""
        ...

    def classify(
        self,
        diffusion_model: torch.nn.Module,
        call_index: int,
        call: AttentionCall,
        video_tokens: int,
        text_tokens: int,
    ) -> CallSite:
        """What the `call_index`-th attention call of a forward is. Raises UnexpectedCallError when shapes disagree."""
        ...
