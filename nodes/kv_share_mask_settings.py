from dataclasses import replace

from comfy_api.latest import io

from ..kvshare_core.config import (
    KEEP_MAPS,
    MASK_KINDS,
    MASK_STARTS,
    MAX_RIM,
    KVShareConfig,
    MapSettings,
    MaskSettings,
    parse_indices,
)
from .errors import named_errors
from .inputs import config_output, incoming_config, indices_input, rare, search_words, token_place_inputs
from .sockets import CATEGORY

DEFAULTS = KVShareConfig()


class KVShareMaskSettings(io.ComfyNode):
    """How the subject is found."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        masks = DEFAULTS.masks
        return io.Schema(
            node_id="KVShareMaskSettings",
            display_name="KV Sharing Mask Settings",
            category=CATEGORY,
            description="How the subject is found, which is not used when a mask is connected to Mask-Guided KV Share, "
            "and which attention maps Attention Mask Preview can save.",
            **search_words("subject mask", "attention map"),
            inputs=[
                incoming_config("Its thres is kept. This node sets all other mask settings."),
                io.Combo.Input(
                    "mask_kind",
                    options=list(MASK_KINDS),
                    default=masks.kind,
                    tooltip="appearance: starts from mask_start, then follows tokens that look similar. contrast: "
                    "where attention to the subject's words exceeds attention to the prompt's other words. threshold: "
                    "attention to the subject's words, scaled per frame, as in DiTCtrl. Try contrast if the mask "
                    "jumps to something of the same colour.",
                ),
                io.Float.Input(
                    "presence",
                    default=masks.presence,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Frames whose peak in the subject map is below this fraction of the clip's peak count as "
                    "frames without the subject. 0 expects it in every frame. Raise it if the subject leaves the "
                    "frame and the mask then marks something else.",
                ),
                io.Boolean.Input(
                    "clean",
                    default=masks.clean,
                    tooltip="Fill holes of one token in the mask and remove single tokens. Turn it on if the mask has "
                    "holes or single dots.",
                ),
                io.Float.Input(
                    "hysteresis",
                    default=masks.hysteresis,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Reduces flicker: a token in the mask stays in it until its value falls this far below "
                    "thres. Not for threshold.",
                ),
                io.Float.Input(
                    "freeze_after",
                    default=masks.freeze_after,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Freezes the mask after this fraction of the steps. 1 never freezes it. Not for "
                    "threshold. Lower it if late steps make the mask worse.",
                ),
                indices_input(
                    "attn_map_step_idx",
                    masks.attn_map_step_idx,
                    "Steps in which the mask is updated, such as 2, 5, 8-12. Empty means all. In other steps, "
                    "threshold shares nothing; the other kinds keep their last mask.",
                ),
                indices_input(
                    "attn_map_layer_idx",
                    masks.attn_map_layer_idx,
                    "Transformer blocks whose attention to the subject's words is used, such as 10-20. If empty, the "
                    "blocks known for your model (listed by Load Video DiT), else all. Not used by mask_start effect.",
                ),
                *token_place_inputs(DEFAULTS, "If empty, the words are used."),
                io.Int.Input(
                    "rim",
                    default=masks.rim,
                    min=0,
                    max=MAX_RIM,
                    optional=True,
                    tooltip="Width in tokens of the border around the subject that is shared with it, which preserves "
                    "its size. The preview shows the mask without it. Lower it if the old background shows around the "
                    "subject.",
                ),
                io.Combo.Input(
                    "mask_start",
                    options=list(MASK_STARTS),
                    default=masks.start,
                    optional=True,
                    tooltip="How appearance gets its first mask. effect: where the prediction changes when the "
                    "subject's words are hidden. It works on any model, for one extra evaluation of the first segment "
                    "that shows the subject; in the others it is found by what it looks like there. maps: as contrast, "
                    "in the blocks of attn_map_layer_idx. Try maps if the mask begins in the wrong place.",
                ),
                io.Combo.Input(
                    "keep_maps",
                    options=list(KEEP_MAPS),
                    default=DEFAULTS.maps.keep,
                    optional=True,
                    tooltip="Attention maps to keep as numbers, for mask_save_dir of Attention Mask Preview. words: "
                    "how much the video, and in joint models every word, attends to each word. video: how much frames "
                    "and places of a frame attend to each other. They take time and memory and do not change the "
                    "video.",
                    **rare(),
                ),
                indices_input(
                    "map_step_idx",
                    DEFAULTS.maps.step_idx,
                    "Steps whose maps are kept, such as 2, 5, 8-12. Empty means every fifth step and the last.",
                    optional=True,
                ),
                indices_input(
                    "map_layer_idx",
                    DEFAULTS.maps.layer_idx,
                    "Transformer blocks whose maps are kept, such as 10-20. Empty means every fifth block and the "
                    "last.",
                    optional=True,
                ),
            ],
            outputs=[config_output()],
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        config: KVShareConfig,
        mask_kind: str,
        presence: float,
        clean: bool,
        hysteresis: float,
        freeze_after: float,
        attn_map_step_idx: str,
        attn_map_layer_idx: str,
        ref_token_idx: str,
        cur_token_idx: str,
        rim: int = DEFAULTS.masks.rim,
        mask_start: str = DEFAULTS.masks.start,
        keep_maps: str = DEFAULTS.maps.keep,
        map_step_idx: str = "",
        map_layer_idx: str = "",
    ) -> io.NodeOutput:
        with named_errors("KV Sharing Mask Settings"):
            masks = MaskSettings(
                kind=mask_kind,  # pyright: ignore[reportArgumentType]
                thres=config.masks.thres,
                presence=presence,
                clean=clean,
                hysteresis=hysteresis,
                freeze_after=freeze_after,
                attn_map_step_idx=parse_indices(attn_map_step_idx, "attn_map_step_idx"),
                attn_map_layer_idx=parse_indices(attn_map_layer_idx, "attn_map_layer_idx"),
                ref_token_idx=parse_indices(ref_token_idx, "ref_token_idx"),
                cur_token_idx=parse_indices(cur_token_idx, "cur_token_idx"),
                rim=rim,
                start=mask_start,  # pyright: ignore[reportArgumentType]
            )
            maps = MapSettings(
                keep=keep_maps,  # pyright: ignore[reportArgumentType]
                step_idx=parse_indices(map_step_idx, "map_step_idx"),
                layer_idx=parse_indices(map_layer_idx, "map_layer_idx"),
            )
            return io.NodeOutput(replace(config, masks=masks, maps=maps))
