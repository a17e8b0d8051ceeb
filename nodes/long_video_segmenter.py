from dataclasses import replace
from typing import Any

import torch
from comfy_api.latest import io

from ..kvshare_core.host.conditioning.beat_images import BeatImages, add_beat_images
from ..kvshare_core.host.conditioning.encoding import empty_latent, encode_timeline, other_rate
from ..kvshare_core.host.conditioning.seen_pictures import encode_with_references
from ..kvshare_core.host.loading.model_info import model_info
from ..kvshare_core.script.parsing import parse_script
from ..kvshare_core.timeline.limits import MAX_WINDOW
from ..kvshare_core.timeline.planning import overridden_inputs, plan_timeline
from ..kvshare_core.timeline.timeline import BLEND_WEIGHTS, NOISES, BlendWeights, Noise
from .errors import named_errors
from .inputs import check_connected, rare, search_words, video_part
from .sockets import CATEGORY, TimelineSocket


class LongVideoSegmenter(io.ComfyNode):
    """Turns prompts and durations into segments, conditioning and an empty latent."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongVideoSegmenter",
            display_name="Long Video Segmenter",
            category=CATEGORY,
            description="Plans one long video from several prompts: overlapping segments of the model's native length, "
            "each with its own prompt. Also encodes the prompts and creates the empty latent.",
            **search_words(
                "kv share timeline",
                "prompt travel",
                "prompt schedule",
                "multi prompt",
                "timeline",
                "storyboard",
                "story",
                "film",
            ),
            inputs=[
                io.Model.Input(
                    "model", tooltip="The video model. It sets the native segment length and the latent size."
                ),
                io.Clip.Input("clip", tooltip="The model's text encoder."),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    default="",
                    tooltip="One prompt per line, with an optional duration: [3s] a fox runs, or [48f] a fox sleeps. "
                    "Without one, a prompt lasts one segment. Transitions, subjects, negative prompts and LoRAs can be "
                    "set per prompt; the help page lists how.",
                ),
                io.String.Input(
                    "negative_prompt",
                    multiline=True,
                    default="",
                    tooltip="Negative prompt of all prompts that do not set their own.",
                ),
                io.Int.Input(
                    "width",
                    default=832,
                    min=16,
                    max=16384,
                    step=8,
                    tooltip="Width of the video in pixels. Use a size that the model was trained on.",
                ),
                io.Int.Input(
                    "height",
                    default=480,
                    min=16,
                    max=16384,
                    step=8,
                    tooltip="Height of the video in pixels. Use a size that the model was trained on.",
                ),
                io.Float.Input(
                    "fps",
                    default=16.0,
                    min=1.0,
                    max=240.0,
                    step=0.1,
                    round=0.001,
                    tooltip="Frames per second, used to convert durations in seconds. Use the rate that the model was "
                    "trained on, and give Create Video the same.",
                ),
                io.Int.Input(
                    "sampling_num_frames",
                    default=0,
                    min=0,
                    max=MAX_WINDOW,
                    tooltip="Segment length in latent frames. 0 uses the length the model was trained on. Lower it if "
                    "memory is short; motion then suffers.",
                    **rare(),
                ),
                io.Int.Input(
                    "overlap_size",
                    default=2,
                    min=0,
                    max=MAX_WINDOW,
                    tooltip="Latent frames over which neighbouring segments overlap and are blended. 0 makes hard "
                    "cuts. Raise it if you see the join.",
                    **rare(),
                ),
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Number of videos to generate at once.",
                    **rare(),
                ),
                io.Int.Input(
                    "num_transition_blocks",
                    default=0,
                    min=0,
                    max=16,
                    optional=True,
                    tooltip="Extra segments between two prompts, with interpolated text, so that one scene turns into "
                    "the next. They make the video longer. 0 adds none.",
                    **rare(),
                ),
                io.Int.Input(
                    "longer_mid_segment",
                    default=0,
                    min=0,
                    max=64,
                    optional=True,
                    tooltip="Extra segments for every prompt except the first and the last. Prompts with a duration "
                    "are not extended.",
                    **rare(),
                ),
                io.Combo.Input(
                    "blend_weights",
                    options=list(BLEND_WEIGHTS),
                    default="linear",
                    optional=True,
                    tooltip="Blend curve between segments. linear: constant rate. hann: smooth at both ends. pyramid: "
                    "as in ComfyUI's context windows. triangle: as in DiTCtrl, and always used with DiTCtrl Config. "
                    "Try hann if you see a seam.",
                    **rare(),
                ),
                io.Combo.Input(
                    "noise",
                    options=list(NOISES),
                    default="plain",
                    optional=True,
                    tooltip="Initial noise of the segments. plain: the sampler's noise. freenoise: all segments reuse "
                    "the first segment's noise, shuffled, which makes a long scene more consistent (FreeNoise). same: "
                    "every prompt begins with the first prompt's noise, as an edit of it does.",
                    **rare(),
                ),
                io.Vae.Input("vae", optional=True, tooltip="The model's VAE, to encode references and start_image."),
                io.Image.Input(
                    "references",
                    optional=True,
                    tooltip="For MiniMax H3 only: images of what the video shows, given to every prompt. Prompts call "
                    "them <Picture 1>, <Picture 2> and so on.",
                ),
                io.Image.Input(
                    "start_image",
                    optional=True,
                    tooltip="For image-to-video models: the image that the film begins with. Long Video Beat Images "
                    "gives later prompts images of their own. Needs vae.",
                ),
            ],
            outputs=[
                TimelineSocket.Output(
                    display_name="timeline", tooltip="The planned timeline, for Mask-Guided KV Share."
                ),
                io.Conditioning.Output(display_name="positive", tooltip="All prompts, each tagged with its number."),
                io.Conditioning.Output(
                    display_name="negative", tooltip="One negative prompt for all, or one per prompt."
                ),
                io.Latent.Output(
                    display_name="latent",
                    tooltip="Empty latent of the whole video, for MiniMax H3 with its audio. For LTX-2 with audio, "
                    "combine it with LTXV Empty Latent Audio in Concat AV Latent.",
                ),
                io.String.Output(
                    display_name="info",
                    tooltip="The rounded duration of each prompt, and which inputs the script overrides.",
                ),
            ],
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        model: Any,
        clip: Any,
        prompts: str,
        negative_prompt: str,
        width: int,
        height: int,
        fps: float,
        sampling_num_frames: int,
        overlap_size: int,
        batch_size: int,
        num_transition_blocks: int = 0,
        longer_mid_segment: int = 0,
        blend_weights: BlendWeights = "linear",
        noise: Noise = "plain",
        vae: Any = None,
        references: torch.Tensor | None = None,
        start_image: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        with named_errors("Long Video Segmenter"):
            if clip is None:
                raise ValueError(
                    "clip: the loader's file has no text encoder. Load one with Load Video DiT or Load CLIP."
                )
            check_connected(model=model)
            family, info = model_info(model)
            script = parse_script(prompts)
            timeline = plan_timeline(
                script,
                sampling_num_frames or info.native_frames,
                overlap_size,
                fps,
                info.compression[0],
                num_transition_blocks,
                longer_mid_segment,
                info.frame_cycle,
            )
            timeline = replace(timeline, blend_weights=blend_weights, noise=noise)
            diffusion_model = model.get_model_object("diffusion_model")
            samples = empty_latent(info, timeline, width, height, batch_size, family.audio, diffusion_model)
            video = video_part({"samples": samples})
            encode_text = encode_with_references(clip, vae, (family, info), timeline, video, references)
            timeline, positive, negative = encode_timeline(clip, timeline, negative_prompt, encode_text)
            latent = {"samples": samples}
            if start_image is not None:
                if vae is None:
                    raise ValueError("vae: connect the model's VAE to encode start_image.")
                images = BeatImages(start_image, clip=clip)
                positive, negative, latent = add_beat_images(
                    model, vae, timeline, latent, positive, negative, 1, images
                )
        overridden = overridden_inputs(script, negative_prompt, num_transition_blocks, longer_mid_segment)
        text = "\n".join([timeline.describe(), *overridden, *other_rate(family.audio, fps)])
        return io.NodeOutput(timeline, positive, negative, latent, text)
