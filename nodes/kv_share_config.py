from comfy_api.latest import io

from ..kvshare_core.config import (
    LAYER_PRESETS,
    MAX_STRENGTH,
    MODES,
    POSITIONS,
    SOURCES,
    KVShareConfig,
    MaskSettings,
    parse_indices,
)
from .errors import named_errors
from .inputs import config_output, range_inputs, search_words, threshold_input
from .sockets import CATEGORY

DEFAULTS = KVShareConfig()
ORDERS = ("lockstep", "sources_first")
"""Without that of the paper, which belongs to its other settings (DiTCtrlConfig)."""
SAME_STRENGTH = -1.0
MAX_GAP = 1024


class KVShareConfigNode(io.ComfyNode):
    """How, how strongly, when and where segments share keys and values."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KVShareConfig",
            display_name="KV Share Config",
            category=CATEGORY,
            description="How, how strongly, when and where segments share the attention keys and values of their "
            "subject.",
            **search_words("kv sharing", "attention sharing", "consistent subject"),
            inputs=[
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=DEFAULTS.mode,
                    tooltip="extend: the subject sees the source's subject beside everything of its own. replace: it "
                    "sees the source's subject instead of its own video tokens. swap: the source's subject takes the "
                    "place of a part of its own subject, as large as strength, so that the subject does not outweigh "
                    "its surroundings. off: no sharing.",
                ),
                io.Float.Input(
                    "strength",
                    default=DEFAULTS.strength,
                    min=0.0,
                    max=MAX_STRENGTH,
                    step=0.05,
                    tooltip="Weight of the source's keys beside the segment's own. 0 is the plain model, bit for bit; "
                    "more than 1 makes the source count for more than the segment itself. In swap and replace 1 leaves "
                    "nothing of the segment's own.",
                ),
                io.Combo.Input(
                    "sources",
                    options=list(SOURCES),
                    default=DEFAULTS.sources,
                    tooltip="Which earlier segments are looked at: the first one as anchor, the one before, or both.",
                ),
                *range_inputs(DEFAULTS),
                io.Boolean.Input(
                    "share_background",
                    default=DEFAULTS.share_background,
                    tooltip="Let the background see the source's background too. Off keeps each prompt's own setting.",
                ),
                io.Boolean.Input(
                    "share_uncond",
                    default=DEFAULTS.share_uncond,
                    tooltip="Share in the unconditional half of CFG too. Off halves the memory and strengthens "
                    "guidance.",
                ),
                threshold_input(DEFAULTS),
                io.Float.Input(
                    "end_strength",
                    default=SAME_STRENGTH,
                    min=SAME_STRENGTH,
                    max=MAX_STRENGTH,
                    step=0.05,
                    optional=True,
                    tooltip="Strength in the last shared step; in between it changes evenly. Below 0 it stays the same "
                    "throughout.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=DEFAULTS.start_percent,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="Where in the denoising sharing starts, whatever the number of steps: 0 is pure noise, 1 "
                    "the finished video. It narrows the steps above.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=DEFAULTS.end_percent,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="Where in the denoising sharing stops: 0 is pure noise, 1 the finished video. It narrows "
                    "the steps above.",
                ),
                io.Combo.Input(
                    "layer_preset",
                    options=list(LAYER_PRESETS),
                    default=DEFAULTS.layer_preset,
                    optional=True,
                    tooltip="Transformer blocks for a model of any depth. late: the last sixth, as DiTCtrl has it. "
                    "middle: every second block around the middle. family: what is known of your very model, "
                    "else middle; info of LoadVideoDiT lists it. custom: what start_layer, end_layer and layer_idx "
                    "say; the others ignore those three.",
                ),
                io.Combo.Input(
                    "position",
                    options=list(POSITIONS),
                    default=DEFAULTS.position,
                    optional=True,
                    tooltip="Where the source's subject seems to be. centred: where the subject is now, as a whole. "
                    "same: where it was. gap: position_gap frames earlier. matched: every token of it where the "
                    "subject has the most similar one now. frame: where it was, and every moment sees only the same "
                    "moment of the source.",
                ),
                io.Int.Input(
                    "position_gap",
                    default=DEFAULTS.position_gap,
                    min=-MAX_GAP,
                    max=MAX_GAP,
                    optional=True,
                    tooltip="Latent frames by which the source seems to be earlier; negative is later. Only for "
                    "position gap.",
                ),
                io.Float.Input(
                    "token_dropout",
                    default=DEFAULTS.token_dropout,
                    min=0.0,
                    max=0.95,
                    step=0.05,
                    optional=True,
                    tooltip="Part of the source's subject that is left out at random, another one in every step, so "
                    "that its pose is copied less.",
                ),
                io.Float.Input(
                    "drift_control",
                    default=DEFAULTS.drift_control,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="Moves the colours and the contrast of later segments towards those of the first one, "
                    "against a look that drifts in long videos. 1 makes them equal; 0 leaves every scene its own.",
                ),
                io.Combo.Input(
                    "order",
                    options=list(ORDERS),
                    default=DEFAULTS.order,
                    optional=True,
                    tooltip="lockstep: all segments come about side by side. sources_first: segments that others look "
                    "at are made once before, so that the others see the finished subject; closer to the prompts and "
                    "livelier, for the time that those segments take once more.",
                ),
            ],
            outputs=[config_output()],
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
        end_strength: float = SAME_STRENGTH,
        start_percent: float = DEFAULTS.start_percent,
        end_percent: float = DEFAULTS.end_percent,
        layer_preset: str = DEFAULTS.layer_preset,
        position: str = DEFAULTS.position,
        position_gap: int = DEFAULTS.position_gap,
        token_dropout: float = DEFAULTS.token_dropout,
        drift_control: float = DEFAULTS.drift_control,
        order: str = DEFAULTS.order,
    ) -> io.NodeOutput:
        with named_errors("KVShareConfig"):
            return io.NodeOutput(
                KVShareConfig(
                    mode=mode,  # pyright: ignore[reportArgumentType]
                    strength=strength,
                    end_strength=None if end_strength < 0 else end_strength,
                    sources=sources,  # pyright: ignore[reportArgumentType]
                    order=order,  # pyright: ignore[reportArgumentType]
                    start_step=start_step,
                    end_step=end_step,
                    start_percent=start_percent,
                    end_percent=end_percent,
                    start_layer=start_layer,
                    end_layer=end_layer,
                    step_idx=parse_indices(step_idx, "step_idx"),
                    layer_idx=parse_indices(layer_idx, "layer_idx"),
                    layer_preset=layer_preset,  # pyright: ignore[reportArgumentType]
                    share_background=share_background,
                    share_uncond=share_uncond,
                    position=position,  # pyright: ignore[reportArgumentType]
                    position_gap=position_gap,
                    token_dropout=token_dropout,
                    drift_control=drift_control,
                    masks=MaskSettings(thres=thres),
                )
            )
