"""What a sampling run is made from, gathered by the host layer when sampling starts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..attention.positions import PositionMover
from ..bank.pinned_memory import Slabs
from ..families.base import Family, FamilyInfo
from ..plan.model_fit import FittedPlan
from ..plan.share_plan import SharePlan
from .neighbours import Neighbours


@dataclass(frozen=True)
class RunSettings:
    """The plan, the model, and what the host knows of this run."""

    fitted: FittedPlan
    family: Family
    diffusion_model: Any
    sigma_window: tuple[float, float] = (math.inf, 0.0)
    """Highest and lowest sigma that share: start_percent and end_percent of the configuration."""
    bank_budget: int | None = None
    """Bytes that the bank may keep on the device where the configuration leaves that open; None for no limit."""
    rope_options: Mapping[str, float] = field(default_factory=dict[str, float])
    """How the host scales positions in this run."""
    full_noise: float = math.inf
    """The model's highest sigma, at which a run starts from nothing but noise."""
    held: frozenset[int] = frozenset()
    """Segments with frames that the run leaves as they are."""
    neighbours: Neighbours = field(default_factory=Neighbours)
    """Nodes of other packs on the model."""
    masks_read: bool = True
    """Whether anything may read the masks of a run that shares nothing, which has no use of them itself."""
    slabs: Slabs | None = None
    """Where the bank's part in the computer's memory comes from, as in HostLane."""

    @property
    def plan(self) -> SharePlan:
        return self.fitted.plan

    @property
    def info(self) -> FamilyInfo:
        """Numbers of the model."""
        return self.fitted.info

    @property
    def blocks(self) -> tuple[int, ...]:
        """The transformer blocks that share, ascending."""
        return self.fitted.blocks

    @property
    def frame_patch(self) -> int:
        """Latent frames per token frame."""
        return self.info.patch[0]

    def position_mover(self) -> PositionMover:
        """Moves source keys as the configuration says. Raises ValueError when the model's keys cannot be moved so."""
        config = self.plan.config
        if config.position == "centred" and not self.plan.guided:
            # Whole videos have one centre: without subjects the keys would be rotated by nothing.
            config = replace(config, position="same")
        scheme = self.family.rope_scheme(self.diffusion_model, self.rope_options)
        return PositionMover(config, scheme, self.frame_patch, self.plan.gapped_beat)
