from typing import Any

from comfy_api.latest import io

from ..kvshare_core.timeline.holding import redo_mask
from ..kvshare_core.timeline.timeline import Timeline
from .errors import named_errors
from .inputs import like_latent, search_words, video_samples
from .sockets import CATEGORY, TimelineSocket


class LongVideoRedoBeat(io.ComfyNode):
    """Unlocks one beat of a finished video for the sampler and locks everything else."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongVideoRedoBeat",
            display_name="Long Video Redo Beat",
            category=CATEGORY,
            description="Regenerates one prompt of a finished video, with a new text or another seed. All other latent "
            "frames stay the same, bit for bit, and only the segments needed are computed.",
            **search_words("retake", "regenerate shot", "inpaint video", "edit video"),
            inputs=[
                TimelineSocket.Input(
                    "timeline", tooltip="The timeline of the video. The prompt to regenerate may have a new text."
                ),
                io.Latent.Input("latent", tooltip="The finished video, from the sampler or Long Video Load."),
                io.Int.Input(
                    "beat",
                    default=1,
                    min=1,
                    max=10000,
                    tooltip="Number of the prompt to regenerate, from 1. Frames where it blends into its neighbours "
                    "are regenerated too.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent", tooltip="The video with everything but that prompt locked, for the sampler."
                )
            ],
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, timeline: Timeline, latent: dict[str, Any], beat: int
    ) -> io.NodeOutput:
        with named_errors("Long Video Redo Beat"):
            mask = redo_mask(timeline, video_samples("latent", latent), beat)
            return io.NodeOutput({**latent, "noise_mask": like_latent(mask, latent)})
