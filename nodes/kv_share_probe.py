from typing import Any

from comfy_api.latest import io

from ..kvshare_core.config import KVShareConfig
from ..kvshare_core.host.files.preset_chart import draw_chart
from ..kvshare_core.host.files.preset_files import save
from ..kvshare_core.host.sampling.probe_run import SCHEDULERS, probe_model
from ..kvshare_core.probe.figures import ProbeSettings
from ..kvshare_core.timeline.timeline import Timeline
from .errors import named_errors
from .inputs import check_connected, config_output, search_words, video_part
from .sockets import CATEGORY, ConfigSocket, TimelineSocket

DEFAULTS = ProbeSettings()


class KVShareProbe(io.ComfyNode):
    """Finds the blocks of a model that work best for masks and for sharing."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KVShareProbe",
            display_name="KV Sharing Probe",
            category=CATEGORY,
            description="Measures which of your model's blocks locate the subject and which carry its appearance, and "
            "saves the result as a preset for KV Sharing Load Preset. It samples two short clips and calls the model "
            "about three more times per block; use a small width and height. Run it once per model.",
            **search_words("layer preset", "block analysis", "find layers", "calibrate"),
            inputs=[
                io.Model.Input(
                    "model", tooltip="The video model to measure, straight from a loader. It is not changed."
                ),
                TimelineSocket.Input(
                    "timeline",
                    tooltip="From Long Video Segmenter with one prompt and no duration, such as: a fox runs over "
                    "grass. Leave out the subject's colour and breed, so that the two clips differ in them.",
                ),
                io.Conditioning.Input("positive", tooltip="From the same Long Video Segmenter."),
                io.Conditioning.Input("negative", tooltip="From the same Long Video Segmenter."),
                io.Latent.Input("latent", tooltip="From the same Long Video Segmenter, with batch_size 1."),
                io.String.Input(
                    "subject", default="", tooltip="Words of the prompt that name the subject, such as fox."
                ),
                io.Int.Input(
                    "seed",
                    default=DEFAULTS.seed,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF - 1,
                    tooltip="Seed of the first clip. The second clip uses the next seed. Change it to see whether the "
                    "result is stable.",
                ),
                io.Int.Input(
                    "steps",
                    default=DEFAULTS.steps,
                    min=2,
                    max=200,
                    tooltip="Sampling steps of the clips; about the first four fifths are run. Fewer than for a final "
                    "video are enough.",
                ),
                io.Float.Input(
                    "cfg",
                    default=DEFAULTS.cfg,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="CFG scale of the clips. Use the same as for your videos.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="kvshare/presets/probe",
                    tooltip="Folder and file name prefix of the preset, inside the output folder.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=list(SCHEDULERS),
                    default=DEFAULTS.scheduler,
                    optional=True,
                    tooltip="Scheduler of the clips. Use the same as for your videos. The sampler is euler.",
                ),
                io.Int.Input(
                    "noise_levels",
                    default=DEFAULTS.noise_levels,
                    min=1,
                    max=2,
                    optional=True,
                    tooltip="1 tests each block at one noise level, midway through sampling. 2 tests it late in "
                    "sampling too: more reliable, but about twice as long.",
                ),
                ConfigSocket.Input(
                    "config",
                    optional=True,
                    tooltip="The configuration to apply the blocks to. If not connected, the defaults.",
                ),
            ],
            outputs=[
                config_output(),
                io.String.Output(display_name="preset", tooltip="The preset as JSON, as saved in the file."),
                io.String.Output(
                    display_name="info",
                    tooltip="The file, the chosen blocks and a table. agreement, contrast (at two noise levels): how "
                    "well the block's map matches where the words act, and how clear it is. alone, moved: change of "
                    "the video when each video token attends only to itself, and when keys are shifted in time. "
                    "within, beside: change of the subject and of the rest when the subject attends to the other "
                    "clip's. pull: how far that moves it towards the other clip's appearance.",
                ),
                io.Image.Output(
                    display_name="chart", tooltip="The table as a bar chart, with the chosen blocks highlighted."
                ),
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
        with named_errors("KV Sharing Probe"):
            check_connected(model=model, timeline=timeline, positive=positive, negative=negative)
            video_part(latent)
            settings = ProbeSettings(seed, steps, cfg, scheduler, noise_levels)
            preset = probe_model(model, timeline, positive, negative, latent, subject, settings)
            file = save(preset, filename_prefix)
            info = f"{file}\n{preset.table()}"
            return io.NodeOutput(preset.put_on(config or KVShareConfig()), preset.to_json(), info, draw_chart(preset))
