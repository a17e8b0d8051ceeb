from typing import Any

from comfy_api.latest import io

from ..kvshare_core.host.files.run_files import file_of, save
from ..kvshare_core.host.files.user_files import OUTPUT
from ..kvshare_core.record.record import KVShareRecord
from ..kvshare_core.timeline.timeline import Timeline
from .errors import named_errors
from .inputs import check_connected, search_words, video_part
from .sockets import CATEGORY, RecordSocket, TimelineSocket


class LongVideoSave(io.ComfyNode):
    """Saves everything needed to resume a long video in one file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongVideoSave",
            display_name="Long Video Save",
            category=CATEGORY,
            description="Saves the latent of a long video with its timeline and subject masks, to resume it later. To "
            "stop mid-sampling, set end_at_step and return_with_leftover_noise in KSampler (Advanced).",
            **search_words("save latent", "checkpoint", "resume"),
            inputs=[
                TimelineSocket.Input("timeline", tooltip="The timeline of the video."),
                io.Latent.Input("latent", tooltip="From the sampler, finished or with leftover noise."),
                io.String.Input(
                    "filename_prefix",
                    default="kvshare/long_video",
                    tooltip="Folder and file name prefix, inside the output folder.",
                ),
                RecordSocket.Input(
                    "record", optional=True, tooltip="The subject masks of the run, from Mask-Guided KV Share."
                ),
            ],
            outputs=[io.String.Output(display_name="file", tooltip="The file name, as Long Video Load lists it.")],
            is_output_node=True,
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, timeline: Timeline, latent: dict[str, Any], filename_prefix: str, record: KVShareRecord | None = None
    ) -> io.NodeOutput:
        with named_errors("Long Video Save"):
            check_connected(timeline=timeline)
            video_part(latent)
            subfolder, file = save(file_of(timeline, latent, record), filename_prefix)
        name = f"{subfolder}/{file}" if subfolder else file
        shown = {"filename": file, "subfolder": subfolder, "type": "output"}
        return io.NodeOutput(name + OUTPUT, ui={"latents": [shown]})
