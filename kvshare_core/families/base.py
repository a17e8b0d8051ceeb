"""What every model family states about itself. Each family has a file of its own; this one has what they share.

`diffusion_model` is `Any` throughout: it is a module of one of the host's classes, whose attributes only the family
knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch

from ..attention.rope import RopeScheme
from ..timeline.frame_cycle import FrameCycle
from .block_presets import BlockPreset
from .model_inputs import ImageInput, InputLayout, PackedAudio, ReferenceFrames
from .text_encoders import TextEncoders

Shapes = Mapping[str, tuple[tuple[int, ...], ...]]
"""Shapes of a model's inputs by the host's names; several for an input that is a list."""

BLOCK_INDEX, BLOCK_KIND, BLOCK_PART, BLOCK_SHAPE = "block_index", "block_type", "block", "activations_shape"
"""Transformer options in which hosts name the block, and in UNets its place and the shape [rows, channels, height,
width] of its input."""

CallKind = Literal["self", "joint", "cross", "aside", "other"]
"""What attends to what in an attention call.

self: the video's tokens to themselves. joint: one sequence of video and text to itself. cross: the video's tokens to
the text's. aside: cross-attention to the text in a branch outside the video's own blocks (VACE's control branch, the
audio of LTX-2); it has no attention map of the video, and matters only where words of the prompt are masked out. other:
anything else, which is left as it is.
"""


@dataclass(frozen=True)
class AttentionCall:
    """One attention call of the host; all tensors are [rows, heads, tokens, head_dim]."""

    query: torch.Tensor
    """Queries."""

    key: torch.Tensor
    """Keys; they may have fewer heads than the queries (grouped-query attention)."""

    value: torch.Tensor
    """Values, of as many heads and tokens as the keys."""

    mask: torch.Tensor | None = None
    """The call's own attention mask, as the host passed it."""

    scale: float | None = None
    """Factor on the scores; None for head_dim ** -0.5."""

    overridden: bool = False
    """Whether another pack's attention function computes what ours passes on."""

    inputs: Shapes = field(default_factory=dict[str, tuple[tuple[int, ...], ...]])
    """Shapes of what the model was called with besides latent and text."""

    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the host tells of the call, its transformer options, and the model's inputs that are no tensors."""

    grid: tuple[int, int, int] = (0, 0, 0)
    """Tokens of the segment's video as masks have them: frames, height, width."""

    @property
    def query_tokens(self) -> int:
        """Number of query tokens."""
        return self.query.shape[2]

    @property
    def key_tokens(self) -> int:
        """Number of key tokens."""
        return self.key.shape[2]


@dataclass(frozen=True)
class CallSite:
    """What an attention call is in its model. Tokens outside video and prompt, such as those of reference frames, are
    never shared."""

    block: int
    """Number of the transformer block, from 0."""

    kind: CallKind
    """What attends to what."""

    video_start: int = 0
    """Index of the video's first token in the sequence."""

    text_start: int = 0
    """Index of the prompt's first token in the sequence."""

    text_tokens: int | None = None
    """Tokens of the prompt from there on; None for as many as the text has that the model received."""

    origin: float = 0.0
    """Position in time of the video's first frame, in models that count positions through the whole sequence."""

    grid: tuple[int, int, int] | None = None
    """Tokens of the video in this block: frames, height, width; None where they are those of the masks
    (`FamilyInfo.grid`)."""

    frames_as_rows: bool = False
    """Whether the call has a batch row for every frame, [latents x frames, heads, tokens of a frame, head_dim], with
    `video_start` and the text's tokens in each of them (forward/view.py)."""


