from typing import Any

from comfy_api.latest import io

from ..kvshare_core.config import KVShareConfig
from ..kvshare_core.host.files.preset_files import file_names, fingerprint, load
from .errors import named_errors
from .inputs import config_output, incoming_config, search_words
from .sockets import CATEGORY


class KVShareLoadPreset(io.ComfyNode):
    """Puts the blocks that KVShareProbe has found on a configuration."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KVShareLoadPreset",
            display_name="KV Share Load Preset",
            category=CATEGORY,
            description="Shares and looks for the subject in the blocks that KVShareProbe has measured. Models of "
            "another kind or depth refuse them.",
            **search_words("layer preset", "block preset", "load layers"),
            inputs=[
                incoming_config(
                    "The preset replaces the blocks that share, and those in which the subject is looked for unless "
                    "attn_map_layer_idx names some; everything else is kept."
                ),
                io.Combo.Input(
                    "file",
                    options=file_names(),
                    tooltip="A preset of KVShareProbe in the input or the output folder.",
                ),
            ],
            outputs=[
                config_output(),
                io.String.Output(
                    display_name="info", tooltip="The blocks chosen, and what was measured, as KVShareProbe tells it."
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
        with named_errors("KVShareLoadPreset"):
            preset = load(file)
            return io.NodeOutput(preset.put_on(config), preset.table())
