from dataclasses import replace

from comfy_api.latest import io

from ..kvshare_core.config import DITCTRL, MAX_STRENGTH, parse_indices
from .errors import named_errors
from .inputs import (
    config_output,
    edit_input,
    indices_input,
    indices_text,
    range_inputs,
    rare,
    search_words,
    threshold_input,
    token_place_inputs,
)
from .sockets import CATEGORY


class DiTCtrlConfig(io.ComfyNode):
    """The published method, under the parameter names of its released code."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiTCtrlConfig",
            display_name="DiTCtrl Config (paper)",
            category=CATEGORY,
            description="Shares keys and values as DiTCtrl (CVPR 2025) does, with the values of its released code. In "
            "Long Video Segmenter, set sampling_num_frames 13, overlap_size 9, num_transition_blocks 2 (the paper: 6 "
            "and 1) and longer_mid_segment 0. start_layer and end_layer are for the 30 blocks of CogVideoX-2B; for "
            "another model use the last sixth of its blocks.",
            **search_words("paper", "preset", "kv sharing"),
            inputs=[
                *range_inputs(
                    DITCTRL, " The default is for CogVideoX-2B's 30 blocks; for another model use its last sixth."
                ),
                threshold_input(DITCTRL),
                *token_place_inputs(
                    DITCTRL,
                    "If empty, the words are used. Without token positions, words or a mask, everything is shared, as "
                    "in the paper's variant without masks.",
                ),
                edit_input(**rare()),
                indices_input(
                    "reweight_token_idx",
                    DITCTRL.reweight_token_idx,
                    "Positions of the text tokens to reweight in all prompts but the first, or in the only one, "
                    "counted from 0, such as 5. Words are easier: weight: night 1.5 after a prompt, as a field of the "
                    "script.",
                    optional=True,
                ),
                io.Float.Input(
                    "reweight_scale",
                    default=DITCTRL.reweight_scale,
                    min=0.0,
                    max=MAX_STRENGTH,
                    step=0.05,
                    optional=True,
                    tooltip="How much those tokens count: 1 as usual, 0 not at all. The part of the video that follows "
                    "them is multiplied by it, as in the paper's code; nothing is made smaller for it.",
                    **rare(),
                ),
            ],
            outputs=[config_output()],
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        start_step: int,
        end_step: int,
        start_layer: int,
        end_layer: int,
        step_idx: str,
        layer_idx: str,
        thres: float,
        ref_token_idx: str,
        cur_token_idx: str,
        is_edit: bool = False,
        reweight_token_idx: str = indices_text(DITCTRL.reweight_token_idx),
        reweight_scale: float = DITCTRL.reweight_scale,
    ) -> io.NodeOutput:
        with named_errors("DiTCtrl Config (paper)"):
            masks = replace(
                DITCTRL.masks,
                thres=thres,
                ref_token_idx=parse_indices(ref_token_idx, "ref_token_idx"),
                cur_token_idx=parse_indices(cur_token_idx, "cur_token_idx"),
            )
            return io.NodeOutput(
                replace(
                    DITCTRL,
                    start_step=start_step,
                    end_step=end_step,
                    start_layer=start_layer,
                    end_layer=end_layer,
                    step_idx=parse_indices(step_idx, "step_idx"),
                    layer_idx=parse_indices(layer_idx, "layer_idx"),
                    masks=masks,
                    # The paper's pairs of a source and its edit are what this order evaluates.
                    order="lockstep" if is_edit else DITCTRL.order,
                    is_edit=is_edit,
                    reweight_token_idx=parse_indices(reweight_token_idx, "reweight_token_idx"),
                    reweight_scale=reweight_scale,
                )
            )
