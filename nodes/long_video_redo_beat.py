from typing import Any

from comfy_api.latest import io

from ..kvshare_core.timeline.holding import redo_mask
from ..kvshare_core.timeline.timeline import Timeline
from .errors import named_errors
from .inputs import search_words, video_samples
from .sockets import CATEGORY, TimelineSocket


class LongVideoRedoBeat(io.ComfyNode):
    """Frees one beat of a finished video for the sampler and holds its neighbours."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongVideoRedoBeat",
            display_name="Long Video Redo Beat",
            category=CATEGORY,
            description="Makes one prompt of a finished video again, with a new text or another seed, while all else "
            "stays as it is, bit for bit. Only the segments that this needs are computed.",
            **search_words("retake", "regenerate shot", "inpaint video", "edit video"),
            inputs=[
                TimelineSocket.Input(
                    "timeline", tooltip="The plan of the video, with the prompt that is to be made again."
                ),
                io.Latent.Input("latent", tooltip="The finished video, from the sampler."),
                io.Int.Input(
                    "beat",
                    default=1,
                    min=1,
                    max=10000,
                    tooltip="Number of the prompt to make again. The frames over which it fades into its neighbours "
                    "are made again too.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent", tooltip="The video with all but that prompt held, for the sampler."
                )
            ],
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, timeline: Timeline, latent: dict[str, Any], beat: int
    ) -> io.NodeOutput:
        with named_errors("LongVideoRedoBeat"):
            mask = redo_mask(timeline, video_samples("latent", latent), beat)
            return io.NodeOutput({**latent, "noise_mask": mask})
