"""Whether a plan and a model fit together."""

from ..config import MeasuredModel
from ..families.base import FamilyInfo
from .share_plan import SharePlan


def check_fits(plan: SharePlan, info: FamilyInfo) -> None:
    """Raises ValueError when the plan asks for blocks or for texts of its own of every frame, which the model does not
    have, or names blocks that were measured on another; its layer preset `family` must have been replaced
    (presets.for_model)."""
    config, here = plan.config, MeasuredModel(info.family, info.blocks)
    if config.measured_on not in (None, here):
        raise ValueError(
            f"config: its blocks were measured on {config.measured_on}, but this model is {here}. Load a preset of "
            "this model, or measure it with KVShareProbe."
        )
    chosen = config.layer_idx or (config.start_layer,)
    if config.layer_preset == "custom" and max(chosen) >= info.blocks:
        name = "layer_idx" if config.layer_idx else "start_layer"
        raise ValueError(
            f"config: {name} asks for block {max(chosen)}, but this model has blocks 0 to {info.blocks - 1}."
        )
    if any(segment.texts for segment in plan.timeline.segments) and not info.routes_text:
        raise ValueError(
            f"timeline: it routes the text from one prompt to the next ([route]), which this model ({info.family}) "
            "does not allow: it mixes the text's tokens among themselves or with the video's. Write [blend] or "
            "[segments] instead."
        )
