"""Fits a plan to a model: chooses its blocks and refuses what the model does not have."""

from dataclasses import dataclass, replace

from ..config import KVShareConfig, MeasuredModel
from ..families.base import FamilyInfo
from ..families.block_presets import for_model
from .schedule import shared_blocks
from .share_plan import SharePlan


@dataclass(frozen=True)
class FittedPlan:
    """A plan for one model, as `fit_plan` makes it: what depends on the model's blocks takes no other."""

    plan: SharePlan
    """Its configuration names the blocks whose maps are used, where they are known."""
    info: FamilyInfo
    blocks: tuple[int, ...]
    """The transformer blocks that share, ascending."""


def fit_plan(plan: SharePlan, info: FamilyInfo) -> FittedPlan:
    """`plan` for the model that `info` describes. Raises ValueError for a plan with blocks that the model does not
    have, with blocks that were measured on another model, or with a text of its own for every frame where the model
    takes one for all."""
    config = for_model(plan.config, info.presets)
    _check_blocks(config, info)
    if any(segment.texts for segment in plan.timeline.segments) and not info.routes_text:
        raise ValueError(
            f"timeline: it routes the text from one prompt to the next ([route]), which this model ({info.family}) "
            "does not allow: it mixes the text's tokens among themselves or with the video's. Write [blend] or "
            "[segments] instead."
        )
    return FittedPlan(replace(plan, config=config), info, shared_blocks(config, info.blocks, info.presets))


def _check_blocks(config: KVShareConfig, info: FamilyInfo) -> None:
    """Raises ValueError for blocks that the model does not have, or that were measured on another."""
    here = MeasuredModel(info.family, info.blocks)
    if config.measured_on not in (None, here):
        raise ValueError(
            f"config: its blocks were measured on {config.measured_on}, but this model is {here}. Load a preset of "
            "this model, or measure it with KV Sharing Probe."
        )
    chosen = config.layer_idx or (config.start_layer,)
    if config.layer_preset == "custom" and max(chosen) >= info.blocks:
        name = "layer_idx" if config.layer_idx else "start_layer"
        raise ValueError(
            f"config: {name} asks for block {max(chosen)}, but this model has blocks 0 to {info.blocks - 1}."
        )
