"""What one chosen point of the video attends to: DiTCtrl's visualisations (section 3.2) for a single query.

Where in the video, how much in every frame, and to which words. It only visualises and does not change what is shared.
It costs one row of scores per block, and in joint attention one small matrix of the prompt's words.
"""

import torch

from ..forward.call import AttentionContext
from ..forward.forward import Forward
from ..plan.share_plan import SharePlan
from ..record.record import RecordedPoint, over_timeline
from ..subject import maps
from ..timeline.timeline import Segment
from .newest_means import NewestMeans
from .words import WordWatcher


class PointWatcher:
    """Follows the plan's point through a run."""

    def __init__(self, plan: SharePlan, frame_patch: int = 1):
        """frame_patch: latent frames per token frame."""
        self.plan = plan
        self.frame_patch = frame_patch
        self.frame = None if plan.look is None else plan.timeline.frame_of(plan.look.picture)
        self._indices = (
            frozenset[int]()
            if self.frame is None
            else frozenset(segment.index for segment in plan.timeline.segments_at(self.frame))
        )
        self._maps = NewestMeans()
        self._words = WordWatcher(plan, frame_patch)
        self._grid: maps.Grid | None = None

    def clear(self) -> None:
        """Frees everything."""
        self._maps.clear()
        self._words.clear()

    def end_pass(self) -> None:
        """Ends a model call: its maps replace those of the call before."""
        self._maps.end_pass()
        self._words.end_pass()

    def wants(self, segment: Segment) -> bool:
        """Whether `segment` contributes to the frame of the point."""
        return segment.index in self._indices

    def add_map(self, context: AttentionContext) -> None:
        """Computes what the point's query attends to in one call, in the conditional rows."""
        forward, call, site, rows = context.forward, context.call, context.site, context.conditional_rows
        if rows is None or not self.wants(forward.segment):
            return
        self._grid, look, view = forward.grid, self.plan.look, context.view
        assert look is not None
        token_frame = self._token_frame(forward)
        row, token = view.place(token_frame, look.y, look.x)
        query = slice(site.video_start + token, site.video_start + token + 1)
        # Where frames are rows, those of one frame of each latent.
        rows = slice(rows.start + row, rows.stop, view.rows)
        scores = maps.attention_scores(
            call.query[rows, :, query], call.key[rows], call.scale, maps.mask_of_queries(call.mask, rows, query)
        ).squeeze(2)
        if site.kind != "cross":
            attended = scores[..., context.video].softmax(-1).mean(1)
            self._maps.add(forward.segment.index, view.of_one_row(attended, row))
        if site.kind != "self" and forward.text.own:
            self._words.add_map(context, scores, token_frame)

    def _token_frame(self, forward: Forward) -> int:
        """The token frame of the point."""
        assert self.frame is not None
        return self.plan.timeline.frames_of(forward.segment).index(self.frame) // self.frame_patch

    def recorded(self) -> RecordedPoint | None:
        """What the point attends to over the whole timeline by the newest maps; None when there are none."""
        look, timeline = self.plan.look, self.plan.timeline
        if not self._maps.newest or self._grid is None or look is None:
            return None
        found = {index: attended.cpu().unflatten(-1, self._grid) for index, attended in self._maps.newest.items()}
        heat = over_timeline(
            timeline,
            {
                index: maps.spread_over_latent_frames(attended, timeline.window, self.frame_patch)
                for index, attended in found.items()
            },
        )
        return RecordedPoint(
            timeline,
            look,
            heat / heat.amax(dim=(1, 2, 3), keepdim=True),
            self._over_frames(found),
            self._words.recorded(),
        )

    def _over_frames(self, found: dict[int, torch.Tensor]) -> torch.Tensor:
        """How much of maps [rows, frames, h, w], by segment, lies in each latent frame of the video, mean over the
        segments: [rows, latent frames], summing to one."""
        timeline, patch = self.plan.timeline, self.frame_patch
        total = torch.zeros(next(iter(found.values())).shape[0], timeline.latent_frames)
        for index, attended in found.items():
            latent_frames = [min(patch, timeline.window - first) for first in range(0, timeline.window, patch)]
            each = attended.sum((2, 3)) / torch.tensor(latent_frames)
            own = each.repeat_interleave(torch.tensor(latent_frames), dim=1)
            total.index_add_(1, torch.tensor(timeline.frames_of(timeline.segments[index])), own / len(found))
        return total
