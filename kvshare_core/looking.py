"""What one chosen point of the video looks at: DiTCtrl's video-to-video map (section 3.2) for a single query.

For looking only; nothing is shared by it. Its cost is one row of scores per block.
"""

from dataclasses import dataclass

import torch

from . import maps
from .families.base import AttentionCall, CallSite
from .plan import Forward, SharePlan
from .record import RecordedPoint, over_timeline


@dataclass(frozen=True)
class _Sum:
    """Maps of one segment added up: [rows, tokens] of `count` blocks."""

    total: torch.Tensor
    count: int


class PointWatcher:
    """Follows the plan's point through a run; frame_patch: latent frames per token frame."""

    def __init__(self, plan: SharePlan, frame_patch: int = 1):
        self.plan = plan
        self.frame_patch = frame_patch
        self.frame = None if plan.look is None else plan.timeline.frame_of(plan.look.picture)
        self._running: dict[int, _Sum] = {}
        self._newest: dict[int, torch.Tensor] = {}
        self._grid: maps.Grid | None = None

    def clear(self) -> None:
        """Frees everything."""
        self._running.clear()
        self._newest.clear()

    def end_pass(self) -> None:
        """Ends a model call: its maps replace those of the call before."""
        for index, found in self._running.items():
            self._newest[index] = found.total / found.count
        self._running.clear()

    def wants(self, forward: Forward) -> bool:
        """Whether the point lies in the forward's segment."""
        segment = forward.segment
        return self.frame is not None and self.frame in self.plan.timeline.frames_of(segment)

    def watch(self, forward: Forward, call: AttentionCall, site: CallSite, rows: slice) -> None:
        """Reads the point's map in one self- or joint attention; rows: the batch rows to read."""
        if not self.wants(forward):
            return
        self._grid = forward.grid
        video = slice(site.video_start, site.video_start + forward.video_tokens)
        looked = maps.point_map(
            call.query[rows], call.key[rows, :, video], site.video_start + self._token(forward), call.scale
        )
        known = self._running.get(forward.segment.index)
        self._running[forward.segment.index] = (
            _Sum(looked, 1) if known is None else _Sum(known.total + looked, known.count + 1)
        )

    def _token(self, forward: Forward) -> int:
        look, frame = self.plan.look, self.frame
        assert look is not None and frame is not None
        _, height, width = forward.grid
        place = self.plan.timeline.frames_of(forward.segment).index(frame) // self.frame_patch
        return (place * height + min(int(look.y * height), height - 1)) * width + min(int(look.x * width), width - 1)

    def recorded(self) -> RecordedPoint | None:
        """The map over the whole timeline as it was last, its highest value 1; None when nothing was read."""
        if not self._newest or self._grid is None:
            return None
        timeline = self.plan.timeline
        total = over_timeline(
            timeline,
            {
                index: maps.spread_over_latent_frames(
                    looked.float().cpu().unflatten(-1, self._grid), timeline.window, self.frame_patch
                )
                for index, looked in self._newest.items()
            },
        )
        return RecordedPoint(timeline, total / total.amax(dim=(1, 2, 3), keepdim=True))
