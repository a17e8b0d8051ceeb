from typing import Any

import torch
from comfy_api.latest import io

from ..kvshare_core.host.conditioning.beat_images import add_beat_images, joined_vision
from ..kvshare_core.timeline.timeline import Timeline
from .errors import named_errors
from .inputs import search_words, video_samples
from .sockets import CATEGORY, TimelineSocket


class LongVideoBeatImages(io.ComfyNode):
    """Gives one beat a picture to begin with, a picture to end with, or both."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongVideoBeatImages",
            display_name="Long Video Beat Images",
            category=CATEGORY,
            description="Gives one prompt of a timeline a first or a last picture, for image-to-video models of Wan "
            "and HunyuanVideo. Take one such node for each prompt that has pictures. A prompt that is shorter than a "
            "segment may show little of them, because they stand at the ends of its segment.",
            **search_words("first frame last frame", "keyframe", "image to video", "start image"),
            inputs=[
                io.Model.Input("model", tooltip="The image-to-video model."),
                io.Vae.Input("vae", tooltip="Encodes the pictures."),
                TimelineSocket.Input("timeline", tooltip="The plan from LongVideoSegmenter."),
                io.Conditioning.Input("positive", tooltip="From LongVideoSegmenter or from another node like this."),
                io.Conditioning.Input("negative", tooltip="From LongVideoSegmenter or from another node like this."),
                io.Latent.Input("latent", tooltip="From LongVideoSegmenter: it has the size of the video."),
                io.Int.Input("beat", default=1, min=1, max=10000, tooltip="Number of the prompt."),
                io.Image.Input(
                    "start_image", optional=True, tooltip="What it begins with: a picture, or several in order."
                ),
                io.Image.Input("end_image", optional=True, tooltip="What it ends with; not for HunyuanVideo."),
                io.ClipVisionOutput.Input(
                    "clip_vision_start_image", optional=True, tooltip="start_image as CLIP Vision Encode sees it."
                ),
                io.ClipVisionOutput.Input(
                    "clip_vision_end_image", optional=True, tooltip="end_image as CLIP Vision Encode sees it."
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="All prompts, this one with its pictures."),
                io.Conditioning.Output(
                    display_name="negative", tooltip="The negative prompt, once for each prompt, with the pictures."
                ),
            ],
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        model: Any,
        vae: Any,
        timeline: Timeline,
        positive: list[Any],
        negative: list[Any],
        latent: dict[str, Any],
        beat: int,
        start_image: torch.Tensor | None = None,
        end_image: torch.Tensor | None = None,
        clip_vision_start_image: Any = None,
        clip_vision_end_image: Any = None,
    ) -> io.NodeOutput:
        with named_errors("LongVideoBeatImages"):
            vision = joined_vision(clip_vision_start_image, clip_vision_end_image)
            samples = video_samples("latent", latent)
            return io.NodeOutput(
                *add_beat_images(
                    model, vae, timeline, samples, positive, negative, beat, start_image, end_image, vision
                )
            )
