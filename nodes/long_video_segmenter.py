from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..kvshare_core.host.conditioning.encoding import empty_latent, encode_timeline
from ..kvshare_core.host.loading.model_info import model_info
from ..kvshare_core.script.parsing import parse_script
from ..kvshare_core.timeline.planning import overridden_inputs, plan_timeline
from ..kvshare_core.timeline.timeline import BLEND_WEIGHTS, NOISES, BlendWeights, Noise
from .errors import named_errors
from .inputs import search_words
from .sockets import CATEGORY, TimelineSocket


class LongVideoSegmenter(io.ComfyNode):
    """Prompts and durations become segments, conditioning and an empty latent."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongVideoSegmenter",
            display_name="Long Video Segmenter",
            category=CATEGORY,
            description="Plans one long video from several prompts: overlapping segments of the model's native length, "
            "each with its own prompt.",
            **search_words("prompt travel", "prompt schedule", "multi prompt", "timeline"),
            inputs=[
                io.Model.Input(
                    "model", tooltip="The video model; its native clip length and latent size are read from it."
                ),
                io.Clip.Input("clip", tooltip="The text encoder that belongs to the model."),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    default="",
                    tooltip="One prompt a line, each with an optional duration in front: [3s] a fox runs, or [48f] a "
                    "fox sleeps. Without a duration a prompt takes one segment. A line can say more, such as how its "
                    "scene begins, what it should not show and which LoRAs it has; docs/timeline.md tells how.",
                ),
                io.String.Input(
                    "negative_prompt",
                    multiline=True,
                    default="",
                    tooltip="What no segment should show; one for all that have none of their own in prompts.",
                ),
                io.Int.Input("width", default=832, min=16, max=16384, step=8, tooltip="Width of the video in pixels."),
                io.Int.Input(
                    "height", default=480, min=16, max=16384, step=8, tooltip="Height of the video in pixels."
                ),
                io.Float.Input(
                    "fps",
                    default=16.0,
                    min=1.0,
                    max=240.0,
                    step=0.1,
                    tooltip="Frames per second, to read durations in seconds.",
                ),
                io.Int.Input(
                    "sampling_num_frames",
                    default=0,
                    min=0,
                    max=1024,
                    tooltip="Latent frames of one segment; 0 takes the length the model was trained on.",
                ),
                io.Int.Input(
                    "overlap_size",
                    default=2,
                    min=0,
                    max=1024,
                    tooltip="Latent frames that neighbouring segments share and blend; 0 makes hard cuts.",
                ),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="Videos to make at once."),
                io.Int.Input(
                    "num_transition_blocks",
                    default=0,
                    min=0,
                    max=16,
                    optional=True,
                    tooltip="Segments to add between two prompts that show a mixture of both, so that one scene turns "
                    "into the next. They make the video longer. 0 goes straight to the next prompt.",
                ),
                io.Int.Input(
                    "longer_mid_segment",
                    default=0,
                    min=0,
                    max=64,
                    optional=True,
                    tooltip="Segments to add to every prompt that is neither the first nor the last, unless it says "
                    "its duration.",
                ),
                io.Combo.Input(
                    "blend_weights",
                    options=list(BLEND_WEIGHTS),
                    default="linear",
                    optional=True,
                    tooltip="How one segment fades into the next. linear: evenly. hann: gently at both ends. pyramid: "
                    "as ComfyUI's context windows, by the distance from the segment's ends. triangle: as DiTCtrl, "
                    "which DiTCtrl Config always takes.",
                ),
                io.Combo.Input(
                    "noise",
                    options=list(NOISES),
                    default="plain",
                    optional=True,
                    tooltip="What the segments begin with. plain: the sampler's noise. freenoise: all segments have "
                    "the noise of the first one in another order, so that a long scene stays more alike (FreeNoise).",
                ),
            ],
            outputs=[
                TimelineSocket.Output(display_name="timeline", tooltip="The plan, for MaskGuidedKVShare."),
                io.Conditioning.Output(display_name="positive", tooltip="All prompts, each tagged with its beat."),
                io.Conditioning.Output(display_name="negative", tooltip="The negative prompt, or one of each beat."),
                io.Latent.Output(
                    display_name="latent",
                    tooltip="An empty latent of the whole video. For LTX-2 with audio, join it with that of LTXV Empty "
                    "Latent Audio in Concat AV Latent.",
                ),
                io.String.Output(
                    display_name="info",
                    tooltip="What each duration was rounded to, and which inputs prompts override.",
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
    ) -> io.NodeOutput:
        with named_errors("LongVideoSegmenter"):
            _, info = model_info(model)
            script = parse_script(prompts)
            timeline = plan_timeline(
                script,
                sampling_num_frames or info.native_frames,
                overlap_size,
                fps,
                info.compression[0],
                num_transition_blocks,
                longer_mid_segment,
            )
            timeline = replace(timeline, blend_weights=blend_weights, noise=noise)
            samples = empty_latent(info, timeline, width, height, batch_size)
            timeline, positive, negative = encode_timeline(clip, timeline, negative_prompt)
        overridden = overridden_inputs(script, negative_prompt, num_transition_blocks, longer_mid_segment)
        told = "\n".join([timeline.describe(), *overridden])
        return io.NodeOutput(timeline, positive, negative, {"samples": samples}, told)
