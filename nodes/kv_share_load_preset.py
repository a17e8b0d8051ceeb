from typing import Any

from comfy_api.latest import io

from ..kvshare_core.config import KVShareConfig
from ..kvshare_core.host.files.preset_files import file_names, fingerprint, load
from .errors import named_errors
from .inputs import config_output, incoming_config, search_words
from .sockets import CATEGORY


class KVShareLoadPreset(io.ComfyNode):
    """Applies the blocks chosen by KVShareProbe to a configuration."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KVShareLoadPreset",
            display_name="KV Sharing Load Preset",
            category=CATEGORY,
            description="Applies a preset of KV Sharing Probe: the blocks that share, and those whose attention maps "
            "locate the subject. Works only with the model family and depth it was measured on.",
            **search_words("layer preset", "block preset", "load layers"),
            inputs=[
                incoming_config(
                    "The preset replaces the blocks that share, and attn_map_layer_idx if that is empty. Everything "
                    "else is kept."
                ),
                io.Combo.Input(
                    "file",
                    options=file_names(),
                    tooltip="A preset saved by KV Sharing Probe, in the input or output folder.",
                ),
            ],
            outputs=[
                config_output(),
                io.String.Output(
                    display_name="info", tooltip="The chosen blocks and the measurements, as in KV Sharing Probe."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, file: str, **others: Any
    ) -> str:
        return fingerprint(file)

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, config: KVShareConfig, file: str
    ) -> io.NodeOutput:
        with named_errors("KV Sharing Load Preset"):
            preset = load(file)
            return io.NodeOutput(preset.put_on(config), preset.table())
