from dataclasses import replace

from comfy_api.latest import io

from ..kvshare_core.config import STORE_DTYPES, STORE_PLACES, KVShareConfig, MemorySettings
from .errors import named_errors
from .inputs import config_output, incoming_config, search_words
from .sockets import CATEGORY

MAX_BUDGET_MIB = 1 << 20


class KVShareMemorySettings(io.ComfyNode):
    """Where and how the keys and values of source segments are kept."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        defaults = MemorySettings()
        return io.Schema(
            node_id="KVShareMemorySettings",
            display_name="KV Share Memory Settings",
            category=CATEGORY,
            description="Where the keys and values of earlier segments are kept until later ones have seen them.",
            **search_words("vram", "offload", "kv cache"),
            inputs=[
                incoming_config("Its settings of the memory are those of this node; all others are kept."),
                io.Combo.Input(
                    "place",
                    options=list(STORE_PLACES),
                    default=defaults.place,
                    tooltip="device: in the GPU's memory, the fastest. cpu: in the computer's own memory. auto: in the "
                    "GPU's memory up to budget_mib, the rest in the computer's.",
                ),
                io.Int.Input(
                    "budget_mib",
                    default=defaults.budget_mib,
                    min=0,
                    max=MAX_BUDGET_MIB,
                    tooltip="MiB of the GPU's memory that place auto may take; 0 takes up to a quarter of it.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=list(STORE_DTYPES),
                    default=defaults.dtype,
                    tooltip="model: kept as the model made them. fp8: about half the memory, a little less exact.",
                ),
            ],
            outputs=[config_output()],
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, config: KVShareConfig, place: str, budget_mib: int, dtype: str
    ) -> io.NodeOutput:
        with named_errors("KVShareMemorySettings"):
            memory = MemorySettings(
                place=place,  # pyright: ignore[reportArgumentType]
                budget_mib=budget_mib,
                dtype=dtype,  # pyright: ignore[reportArgumentType]
            )
            return io.NodeOutput(replace(config, memory=memory))
