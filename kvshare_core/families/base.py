"""What a model family tells about its attention calls. One file per family; this one holds what they share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch

from ..attention.rope import RopeScheme
from .block_presets import BlockPreset

CallKind = Literal["self", "joint", "cross", "aside", "other"]


@dataclass(frozen=True)
class AttentionCall:
    """One attention call of the host, tensors as [rows, heads, tokens, head_dim].

    Keys and values may have fewer heads than queries (grouped). mask: the call's own attention mask as the host passed
    it; scale: factor on the scores, None for head_dim ** -0.5; overridden: another pack's attention stands behind ours.
    inputs: shapes of what the model was called with besides latent and text, by the host's name (several for a list).
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor | None = None
    scale: float | None = None
    overridden: bool = False
    inputs: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict[str, tuple[tuple[int, ...], ...]])

    @property
    def query_tokens(self) -> int:
        return self.query.shape[2]

    @property
    def key_tokens(self) -> int:
        return self.key.shape[2]


@dataclass(frozen=True)
class CallSite:
    """What an attention call is: the block it belongs to and what its queries look at.

    self: video to video; joint: one sequence of video and text; cross: video to text; aside: what runs beside the
    video's own blocks to the text, neither read nor shared; other: anything else. video_start, text_start: where in
    the sequence the video's and the prompt's tokens begin; tokens outside both (reference frames) stay the segment's
    own.
    """

    block: int
    kind: CallKind
    video_start: int = 0
    text_start: int = 0


@dataclass(frozen=True)
class FamilyInfo:
    """Numbers of one loaded model.

    joint: whether video and text share one attention.
    patch, compression: (frames, height, width) tokens per latent step and latent steps per picture step.
    native_frames: latent frames of the clips the model was trained on.
    routes_text: whether frames can have texts of their own: every attention to the text is one that `classify` tells,
        and nothing else mixes the text's tokens.
    presets: what is known of its blocks, the best of each purpose first.
    """

    family: str
    blocks: int
    heads: int
    head_dim: int
    joint: bool
    patch: tuple[int, int, int]
    compression: tuple[int, int, int]
    latent_channels: int
    native_frames: int
    routes_text: bool = False
    presets: tuple[BlockPreset, ...] = ()

    def grid(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Token grid of a latent of that size; sizes that the patch does not divide are padded, as the models do."""
        sizes = (frames, height, width)
        return tuple(-(-size // patch) for size, patch in zip(sizes, self.patch, strict=True))  # type: ignore[return-value]


class UnsupportedModelError(ValueError):
    """A model that no keys can be shared in; the message names the model and the reason."""


class UnexpectedCallError(Exception):
    """An attention call that does not fit the family's call cycle: sharing must leave this forward alone."""


class Family(Protocol):
    """One model family. Stateless: the position in the call cycle is passed in."""

    name: str

    def describe(self, diffusion_model: torch.nn.Module, latent_channels: int) -> FamilyInfo | None:
        """Numbers of `diffusion_model`, or None when it is not of this family.

        Raises UnsupportedModelError for a model of the family that cannot share, with the reason.
        """
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

    def rope_scheme(self, diffusion_model: torch.nn.Module, rope_options: Mapping[str, float]) -> RopeScheme | None:
        """How the model's keys carry their positions; None when they carry none that could be moved.

        rope_options: what the host's node for scaling positions set for this run; empty without it.
        """
        ...
