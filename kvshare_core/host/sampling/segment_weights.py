"""How much each segment counts where segments are blended."""

import torch

from ...config import Order
from ...plan.schedule import plain_evaluations
from ...timeline.fades import WEIGHTS, Fade, fade_of, weights_over_time
from ...timeline.timeline import Timeline


def segment_weights(timeline: Timeline, order: Order, weight: float, fade: Fade) -> torch.Tensor:
    """Blending weights of one evaluation that counts `weight`: the timeline's, or the paper's triangle. A single
    segment passes through bit for bit."""
    if len(timeline.segments) == 1:
        return WEIGHTS["linear"](fade) * weight
    return WEIGHTS["triangle" if order == "ditctrl" else timeline.blend_weights](fade) * weight


def parts_over_time(timeline: Timeline, order: Order) -> torch.Tensor:
    """The share of every segment in every latent frame when all its evaluations are blended, float64 [segments,
    frames]."""
    return weights_over_time(
        timeline,
        [
            segment_weights(timeline, order, evaluation.weight, fade_of(evaluation.segment))
            for evaluation in plain_evaluations(timeline, order)
        ],
    )
