from typing import Any

from comfy_api.latest import io

from ..kvshare_core.config import KVShareConfig
from ..kvshare_core.host.files.preset_chart import draw_chart
from ..kvshare_core.host.files.preset_files import save
from ..kvshare_core.host.sampling.probe_run import SCHEDULERS, probe_model
from ..kvshare_core.probe.figures import ProbeSettings
from ..kvshare_core.timeline.timeline import Timeline
from .errors import named_errors
from .inputs import config_output, search_words
from .sockets import CATEGORY, ConfigSocket, TimelineSocket

DEFAULTS = ProbeSettings()


class KVShareProbe(io.ComfyNode):
    """Finds the blocks of a model that are good for masks and for sharing."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KVShareProbe",
            display_name="KV Share Probe",
            category=CATEGORY,
            description="Measures which transformer blocks of your model show where the subject is, and which carry "
            "what it looks like, and saves that as a preset for KVShareLoadPreset. Two short clips are sampled, and "
            "the model is called about three more times for each of its blocks; a small width and height make it "
            "quick. Once for each model is enough.",
            **search_words("layer preset", "block analysis", "find layers", "calibrate"),
            inputs=[
                io.Model.Input("model", tooltip="The video model to measure, as a loader gives it; it is not changed."),
                TimelineSocket.Input(
                    "timeline",
                    tooltip="From LongVideoSegmenter with one prompt and no duration, such as: a fox runs over grass. "
                    "Leave the subject's colour and kind open, so that two clips differ in them.",
                ),
                io.Conditioning.Input("positive", tooltip="From the same LongVideoSegmenter."),
                io.Conditioning.Input("negative", tooltip="From the same LongVideoSegmenter."),
                io.Latent.Input("latent", tooltip="From the same LongVideoSegmenter, with batch_size 1."),
                io.String.Input(
                    "subject", default="", tooltip="Words of the prompt that name what it is about, such as fox."
                ),
                io.Int.Input(
                    "seed",
                    default=DEFAULTS.seed,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF - 1,
                    tooltip="Noise of the first clip; the second one has the next seed.",
                ),
                io.Int.Input(
                    "steps",
                    default=DEFAULTS.steps,
                    min=2,
                    max=200,
                    tooltip="Steps of the clips, of which four fifths are sampled. Fewer than for a finished video do.",
                ),
                io.Float.Input(
                    "cfg",
                    default=DEFAULTS.cfg,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Guidance of the clips: what you make videos with.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="kvshare/presets/probe",
                    tooltip="Where to save the preset in the output folder, and how its name begins.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=list(SCHEDULERS),
                    default=DEFAULTS.scheduler,
                    optional=True,
                    tooltip="Noise levels of the clips: what you make videos with. The sampler is euler.",
                ),
                io.Int.Input(
                    "noise_levels",
                    default=DEFAULTS.noise_levels,
                    min=1,
                    max=2,
                    optional=True,
                    tooltip="1 changes the blocks in the middle of the run only; 2 also late in it, which takes twice "
                    "as long and is steadier.",
                ),
                ConfigSocket.Input(
                    "config",
                    optional=True,
                    tooltip="The configuration that gets the blocks; without it the defaults.",
                ),
            ],
            outputs=[
                config_output(),
                io.String.Output(display_name="preset", tooltip="The preset as its file has it."),
                io.String.Output(
                    display_name="info",
                    tooltip="The file, the blocks chosen, and the figures of every block. agreement and contrast, at "
                    "two noise levels: of its map with where the words act, and in itself. alone, moved: how far the "
                    "video changes when every token sees itself only, and when keys move in time. within, beside: how "
                    "far the subject and the rest change when the subject sees another clip's. pull: how far that "
                    "brings it to the other's looks.",
                ),
                io.Image.Output(display_name="chart", tooltip="The same as bars; the blocks chosen are lit."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        model: Any,
        timeline: Timeline,
        positive: list[Any],
        negative: list[Any],
        latent: dict[str, Any],
        subject: str,
        seed: int,
        steps: int,
        cfg: float,
        filename_prefix: str,
        scheduler: str = DEFAULTS.scheduler,
        noise_levels: int = DEFAULTS.noise_levels,
        config: KVShareConfig | None = None,
    ) -> io.NodeOutput:
        with named_errors("KVShareProbe"):
            settings = ProbeSettings(seed, steps, cfg, scheduler, noise_levels)
            preset = probe_model(model, timeline, positive, negative, latent, subject, settings)
            file = save(preset, filename_prefix)
            info = f"{file}\n{preset.table()}"
            return io.NodeOutput(preset.put_on(config or KVShareConfig()), preset.to_json(), info, draw_chart(preset))
