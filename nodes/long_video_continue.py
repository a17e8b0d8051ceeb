from typing import Any

import torch
from comfy_api.latest import io

from ..kvshare_core.host.conditioning.pictures import encode_stretch
from ..kvshare_core.timeline.holding import (
    HOLD_PLACES,
    HoldPlace,
    first_frame,
    hold_frames,
    hold_original,
    latent_frames_of,
)
from ..kvshare_core.timeline.pictures import as_video
from ..kvshare_core.timeline.timeline import Timeline
from .errors import named_errors
from .inputs import like_latent, noise_mask_of, search_words, video_samples
from .sockets import CATEGORY, TimelineSocket

EDIT = "edit"
"""The choice of `hold` that makes the existing video the first prompt's, and later prompts edits of it."""


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
            **search_words(
                "extend video", "video to video", "edit video", "inpaint video", "outpaint time", "lead into"
            ),
            inputs=[
                TimelineSocket.Input("timeline", tooltip="The timeline of the whole video, from Long Video Segmenter."),
                io.Latent.Input(
                    "latent",
                    tooltip="The latent of the whole video, from Long Video Segmenter or another Long Video Continue "
                    "that keeps a different part.",
                ),
                io.Combo.Input(
                    "hold",
                    options=[*HOLD_PLACES, EDIT],
                    default="start",
                    tooltip="Where to place the existing video. start: continue from it. end: lead into it. beat: at "
                    "the start of that prompt. edit: it is the first prompt's, and every later prompt begins with a "
                    "copy that the sampler may change; set denoise of the sampler below 1 to stay close to it.",
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
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="For hold edit: where the edit may change the video, as one image or one per frame. "
                    "Everything else stays as it is. Without it, everything may change.",
                ),
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
        hold: str,
        beat: int,
        soft_frames: int,
        existing: dict[str, Any] | None = None,
        images: torch.Tensor | None = None,
        vae: Any = None,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        with named_errors("Long Video Continue"):
            if mask is not None and hold != EDIT:
                raise ValueError("mask: it is for hold 'edit' alone. Disconnect it, or choose edit.")
            samples, held = video_samples("latent", latent), noise_mask_of(latent)
            place: HoldPlace = "start" if hold == EDIT else hold  # pyright: ignore[reportAssignmentType]
            video, start = placed_video(timeline, place, beat, existing, images, vae)
            if hold == EDIT:
                held_samples, noise_mask = hold_original(timeline, samples, held, video, mask)
            else:
                held_samples, noise_mask = hold_frames(timeline, samples, held, video, start, soft_frames)
            found = {"samples": like_latent(held_samples, latent), "noise_mask": like_latent(noise_mask, latent)}
            return io.NodeOutput({**latent, **found})


def placed_video(
    timeline: Timeline,
    place: HoldPlace,
    beat: int,
    existing: dict[str, Any] | None,
    images: torch.Tensor | None,
    vae: Any,
) -> tuple[torch.Tensor, int]:
    """The latent of the existing video and its first latent frame in the timeline. Raises ValueError naming what is
    missing or does not fit."""
    if (existing is None) == (images is None):
        raise ValueError("existing: connect either the latent of the existing video, or its images and a vae.")
    if existing is not None:
        video = video_samples("existing", existing)
        return video, first_frame(timeline, place, beat, video.shape[2])
    if images is None or vae is None:
        raise ValueError("vae: connect the model's VAE to encode the images.")
    frames = latent_frames_of(timeline, place, beat, len(images))
    start = first_frame(timeline, place, beat, frames)
    video = encode_stretch(vae, images, timeline, start, frames)
    return as_video(video) if video.ndim == 4 else video, start
