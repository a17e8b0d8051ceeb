from comfy_api.latest import io

from ..kvshare_core.config import MAX_STRENGTH, MODES, SOURCES, KVShareConfig, MaskSettings, parse_indices
from .sockets import CATEGORY, ConfigSocket


class KVShareConfigNode(io.ComfyNode):
    """How, how strongly, when and where segments share keys and values."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        defaults = KVShareConfig()
        return io.Schema(
            node_id="KVShareConfig",
            display_name="KV Share Config",
            category=CATEGORY,
            description="How, how strongly, when and where segments share the attention keys and values of their "
            "subject.",
            inputs=[
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=defaults.mode,
                    tooltip="extend: the subject sees the source's subject beside everything of its own. replace: it "
                    "sees the source's subject instead of its own video tokens, the strongest identity. off: no "
                    "sharing.",
                ),
                io.Float.Input(
                    "strength",
                    default=defaults.strength,
                    min=0.0,
                    max=MAX_STRENGTH,
                    step=0.05,
                    tooltip="Weight of the source's keys beside the segment's own. 0 is the plain model, bit for bit; "
                    "more than 1 makes the source count for more than the segment itself.",
                ),
                io.Combo.Input(
                    "sources",
                    options=list(SOURCES),
                    default=defaults.sources,
                    tooltip="Which earlier segments are looked at: the first one as anchor, the one before, or both.",
                ),
                io.Int.Input(
                    "start_step",
                    default=defaults.start_step,
                    min=0,
                    max=10000,
                    tooltip="First sampler step that shares, counted from 0.",
                ),
                io.Int.Input(
                    "end_step",
                    default=defaults.end_step,
                    min=-1,
                    max=10000,
                    tooltip="Sharing stops before this sampler step; -1 shares until the end.",
                ),
                io.Int.Input(
                    "start_layer",
                    default=defaults.start_layer,
                    min=0,
                    max=1000,
                    tooltip="First transformer block that shares, counted from 0.",
                ),
                io.Int.Input(
                    "end_layer",
                    default=defaults.end_layer,
                    min=-1,
                    max=1000,
                    tooltip="Sharing stops before this transformer block; -1 shares until the last.",
                ),
                io.String.Input(
                    "step_idx",
                    default="",
                    tooltip="Explicit steps such as 2, 5, 8-12. When given, start_step and end_step do not matter.",
                ),
                io.String.Input(
                    "layer_idx",
                    default="",
                    tooltip="Explicit blocks such as 10-20, 25. When given, start_layer and end_layer do not matter.",
                ),
                io.Boolean.Input(
                    "share_background",
                    default=defaults.share_background,
                    tooltip="Let the background see the source's background too. Off keeps each prompt's own setting.",
                ),
                io.Boolean.Input(
                    "share_uncond",
                    default=defaults.share_uncond,
                    tooltip="Share in the unconditional half of CFG too. Off halves the memory and strengthens "
                    "guidance.",
                ),
                io.Float.Input(
                    "thres",
                    default=defaults.masks.thres,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Threshold on the subject map: higher takes in less around the subject.",
                ),
            ],
            outputs=[ConfigSocket.Output(display_name="config", tooltip="For MaskGuidedKVShare.")],
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        mode: str,
        strength: float,
        sources: str,
        start_step: int,
        end_step: int,
        start_layer: int,
        end_layer: int,
        step_idx: str,
        layer_idx: str,
        share_background: bool,
        share_uncond: bool,
        thres: float,
    ) -> io.NodeOutput:
        return io.NodeOutput(
            KVShareConfig(
                mode=mode,  # pyright: ignore[reportArgumentType]
                strength=strength,
                sources=sources,  # pyright: ignore[reportArgumentType]
                start_step=start_step,
                end_step=end_step,
                start_layer=start_layer,
                end_layer=end_layer,
                step_idx=parse_indices(step_idx, "KVShareConfig: step_idx"),
                layer_idx=parse_indices(layer_idx, "KVShareConfig: layer_idx"),
                share_background=share_background,
                share_uncond=share_uncond,
                masks=MaskSettings(thres=thres),
            )
        )
