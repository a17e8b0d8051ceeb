"""What a sampling run works from, and one forward of it. Frozen plan, short-lived forward."""

import math
from dataclasses import dataclass, field

import torch

from .config import KVShareConfig
from .key_masks import KeyMask
from .kv_bank import Chunk
from .schedule import Role
from .sharing import TokenSplit
from .timeline import Segment, Timeline
from .words import SubjectTokens


@dataclass(frozen=True)
class LookPoint:
    """A point of the video to look from: `x` and `y` in 0..1 from the upper left, in picture number `picture`."""

    x: float
    y: float
    picture: int


def parse_look_point(text: str, pictures: int) -> LookPoint:
    """Reads "x, y, picture" for a video of that many pictures. Raises ValueError naming look_at and what is wrong."""
    parts = [part.strip() for part in text.split(",")]
    try:
        x, y, picture = float(parts[0]), float(parts[1]), int(parts[2])
    except (ValueError, IndexError):
        raise ValueError(f"look_at: '{text}' is no point; write x, y, frame, for example 0.5, 0.5, 12.") from None
    if len(parts) != 3 or not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(f"look_at: '{text}' must be three numbers, x and y from 0 to 1.")
    if not 0 <= picture < pictures:
        raise ValueError(f"look_at: frame {picture} is not in the video; it has frames 0 to {pictures - 1}.")
    return LookPoint(x, y, picture)


@dataclass(frozen=True)
class SharePlan:
    """Everything frozen that a session works from.

    subjects: for each beat the tokens of the subject, or empty when no subject was named; target_subjects: the same
    where a segment is the target of the paper's pairs, empty when it makes no difference.
    beat_tokens: for each beat all real text tokens; empty when they are unknown.
    mask: a user's subject mask [pictures, h, w] in 0..1, or None. look: a point whose attention is recorded, or None.
    """

    timeline: Timeline
    config: KVShareConfig
    subjects: tuple[SubjectTokens, ...] = ()
    beat_tokens: tuple[tuple[int, ...], ...] = ()
    mask: torch.Tensor | None = None
    target_subjects: tuple[SubjectTokens, ...] = ()
    look: LookPoint | None = None

    @property
    def guided(self) -> bool:
        """Whether a subject mask splits the tokens."""
        return self.mask is not None or bool(self.subjects)

    @property
    def reads_maps(self) -> bool:
        """Whether the subject has to be found in the model's attention."""
        return bool(self.subjects) and self.mask is None

    def sources(self, index: int) -> tuple[int, ...]:
        """Segments whose keys segment `index` attends to, in order."""
        chosen = self.config.sources
        sources = set[int]()
        if chosen in ("first", "first and previous"):
            sources.add(0)
        if chosen in ("previous", "first and previous"):
            sources.add(index - 1)
        return tuple(sorted(source for source in sources if 0 <= source < index))

    def readers(self, index: int) -> int:
        """How many later segments attend to segment `index`."""
        return sum(index in self.sources(later) for later in range(index + 1, len(self.timeline.segments)))


@dataclass
class Forward:
    """One forward of the diffusion model on one segment, opened and dropped by the host layer.

    chunks: of each batch chunk the list of conditioning it comes from and its place there, the same for every segment;
    prompts: the list that begins with the beat's own prompt, None when that is unknown; rows: latents in each chunk;
    grid: tokens (t, h, w); text_tokens: length of the conditioning; strength: of the source keys in this step; shares,
    reads: whether it shares keys and reads maps; alone: whether no other forward of the segment runs at the same time;
    routes: of chunks with several texts, by their place, the tokens of each.
    Kept because they are the same in many of its calls: key_masks, by where the video stands and the number of keys;
    whole, a split that makes everything subject; offsets of source keys, by block (0 where all blocks have the same
    masks), batch row and source.
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
    routes: dict[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    call_index: int = 0
    key_masks: dict[tuple[int, int, int], tuple[torch.Tensor | None, list[KeyMask] | None]] = field(
        default_factory=dict[tuple[int, int, int], tuple[torch.Tensor | None, list[KeyMask] | None]]
    )
    whole: TokenSplit | None = None
    offsets: dict[tuple[int, int, int], torch.Tensor | None] = field(
        default_factory=dict[tuple[int, int, int], torch.Tensor | None]
    )

    @property
    def video_tokens(self) -> int:
        return math.prod(self.grid)

    @property
    def conditional_rows(self) -> slice | None:
        """The batch rows that were made with the segment's own prompt; None when the forward has none."""
        for place, chunk in enumerate(self.chunks):
            if chunk == (self.prompts, 0):
                return slice(place * self.rows, (place + 1) * self.rows)
        return None
