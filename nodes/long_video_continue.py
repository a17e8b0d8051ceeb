from typing import Any

import torch
from comfy_api.latest import io

from ..kvshare_core.host.conditioning.pictures import encode_stretch
from ..kvshare_core.timeline.holding import HOLD_PLACES, HoldPlace, first_frame, hold_frames, latent_frames_of
from ..kvshare_core.timeline.pictures import as_video
from ..kvshare_core.timeline.timeline import Timeline
from .errors import named_errors
from .inputs import like_latent, noise_mask_of, search_words, video_samples
from .sockets import CATEGORY, TimelineSocket


class LongVideoContinue(io.ComfyNode):
    """Places an existing video in the latent of a timeline and locks it, so the sampler generates only the rest."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongVideoContinue",
            display_name="Long Video Continue",
            category=CATEGORY,
            description="Places an existing video in a timeline and keeps its latent unchanged, bit for bit, while the "
            "sampler generates the rest. New segments can take keys and values from it as from any other segment.",
            **search_words("extend video", "video to video", "inpaint video", "outpaint time", "lead into"),
            inputs=[
                TimelineSocket.Input("timeline", tooltip="The timeline of the whole video, from Long Video Segmenter."),
                io.Latent.Input(
                    "latent",
                    tooltip="The latent of the whole video, from Long Video Segmenter or another Long Video Continue "
                    "that keeps a different part.",
                ),
                io.Combo.Input(
                    "hold",
                    options=list(HOLD_PLACES),
                    default="start",
                    tooltip="Where to place the existing video. start: continue from it. end: lead into it. beat: at "
                    "the start of that prompt.",
                ),
                io.Int.Input(
                    "beat", default=1, min=1, max=10000, tooltip="For hold beat: number of the prompt, from 1."
                ),
                io.Int.Input(
                    "soft_frames",
                    default=0,
                    min=0,
                    max=1024,
                    tooltip="Latent frames of the existing video, next to the new part, that may change a little for a "
                    "smoother join. 0 keeps all of them unchanged. Raise it if you see a jump at the join.",
                ),
                io.Latent.Input(
                    "existing",
                    optional=True,
                    tooltip="The existing video as a latent. Its first latent frame decodes to one frame at the start "
                    "of the timeline, and elsewhere to as many as any other.",
                ),
                io.Image.Input("images", optional=True, tooltip="The existing video as frames, instead of a latent."),
                io.Vae.Input("vae", optional=True, tooltip="The model's VAE, to encode the images."),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent", tooltip="The whole video with the kept frames in place, for the sampler."
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
        with named_errors("Long Video Continue"):
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
            raise ValueError("existing: connect either the latent of the existing video, or its images and a vae.")
        samples = video_samples("latent", latent)
        if existing is not None:
            video = video_samples("existing", existing)
            start = first_frame(timeline, place, beat, video.shape[2])
        elif images is not None and vae is not None:
            frames = latent_frames_of(timeline, place, beat, len(images))
            start = first_frame(timeline, place, beat, frames)
            video = encode_stretch(vae, images, timeline, start, frames)
            video = as_video(video) if video.ndim == 4 else video
        else:
            raise ValueError("vae: connect the model's VAE to encode the images.")
        held, mask = hold_frames(timeline, samples, noise_mask_of(latent), video, start, soft)
        return {**latent, "samples": like_latent(held, latent), "noise_mask": like_latent(mask, latent)}
