from dataclasses import replace

from comfy_api.latest import io

from ..kvshare_core.config import STORE_DTYPES, STORE_PLACES, WHEN_OUT_OF_MEMORY, KVShareConfig, MemorySettings
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
            display_name="KV Sharing Memory Settings",
            category=CATEGORY,
            description="Where the keys and values of source segments are stored until other segments have used them.",
            **search_words("vram", "offload", "kv cache"),
            inputs=[
                incoming_config("This node sets its memory settings. All others are kept."),
                io.Combo.Input(
                    "place",
                    options=list(STORE_PLACES),
                    default=defaults.place,
                    tooltip="device: in VRAM, the fastest. cpu: in system RAM. auto: in VRAM up to budget_mib, the "
                    "rest in RAM. Choose cpu if VRAM is short.",
                ),
                io.Int.Input(
                    "budget_mib",
                    default=defaults.budget_mib,
                    min=0,
                    max=MAX_BUDGET_MIB,
                    tooltip="MiB of VRAM that place auto may use. 0 allows up to a quarter of the VRAM. Lower it if "
                    "the model itself runs out of memory.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=list(STORE_DTYPES),
                    default=defaults.dtype,
                    tooltip="model: stored in the model's own precision. fp8: about half the memory, slightly less "
                    "exact. Choose fp8 if memory is short.",
                ),
                io.Combo.Input(
                    "out_of_memory",
                    options=list(WHEN_OUT_OF_MEMORY),
                    default=defaults.out_of_memory,
                    optional=True,
                    tooltip="stop: ends the run and says what to change. save_memory: goes on, with keys and values in "
                    "RAM, then in fp8, then with attention in smaller pieces. Choose it for runs that nobody watches.",
                ),
            ],
            outputs=[config_output()],
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, config: KVShareConfig, place: str, budget_mib: int, dtype: str, out_of_memory: str = "stop"
    ) -> io.NodeOutput:
        with named_errors("KV Sharing Memory Settings"):
            memory = MemorySettings(
                place=place,  # pyright: ignore[reportArgumentType]
                budget_mib=budget_mib,
                dtype=dtype,  # pyright: ignore[reportArgumentType]
                out_of_memory=out_of_memory,  # pyright: ignore[reportArgumentType]
            )
            return io.NodeOutput(replace(config, memory=memory))
