"""A model whose blocks differ in width and grid, as models whose blocks do not, for forecasts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..families.base import BlockSize, FamilyInfo
from .model_fit import FittedPlan


@dataclass(frozen=True)
class BlockPart:
    """The blocks of one size, as a model of their own."""

    fitted: FittedPlan
    """The plan for a model that has these blocks alone, of the same size."""
    subject_tokens: tuple[int, ...]
    """Of each segment, how many of the `video_tokens` of a batch row are the subject's."""
    video_tokens: int
    rows: int
    """Batch rows."""


def block_parts(fitted: FittedPlan, subject_tokens: Sequence[int], video_tokens: int, rows: int) -> list[BlockPart]:
    """The parts of a model; tokens are those of the masks' grid, of all frames of a segment, and rows those of latents.
    A model of equal blocks that takes all frames in one row is one part, as it is."""
    info = fitted.info
    frames = -(-fitted.plan.timeline.window // info.patch[0]) if info.frames_as_rows else 1
    if not info.block_sizes:
        tokens = tuple(-(-subject // frames) for subject in subject_tokens)
        return [BlockPart(fitted, tokens, video_tokens // frames, rows * frames)]
    parts: list[BlockPart] = []
    for size in dict.fromkeys(info.block_sizes):
        numbers = [number for number, other in enumerate(info.block_sizes) if other == size]
        shared = tuple(place for place, number in enumerate(numbers) if number in fitted.blocks)
        area = info.patch[1] * info.patch[2] / size.scale**2

        def in_row(tokens: int, area: float = area) -> int:
            return max(min(tokens, 1), round(tokens / frames * area))

        parts.append(
            BlockPart(
                replace(fitted, info=_of_size(info, size, len(numbers)), blocks=shared),
                tuple(map(in_row, subject_tokens)),
                in_row(video_tokens),
                rows * frames,
            )
        )
    return parts


def _of_size(info: FamilyInfo, size: BlockSize, blocks: int) -> FamilyInfo:
    return replace(info, blocks=blocks, heads=size.heads, head_dim=size.head_dim, block_sizes=(), frames_as_rows=False)
