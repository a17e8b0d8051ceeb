from typing import Any

import torch
from comfy_api.latest import io

from ..kvshare_core.host.conditioning.pictures import encode_stretch
from ..kvshare_core.timeline.holding import HOLD_PLACES, HoldPlace, first_frame, hold_frames, latent_frames_of
from ..kvshare_core.timeline.timeline import Timeline
from .errors import named_errors
from .inputs import search_words, video_samples
from .sockets import CATEGORY, TimelineSocket


class LongVideoContinue(io.ComfyNode):
    """Holds an existing video in the latent of a timeline, so that the sampler makes the rest to it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongVideoContinue",
            display_name="Long Video Continue",
            category=CATEGORY,
            description="Puts an existing video into a timeline and holds it there, bit for bit, while the sampler "
            "makes the rest. The held part is seen like any other: its subject is a source of the new parts.",
            **search_words("extend video", "video to video", "inpaint video", "outpaint time", "lead into"),
            inputs=[
                TimelineSocket.Input("timeline", tooltip="The plan of the whole video, from LongVideoSegmenter."),
                io.Latent.Input(
                    "latent",
                    tooltip="The latent of the whole video, from LongVideoSegmenter or from a node like this one that "
                    "holds another part.",
                ),
                io.Combo.Input(
                    "hold",
                    options=list(HOLD_PLACES),
                    default="start",
                    tooltip="Where the existing video stands. start: it is continued. end: the new video leads into "
                    "it. beat: it begins where that prompt begins.",
                ),
                io.Int.Input("beat", default=1, min=1, max=10000, tooltip="Number of the prompt, for hold beat."),
                io.Int.Input(
                    "soft_frames",
                    default=0,
                    min=0,
                    max=1024,
                    tooltip="Latent frames of the existing video, next to the new, that may change a little for a "
                    "softer transition. 0 keeps them all as they are.",
                ),
                io.Latent.Input(
                    "existing",
                    optional=True,
                    tooltip="The existing video as a latent. Its first frame stands for one picture where it begins "
                    "the timeline, and for as many as the others elsewhere.",
                ),
                io.Image.Input(
                    "images", optional=True, tooltip="The existing video as pictures, instead of the latent."
                ),
                io.Vae.Input("vae", optional=True, tooltip="Encodes the pictures."),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent", tooltip="The whole video with the held part in place, for the sampler."
                )
            ],
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        timeline: Timeline,
        latent: dict[str, Any],
        hold: HoldPlace,
        beat: int,
        soft_frames: int,
        existing: dict[str, Any] | None = None,
        images: torch.Tensor | None = None,
        vae: Any = None,
    ) -> io.NodeOutput:
        with named_errors("LongVideoContinue"):
            return io.NodeOutput(cls._held(timeline, latent, hold, beat, soft_frames, existing, images, vae))

    @classmethod
    def _held(
        cls,
        timeline: Timeline,
        latent: dict[str, Any],
        place: HoldPlace,
        beat: int,
        soft: int,
        existing: dict[str, Any] | None,
        images: torch.Tensor | None,
        vae: Any,
    ) -> dict[str, Any]:
        if (existing is None) == (images is None):
            raise ValueError("existing: give either the latent of the existing video, or its images and a vae.")
        samples = video_samples("latent", latent)
        if existing is not None:
            video = video_samples("existing", existing)
            start = first_frame(timeline, place, beat, video.shape[2])
        elif images is not None and vae is not None:
            frames = latent_frames_of(timeline, place, beat, len(images))
            start = first_frame(timeline, place, beat, frames)
            video = encode_stretch(vae, images, timeline, start, frames)
        else:
            raise ValueError("vae: connect the VAE of the model, which encodes the images.")
        held, mask = hold_frames(timeline, samples, latent.get("noise_mask"), video, start, soft)
        return {**latent, "samples": held, "noise_mask": mask}
