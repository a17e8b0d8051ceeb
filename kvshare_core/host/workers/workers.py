"""Puts workers on a MODEL: its runs evaluate their segments there."""

from dataclasses import dataclass, replace
from typing import Any

from ...plan.share_plan import SharePlan
from ...plan.worker_split import split_segments
from ..loading.model_info import ModelSource
from ..loading.model_source import source_of
from ..sampling.elsewhere import StartedRun
from ..sampling.neighbours import neighbours_of
from ..sampling.patch import PLAN_ATTACHMENT
from ..sampling.segment_handler import SegmentHandler
from .film_run import CARRIES, FilmRun
from .pool import pool_of, require_ray
from .settings import WorkerSettings
from .travel import NODE, recipe_of


@dataclass(frozen=True)
class Workers:
    """Workers as a frozen value on a MODEL; an Elsewhere of host/sampling."""

    settings: WorkerSettings
    source: ModelSource

    def begin(self, started: StartedRun) -> FilmRun:
        """Begins a run on the workers, and starts these where they do not run. Raises ValueError, naming what to
        change, for a run that they cannot do."""
        if started.lead:
            raise ValueError(
                f"{NODE}: the film has a reference picture in front (WanVaceToVideo or WanAnimateToVideo), which "
                f"workers cannot be given. Remove {NODE}, or that picture."
            )
        plan = started.run.settings.plan
        recipe, patches = recipe_of(started.patcher, self.source, started.run.settings.neighbours)
        pool = pool_of(self.settings)
        check_film(plan, pool.count)
        return FilmRun(started, pool, recipe, patches, self.settings.patience)


def with_workers(model: Any, settings: WorkerSettings) -> Any:
    """A clone of `model`, one of Mask-Guided KV Share, whose runs evaluate their segments on workers. Raises
    ValueError, naming what to change, for what workers cannot do exactly."""
    handler, plan = model.model_options.get("context_handler"), model.get_attachment(PLAN_ATTACHMENT)
    if not isinstance(handler, SegmentHandler) or not isinstance(plan, SharePlan):
        raise ValueError(f"model: it does not come from Mask-Guided KV Share. Put {NODE} behind that node.")
    require_ray()
    check_film(plan, settings.workers)
    if plan.look is not None:
        raise ValueError(
            f"{NODE}: look_at is recorded in one process only. Leave look_at of Mask-Guided KV Share empty, or remove "
            f"{NODE}."
        )
    if plan.config.maps.keep != "none":
        raise ValueError(
            f"{NODE}: attention maps are kept in one process only. Set keep_maps to none, or remove {NODE}."
        )
    if handler.frames_in_batch:
        raise ValueError(f"{NODE}: this is an image model, whose films are sampled in one process only. Remove {NODE}.")
    several = len(plan.timeline.segments) > 1
    if several and handler.image_channels is not None and handler.carry_image and not handler.images_optional:
        raise ValueError(CARRIES)
    source = source_of(model)
    recipe_of(model, source, neighbours_of(model, model.model_options))
    assert source is not None
    patched = model.clone()
    patched.model_options["context_handler"] = replace(handler, elsewhere=Workers(settings, source))
    return patched


def check_film(plan: SharePlan, workers: int) -> None:
    """Raises ValueError, naming what to change, for a film that cannot be divided among so many workers, or of which
    each would have to evaluate everything; workers: 0 for a number that is not known yet."""
    if plan.config.order == "chain":
        raise ValueError(
            f"{NODE}: order 'chain' samples one segment after another, so there is nothing to divide. Set order to "
            "lockstep or sources_first in KV Sharing Config."
        )
    if workers > 1 and len(plan.timeline.segments) > 1 and split_segments(plan, workers).speedup <= 1:
        raise ValueError(
            f"{NODE}: segments attend to the one before them, so each worker would have to evaluate all that come "
            "before its own, and nothing would be faster. Set sources to first in KV Sharing Config, or give prompts "
            "sources of their own ('source: beat 1'), or remove this node."
        )
