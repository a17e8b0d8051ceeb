"""One forward of the diffusion model on one segment: short-lived, and the same for all of its attention calls."""

import math
from dataclasses import dataclass, field

import torch

from ..attention.groups import TokenSplit
from ..attention.key_masks import KeyMask
from ..attention.positions import Offsets
from ..bank.bank import Chunk
from ..families.base import CallSite
from ..plan.schedule import Role
from ..timeline.timeline import Segment


@dataclass
class Forward:
    """One forward of the diffusion model on one segment, opened and dropped by the host layer.

    chunks: of each batch chunk the list of conditioning it comes from and its place there, the same for every segment;
    prompts: the list that begins with the beat's own prompt, None when that is unknown; rows: latents in each chunk;
    grid: tokens (t, h, w); text_tokens: length of the conditioning; strength: of the source keys in this step; shares,
    reads: whether it shares keys and reads maps; alone: whether no other forward of the segment runs at the same time;
    routes: of chunks with several texts, by their place, the tokens of each; own_text: whether the text is the
    segment's own, not one that all beats have in common; hides: a subject whose words nothing sees, or None.
    Kept because they are the same in many of its calls: key_masks and, with the words hidden, hidden_masks, by where
    the video stands and the number of keys; whole, a split that makes everything subject; offsets of source keys, by
    block (0 where all blocks have the same masks), batch row and source.
    """

    segment: Segment
    chunks: tuple[Chunk, ...]
    prompts: int | None
    rows: int
    grid: tuple[int, int, int]
    text_tokens: int
    step: int
    role: Role = "both"
    strength: float = 1.0
    shares: bool = True
    reads: bool = True
    alone: bool = True
    own_text: bool = True
    hides: int | None = None
    routes: dict[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    call_index: int = 0
    key_masks: dict[tuple[int, int, int], tuple[torch.Tensor | None, list[KeyMask] | None]] = field(
        default_factory=dict[tuple[int, int, int], tuple[torch.Tensor | None, list[KeyMask] | None]]
    )
    hidden_masks: dict[tuple[int, int, int], list[KeyMask]] = field(
        default_factory=dict[tuple[int, int, int], list[KeyMask]]
    )
    whole: TokenSplit | None = None
    offsets: dict[tuple[int, int, int], Offsets | None] = field(
        default_factory=dict[tuple[int, int, int], Offsets | None]
    )

    @property
    def video_tokens(self) -> int:
        return math.prod(self.grid)

    def video_at(self, site: CallSite) -> slice:
        """Where the video stands in the sequence of a call."""
        return slice(site.video_start, site.video_start + self.video_tokens)

    @property
    def conditional_rows(self) -> slice | None:
        """The batch rows that were made with the segment's own prompt; None when the forward has none."""
        for place, chunk in enumerate(self.chunks):
            if chunk == (self.prompts, 0):
                return slice(place * self.rows, (place + 1) * self.rows)
        return None
