from comfy_api.latest import io

from ..kvshare_core.host.files.run_files import file_names, fingerprint, load
from .errors import named_errors
from .inputs import search_words
from .sockets import CATEGORY, RecordSocket, TimelineSocket


class LongVideoLoad(io.ComfyNode):
    """Loads a file of LongVideoSave."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongVideoLoad",
            display_name="Long Video Load",
            category=CATEGORY,
            description="Loads the latent of a long video with its timeline and subject masks. To resume mid-sampling, "
            "set start_at_step of KSampler (Advanced) to the step where the run stopped, with add_noise off and the "
            "same seed and steps.",
            **search_words("load latent", "checkpoint", "resume"),
            inputs=[
                io.Combo.Input(
                    "file",
                    options=file_names(),
                    tooltip="A file saved by Long Video Save, in the input or output folder.",
                )
            ],
            outputs=[
                TimelineSocket.Output(
                    display_name="timeline",
                    tooltip="The timeline of the video. For the conditioning, use Long Video Segmenter with the same "
                    "prompts.",
                ),
                io.Latent.Output(display_name="latent", tooltip="The saved latent, with its noise mask."),
                RecordSocket.Output(display_name="record", tooltip="The subject masks found so far."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return fingerprint(file)

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:  # pyright: ignore[reportIncompatibleMethodOverride]
        with named_errors("Long Video Load"):
            content = load(file)
        return io.NodeOutput(content.timeline, content.latent, content.record)
