from typing import Any

import torch
from comfy_api.latest import io

from ..kvshare_core.host.conditioning.beat_images import add_beat_images, joined_vision
from ..kvshare_core.timeline.timeline import Timeline
from .errors import named_errors
from .inputs import search_words, video_part
from .sockets import CATEGORY, TimelineSocket


class LongVideoBeatImages(io.ComfyNode):
    """Sets the first image of one beat, its last image, or both."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongVideoBeatImages",
            display_name="Long Video Beat Images",
            category=CATEGORY,
            description="Sets the first and last image of one prompt, for image-to-video models of Wan and "
            "HunyuanVideo, and for MiniMax H3. Use one node per prompt that has images. The images are placed at the "
            "ends of the prompt's segment, so a prompt shorter than a segment may not show them.",
            **search_words("first frame last frame", "keyframe", "image to video", "start image"),
            inputs=[
                io.Model.Input("model", tooltip="The image-to-video model."),
                io.Vae.Input("vae", tooltip="The model's VAE, to encode the images."),
                TimelineSocket.Input("timeline", tooltip="From LongVideoSegmenter."),
                io.Conditioning.Input("positive", tooltip="From LongVideoSegmenter or another LongVideoBeatImages."),
                io.Conditioning.Input("negative", tooltip="From LongVideoSegmenter or another LongVideoBeatImages."),
                io.Latent.Input("latent", tooltip="From LongVideoSegmenter. Only its size is used."),
                io.Int.Input("beat", default=1, min=1, max=10000, tooltip="Number of the prompt, counted from 1."),
                io.Image.Input(
                    "start_image", optional=True, tooltip="The first frame of the prompt, or the first frames in order."
                ),
                io.Image.Input(
                    "end_image", optional=True, tooltip="The last frame of the prompt. Not for HunyuanVideo."
                ),
                io.ClipVisionOutput.Input(
                    "clip_vision_start_image", optional=True, tooltip="start_image, encoded by CLIP Vision Encode."
                ),
                io.ClipVisionOutput.Input(
                    "clip_vision_end_image", optional=True, tooltip="end_image, encoded by CLIP Vision Encode."
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="For MiniMax H3 only: the model's text encoder, which sees the images with the prompt.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="positive", tooltip="All prompts, with the images added to this one."
                ),
                io.Conditioning.Output(
                    display_name="negative", tooltip="The negative of every prompt, with the images added to this one."
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
        clip: Any = None,
    ) -> io.NodeOutput:
        with named_errors("LongVideoBeatImages"):
            vision = joined_vision(clip_vision_start_image, clip_vision_end_image)
            samples = video_part(latent)
            return io.NodeOutput(
                *add_beat_images(
                    model, vae, timeline, samples, positive, negative, beat, start_image, end_image, vision, clip
                )
            )
