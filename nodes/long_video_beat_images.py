from typing import Any

import torch
from comfy_api.latest import io

from ..kvshare_core.host.conditioning.beat_images import BeatImages, add_beat_images, joined_vision
from ..kvshare_core.timeline.timeline import Timeline
from .errors import named_errors
from .inputs import check_connected, search_words, video_part
from .sockets import CATEGORY, TimelineSocket


class LongVideoBeatImages(io.ComfyNode):
    """Sets images of one beat: where it starts, where it ends, and in between."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongVideoBeatImages",
            display_name="Long Video Beat Images",
            category=CATEGORY,
            description="Sets the first and last image of one prompt, for image-to-video models of Wan and "
            "HunyuanVideo, for MiniMax H3, and for all models of LTX. All but HunyuanVideo also take one in between. "
            "Use one node per prompt that has images. LTX gets them in the latent, at the ends of the prompt's own "
            "time. Other models get them at the ends of the prompt's segment, so a prompt shorter than a segment may "
            "not show them.",
            **search_words("first frame last frame", "keyframe", "image to video", "start image"),
            inputs=[
                io.Model.Input("model", tooltip="The image-to-video model, or any model of LTX."),
                io.Vae.Input("vae", tooltip="The model's VAE, to encode the images."),
                TimelineSocket.Input("timeline", tooltip="From Long Video Segmenter."),
                io.Conditioning.Input(
                    "positive", tooltip="From Long Video Segmenter or another Long Video Beat Images."
                ),
                io.Conditioning.Input(
                    "negative", tooltip="From Long Video Segmenter or another Long Video Beat Images."
                ),
                io.Latent.Input(
                    "latent",
                    tooltip="From Long Video Segmenter, or for LTX from another Long Video Beat Images. Only LTX gets "
                    "the images by it; for other models only its size is used.",
                ),
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
                io.Image.Input(
                    "middle_image",
                    optional=True,
                    tooltip="An image within the time of the prompt. Not for HunyuanVideo; for MiniMax H3 in newer "
                    "versions of ComfyUI only.",
                ),
                io.Float.Input(
                    "middle_at",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="Where middle_image stands in the time of the prompt, from 0 at its start to 1 at its end.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="How firmly the images are kept. 1 keeps them unchanged, lower values let the sampler "
                    "change them. Below 1 for LTX only.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="positive", tooltip="All prompts, with the images added to this one."
                ),
                io.Conditioning.Output(
                    display_name="negative", tooltip="The negative of every prompt, with the images added to this one."
                ),
                io.Latent.Output(
                    display_name="latent",
                    tooltip="For LTX, the latent with the images in place, for the sampler. For other models as it "
                    "came in.",
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
        middle_image: torch.Tensor | None = None,
        middle_at: float = 0.5,
        strength: float = 1.0,
    ) -> io.NodeOutput:
        with named_errors("Long Video Beat Images"):
            check_connected(model=model, vae=vae)
            vision = joined_vision(clip_vision_start_image, clip_vision_end_image)
            images = BeatImages(start_image, end_image, middle_image, middle_at, strength, vision, clip)
            video_part(latent)
            return io.NodeOutput(*add_beat_images(model, vae, timeline, latent, positive, negative, beat, images))
