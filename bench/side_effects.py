"""What sharing does besides keeping the subject: leaks, drift, frozen or repeated motion, and where the mask was.

Each function gives one storyboard's contributions; the figure of many is the mean over all of theirs, and None where
there are none.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from kvshare_core.embedded.detector import MIN_DISPLACEMENT, background_colours
from kvshare_core.embedded.scenes import BACKGROUND_VALUES
from kvshare_core.embedded.vocabulary import BACKGROUNDS

from .measures import Measured

Embed = Callable[[torch.Tensor], torch.Tensor]
"""Frames [f, 3, h, w] in 0..1 to features [f, width]."""

TOKEN_PIXELS = 16
"""Side of a token of the embedded models in pixels."""
CSCV_LAMBDA = 10.0
"""The factor of DiTCtrl's CSCV (its table 3)."""


def leaks(storyboard: Measured) -> list[float]:
    """How far the background of each later segment is on the way from what its prompt says to the first segment's,
    0..1, of segments that should have another background than the first."""
    source = _palette(storyboard.said[0]["background"])
    found: list[float] = []
    for said, (start, stop) in list(zip(storyboard.said, storyboard.spans, strict=True))[1:]:
        own = _palette(said["background"])
        if torch.equal(own, source):
            continue
        way = source - own
        seen = background_colours(storyboard.frames[start:stop]) - own
        found.append(float(((seen @ way) / (way @ way)).clamp(0, 1).mean()))
    return found


def drift(storyboard: Measured) -> list[float]:
    """How much further the last segment's background is from the colour it should have than the first's is, as a
    distance in RGB of 0..1. Negative where it comes closer."""
    return [_background_error(storyboard, -1) - _background_error(storyboard, 0)]


def frozen(storyboard: Measured) -> list[float]:
    """For each segment 1 if its subject is missing or stands still, else 0."""
    return [float(math.hypot(*seen.displacement) < MIN_DISPLACEMENT) for seen in storyboard.detections]


def repeated(storyboard: Measured) -> list[float]:
    """For each later segment that was told to move otherwise than the first, 1 if it moves as the first was told to."""
    first = storyboard.said[0]["direction"]
    return [
        float(seen.direction == first)
        for said, seen in list(zip(storyboard.said, storyboard.detections, strict=True))[1:]
        if said["direction"] != first
    ]


def mask_overlap(storyboard: Measured) -> list[float]:
    """Intersection over union of the subject that the attention found and the one that is seen in the finished video,
    in the tokens of the latent frames that lie within one segment; nothing where no attention was followed."""
    if storyboard.attention is None:
        return []
    inside = either = 0.0
    for seen, (start, stop) in zip(storyboard.detections, storyboard.spans, strict=True):
        for first, last in storyboard.latents:
            if start <= first and last <= stop:
                looked = in_tokens(storyboard.attention[first:last])
                true = in_tokens(seen.masks[first - start : last - start])
                inside += float((looked & true).sum())
                either += float((looked | true).sum())
    return [inside / either if either else 0.0]


def in_tokens(masks: torch.Tensor) -> torch.Tensor:
    """Masks [f, h, w] in 0..1 of one latent frame's pictures as its tokens: those covered by half on the average, as a
    user's mask counts."""
    return F.avg_pool2d(masks.float().mean(0, keepdim=True), TOKEN_PIXELS) >= 0.5


def cscv_lite(storyboard: Measured, embed: Embed) -> list[float]:
    """DiTCtrl's CSCV with another embedding than CLIP's, so not comparable with published CSCV."""
    return [cscv(embed(storyboard.frames))]


def cscv(features: torch.Tensor) -> float:
    """DiTCtrl's CSCV of features [f, width] of a film's frames: 1 / (1 + 10 * spread / mean) of the likenesses of
    neighbours. A still film has 1, so it says nothing without the film's motion."""
    normed = F.normalize(features, dim=1)
    likeness = (normed[1:] * normed[:-1]).sum(1)
    return float(1 / (1 + CSCV_LAMBDA * likeness.std(correction=0) / likeness.mean()))


def _background_error(storyboard: Measured, segment: int) -> float:
    start, stop = storyboard.spans[segment]
    seen = background_colours(storyboard.frames[start:stop])
    return float((seen - _palette(storyboard.said[segment]["background"])).norm(dim=1).mean())


def _palette(background: str) -> torch.Tensor:
    return BACKGROUND_VALUES[BACKGROUNDS.index(background)]