@dataclass(frozen=True)
class BlockSize:
    """The size of one block, in models whose blocks differ."""

    heads: int
    """Attention heads."""

    head_dim: int
    """Channels of a head."""

    scale: int
    """Latent steps of a token in height and width."""

    def grid(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Token grid of a latent of that size."""
        return frames, -(-height // self.scale), -(-width // self.scale)


@dataclass(frozen=True)
class FamilyInfo:
    """What one loaded model is."""

    family: str
    """Name of its family."""

    blocks: int
    """Number of transformer blocks that attend over the video."""

    heads: int
    """Attention heads of a block."""

    head_dim: int
    """Channels of a head."""

    joint: bool
    """Whether video and text are one sequence of one attention."""

    patch: tuple[int, int, int]
    """Latent steps of a token: (frames, height, width)."""

    compression: tuple[int, int, int]
    """Picture steps of a latent step: (frames, height, width)."""

    latent_channels: int
    """Channels of the latent."""

    native_frames: int
    """Latent frames of the clips that the model was trained on."""

    routes_text: bool = False
    """Whether frames can have texts of their own: `classify` finds every attention to the text, and nothing else mixes
    the text's tokens."""

    presets: tuple[BlockPreset, ...] = ()
    """What is known of its blocks, the best for each purpose first."""

    text_encoders: TextEncoders | None = None
    """The text encoders it was trained with; None when they are not known, so that it loads with the host's nodes only.
    """

    frame_cycle: FrameCycle | None = None
    """The pictures of its latent frames where these come in groups; None where the first is one picture and each later
    one as many as `compression` says."""

    reference_frames: ReferenceFrames | None = None
    """How the conditioning tells of reference frames in front of the video; None where nodes add none."""

    frames_as_rows: bool = False
    """Whether its blocks attend over space frame by frame, with a batch row for every frame (forward/view.py)."""

    text_in_every_block: bool = True
    """Whether every block attends to the text, which a probe compares."""

    frames_in_batch: bool = False
    """Whether its latent is a batch of pictures [frames, channels, height, width], which is one film; other latents are
    [batch, channels, frames, height, width]."""

    block_sizes: tuple[BlockSize, ...] = ()
    """Of each block, where they differ; without, all have `heads`, `head_dim` and the masks' grid."""

    def grid(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Token grid of a latent of that size; sizes that the patch does not divide are padded, as the models do."""
        frame_patch, height_patch, width_patch = self.patch
        return -(-frames // frame_patch), -(-height // height_patch), -(-width // width_patch)


@dataclass(frozen=True)
class BlockName:
    """A transformer block as the host names it."""

    index: int
    """Its number among those of its kind, from 0."""

    kind: str = "double"
    """`double`, or `single` for the second half of models whose blocks are of two kinds."""

    part: tuple[str, int] | None = None
    """Of a UNet's block, its part (`input`, `middle`, `output`) and the place in it; `index` then counts in that
    place."""


def calls_in_turn(block: BlockName, blocks: int, each: int, before: int = 0) -> range:
    """The numbers of the calls of a block of a model whose `blocks` make `each` calls, one block after the other;
    before: calls that precede those of the first block."""
    first = before + block.index * each
    return range(first, first + each if 0 <= block.index < blocks else first)


class UnsupportedModelError(ValueError):
    """A model in which keys and values cannot be shared; the message names the model and the reason."""


class UnexpectedCallError(Exception):
    """An attention call that is not the one that the family expects, such as one that another node adds."""

    doubted: int | None = None
    """A block that makes its attention over the video twice, so that its own call is not known; None for no block."""

    lost: bool = False
    """Whether calls can only be counted, so that none of the model's can be told any more."""


class Family(Protocol):
    """One model family. Stateless: the number of the call in its forward is passed in.

    The package's docstring says what to supply for a new one.
    """

    @property
    def name(self) -> str:
        """How the family is called in messages, files and presets."""
        ...

    @property
    def inputs(self) -> Mapping[str, InputLayout]:
        """What its models take besides what the host gives to models of every family, by the host's name."""
        ...

    @property
    def text_encoders(self) -> tuple[TextEncoders, ...]:
        """The text encoders of all its models; `describe` picks those of a model."""
        ...

    @property
    def image_channels(self) -> ImageInput | None:
        """How its models take the images of a video; None when they take none, or in a way that is not known."""
        ...

    @property
    def audio(self) -> PackedAudio | None:
        """The audio that its models sample together with the video; None when none does."""
        ...

    def describe(self, diffusion_model: Any, latent_channels: int) -> FamilyInfo | None:
        """What `diffusion_model` is, or None when it is not of this family.

        Raises UnsupportedModelError, with the reason, for a model of the family that cannot share.
        """
        ...

    def classify(
        self, diffusion_model: Any, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        """What the attention call number `call_index`, from 0, of a forward is.

        video_tokens, text_tokens: tokens of the segment's latent and of its prompt. Raises UnexpectedCallError when
        the call's shapes are not those of the expected one.
        """
        ...

    def calls_of_block(self, diffusion_model: Any, call: AttentionCall, block: BlockName) -> range:
        """The numbers of the attention calls of a block in the forward that `call` is one of; none for a block that the
        model does not have."""
        ...

    def rope_scheme(self, diffusion_model: Any, rope_options: Mapping[str, float]) -> RopeScheme | None:
        """How the model rotates its keys by their positions; None when it does not, or not in a way that can be undone.

        rope_options: the host's transformer option of that name, with which a node scales positions; empty without it.
        """
        ...
