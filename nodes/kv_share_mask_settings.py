from dataclasses import replace

from comfy_api.latest import io

from ..kvshare_core.config import MASK_KINDS, MASK_STARTS, MAX_RIM, KVShareConfig, MaskSettings, parse_indices
from .errors import named_errors
from .inputs import config_output, incoming_config, indices_input, search_words, token_place_inputs
from .sockets import CATEGORY

DEFAULTS = KVShareConfig()


class KVShareMaskSettings(io.ComfyNode):
    """How the subject is found."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        masks = DEFAULTS.masks
        return io.Schema(
            node_id="KVShareMaskSettings",
            display_name="KV Share Mask Settings",
            category=CATEGORY,
            description="How the attention finds the subject; a mask given to MaskGuidedKVShare needs none of this.",
            **search_words("subject mask", "attention map"),
            inputs=[
                incoming_config("Its thres is kept; its other settings of the mask are those of this node."),
                io.Combo.Input(
                    "mask_kind",
                    options=list(MASK_KINDS),
                    default=masks.kind,
                    tooltip="appearance: begins as mask_start says and then follows what looks alike. contrast: where "
                    "the subject's words stand out from the prompt's other words, over the whole clip. threshold: "
                    "where the subject's words are strongest in each frame, as in DiTCtrl.",
                ),
                io.Float.Input(
                    "presence",
                    default=masks.presence,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Frames in which the subject shows less than this part of its strongest moment count as "
                    "frames without it. 0 looks for it in every frame.",
                ),
                io.Boolean.Input(
                    "clean", default=masks.clean, tooltip="Fill the smallest holes in the mask and drop single specks."
                ),
                io.Float.Input(
                    "hysteresis",
                    default=masks.hysteresis,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Steadier masks: what was subject stays subject until it falls this far below thres. Not "
                    "for threshold.",
                ),
                io.Float.Input(
                    "freeze_after",
                    default=masks.freeze_after,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="After this part of the steps the mask stays as it is; 1 follows the subject to the end. "
                    "Not for threshold.",
                ),
                indices_input(
                    "attn_map_step_idx",
                    masks.attn_map_step_idx,
                    "Steps in which the subject is looked for, such as 2, 5, 8-12; empty is all. threshold shares "
                    "nothing in the others, the other kinds keep their last mask.",
                ),
                indices_input(
                    "attn_map_layer_idx",
                    masks.attn_map_layer_idx,
                    "Transformer blocks in which the attention to the subject's words is read, such as 10-20. Empty "
                    "takes those known to be good for it, which LoadVideoDiT lists; all where nothing is known. The "
                    "mask_start effect reads none.",
                ),
                *token_place_inputs(DEFAULTS, "Empty leaves it to those words."),
                io.Int.Input(
                    "rim",
                    default=masks.rim,
                    min=0,
                    max=MAX_RIM,
                    optional=True,
                    tooltip="How many tokens around the subject are shared with it: where it ends is a part of its "
                    "size and shape. The mask in the preview has no rim.",
                ),
                io.Combo.Input(
                    "mask_start",
                    options=list(MASK_STARTS),
                    default=masks.start,
                    optional=True,
                    tooltip="What appearance begins with. effect: where the picture changes when the model does not "
                    "see the subject's words, found out in the first step at the price of one more evaluation of "
                    "each prompt for each subject; needs no knowledge of the model. maps: where the attention to the "
                    "words stands out from the other words, in the blocks of attn_map_layer_idx.",
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
    ) -> io.NodeOutput:
        with named_errors("KVShareMaskSettings"):
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
            return io.NodeOutput(replace(config, masks=masks))
