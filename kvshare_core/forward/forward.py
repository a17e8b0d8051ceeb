"""One forward of the diffusion model on one segment: built once, and the same for all of its attention calls."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch

from ..attention.key_masks import KeyMask
from ..attention.positions import Offsets
from ..attention.token_split import TokenSplit
from ..bank.bank import Chunk
from ..families.base import BlockName
from ..plan.schedule import Role
from ..timeline.timeline import Segment
from .view import Grid, View

Layout = tuple[int, int, int, int]
"""Start and stop of the video in a sequence of keys, the length of that sequence, and its batch rows."""


@dataclass(frozen=True)
class Batch:
    """Which conditionings the host has put into one batch."""

    chunks: tuple[Chunk, ...]
    """Of each chunk, the list of conditioning it comes from and its index there; the same for every segment."""
    prompts: int | None = 0
    """Number of the list that begins with the beat's own prompt; None when that is unknown."""
    latents: int = 1
    """Latents in each chunk."""
    alone: bool = True
    """Whether no other forward of the segment runs at the same time."""

    @cached_property
    def conditional_rows(self) -> slice | None:
        """The batch rows with the segment's own prompt; None when the batch has none."""
        for index, chunk in enumerate(self.chunks):
            if chunk == (self.prompts, 0):
                return slice(index * self.latents, (index + 1) * self.latents)
        return None


@dataclass(frozen=True)
class PromptText:
    """The text that the model receives."""

    tokens: int
    """Length of the conditioning."""
    own: bool = True
    """Whether it is the segment's own text, not one that all beats have in common."""
    routes: Mapping[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    """For chunks whose frames have texts of their own, by the chunk's index, the length of each text."""
    hidden_subject: int | None = None
    """Number of a subject whose words no token may attend to, or None."""
    own_tokens: int | None = None
    """Length of the prompt's own conditioning, which hosts repeat to fit another's in the batch; None where it is not
    known."""


@dataclass
class ForwardCache:
    """What is computed once per forward, because many of its attention calls need the same."""

    calls: int = 0
    """The forward's attention calls so far."""
    block: BlockName | None = None
    """The block that the model is in, where the host layer sees it enter one."""
    taken: set[int] = field(default_factory=set[int])
    """The numbers, in the family's order, of the calls that were recognised."""
    unread: bool = False
    """Whether a call had arguments that are not known, after which others may seem to be in the wrong place."""
    met: set[int] = field(default_factory=set[int])
    """The blocks whose attention over the video was recognised."""
    key_masks: dict[Layout, tuple[torch.Tensor | None, list[KeyMask] | None]] = field(
        default_factory=dict[Layout, tuple[torch.Tensor | None, list[KeyMask] | None]]
    )
    """The mask that the host passed, and what it hides from each batch row."""
    masks_without_words: dict[Layout, list[KeyMask]] = field(default_factory=dict[Layout, list[KeyMask]])
    """The same with the words of `PromptText.hidden_subject` hidden too; rows without any other key are left out."""
    weighed_masks: dict[Layout, tuple[list[KeyMask], list[KeyMask]]] = field(
        default_factory=dict[Layout, tuple[list[KeyMask], list[KeyMask]]]
    )
    """Masks of the batch rows, and the same with the words of the prompt weighed."""
    undivided: dict[Grid, TokenSplit] = field(default_factory=dict[Grid, TokenSplit])
    """By the tokens of a row, a split in which every video token is subject."""
    views: dict[tuple[Grid | None, bool], View] = field(default_factory=dict[tuple[Grid | None, bool], View])
    """How calls have the video, by `grid` and `frames_as_rows` of their CallSite."""
    splits: dict[tuple[View, int], list[TokenSplit]] = field(default_factory=dict[tuple[View, int], list[TokenSplit]])
    """The splits of the rows of calls, by their view and block (0 where all blocks share their masks)."""
    offsets: dict[tuple[int, int, int], Offsets | None] = field(
        default_factory=dict[tuple[int, int, int], Offsets | None]
    )
    """How far source keys move, by block (0 where all blocks share masks and grid), batch row and source segment."""


@dataclass(frozen=True)
class Forward:
    """One forward, as the session planned it when the host opened it."""

    segment: Segment
    batch: Batch
    text: PromptText
    grid: tuple[int, int, int]
    """Tokens of the video: frames, height, width."""
    step: int = 0
    role: Role = "both"
    strength: float = 1.0
    """Of the source keys in this step."""
    shares: bool = True
    """Whether the segment takes part in sharing, as a source or as a target."""
    finds_subjects: bool = True
    """Whether its attention maps count for the subjects' masks."""
    sources: tuple[int, ...] = ()
    """Segments whose keys it attends to."""
    consumers: int | None = 0
    """How many later forwards attend to its keys; None for any number of them."""
    lead_tokens: int = 0
    """Tokens of reference frames in front of the video, as part of the same latent."""
    cache: ForwardCache = field(default_factory=ForwardCache, compare=False, repr=False)

    @cached_property
    def video_tokens(self) -> int:
        return math.prod(self.grid)

    @property
    def frame_tokens(self) -> int:
        """Tokens of one latent frame."""
        return self.grid[1] * self.grid[2]
