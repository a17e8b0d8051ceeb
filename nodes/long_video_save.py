from typing import Any

from comfy_api.latest import io

from ..kvshare_core.host.files.run_files import file_of, save
from ..kvshare_core.host.files.user_files import OUTPUT
from ..kvshare_core.record.record import KVShareRecord
from ..kvshare_core.timeline.timeline import Timeline
from .errors import named_errors
from .inputs import search_words
from .sockets import CATEGORY, RecordSocket, TimelineSocket


class LongVideoSave(io.ComfyNode):
    """Writes what a long run needs to be gone on with into one file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongVideoSave",
            display_name="Long Video Save",
            category=CATEGORY,
            description="Saves the latent of a long video with its timeline and the subject masks found so far, so "
            "that the run can go on later. To stop in the middle of sampling, let KSampler (Advanced) end at a step "
            "and return with leftover noise.",
            **search_words("save latent", "checkpoint", "resume"),
            inputs=[
                TimelineSocket.Input("timeline", tooltip="The plan of the video."),
                io.Latent.Input("latent", tooltip="From the sampler, finished or with leftover noise."),
                io.String.Input(
                    "filename_prefix",
                    default="kvshare/long_video",
                    tooltip="Where to save in the output folder, and how the name begins.",
                ),
                RecordSocket.Input(
                    "record", optional=True, tooltip="From MaskGuidedKVShare: the subject masks of the run."
                ),
            ],
            outputs=[
                io.String.Output(display_name="file", tooltip="The name under which LongVideoLoad knows the file.")
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, timeline: Timeline, latent: dict[str, Any], filename_prefix: str, record: KVShareRecord | None = None
    ) -> io.NodeOutput:
        with named_errors("LongVideoSave"):
            subfolder, file = save(file_of(timeline, latent, record), filename_prefix)
        name = f"{subfolder}/{file}" if subfolder else file
        shown = {"filename": file, "subfolder": subfolder, "type": "output"}
        return io.NodeOutput(name + OUTPUT, ui={"latents": [shown]})
