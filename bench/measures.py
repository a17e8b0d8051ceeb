"""Identity, adherence, seam and motion of storyboards: what a benchmark says about long videos.

A segment without a detectable subject counts as wrong everywhere: it breaks the identity of its storyboard, has none of
the said attributes and does not move.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from kvshare_core.embedded.detector import Detection

SAID = ("shape", "direction", "background")
"""Attributes that a storyboard says; colour, pattern and size are left to the model."""
SIZE_TOLERANCE = 1.15
"""Largest over smallest radius of a subject that keeps its size."""
LEAST_CHANGE = 0.5 / 255 / 100
"""Change between two pictures below which they count as equal: half a grey level in a hundredth of the picture."""


@dataclass(frozen=True)
class Measured:
    """One storyboard made by one method.

    `said` holds the words of SAID for every segment, `spans` the pictures [first, last) that are its own, `detections`
    what was seen in them, `frames` [f, 3, h, w] the whole video, and `seams` one entry per pair of neighbouring
    segments: the first picture in which the later one weighs at least one half, or None where they share no frames.
    `attention` [f, h, w] is the subject that the attention found, None where it followed none, and `latents` the
    pictures [first, last) of each latent frame. `search_cost` is the model's evaluations that looked for the subject,
    per evaluation of the video.
    Raises ValueError when the lengths do not fit together.
    """

    said: tuple[Mapping[str, str], ...]
    detections: tuple[Detection, ...]
    frames: torch.Tensor
    seams: tuple[int | None, ...]
    spans: tuple[tuple[int, int], ...]
    attention: torch.Tensor | None = None
    latents: tuple[tuple[int, int], ...] = ()
    search_cost: float = 0.0

    def __post_init__(self) -> None:
        if not len(self.said) == len(self.detections) == len(self.spans) == len(self.seams) + 1:
            raise ValueError(
                f"a storyboard of {len(self.said)} segments has {len(self.detections)} detections and "
                f"{len(self.seams)} seams; it needs as many detections and one seam less"
            )


def identity(storyboards: Sequence[Measured]) -> float:
    """Share of storyboards whose subject has one appearance and, within SIZE_TOLERANCE, one size throughout."""
    return sum(keeps_identity(storyboard.detections) for storyboard in storyboards) / len(storyboards)


def keeps_identity(detections: Sequence[Detection]) -> bool:
    """Whether all segments show a subject of one appearance and of one size."""
    return keeps_appearance(detections) and keeps_size(detections)


def keeps_appearance(detections: Sequence[Detection]) -> bool:
    """Whether all segments show a subject of one colour and one pattern that have names: what people mean by the same
    character. Its size may change, as a camera changes it."""
    appearances = {(seen.colour, seen.pattern) for seen in detections}
    return keeps_colour(detections) and len(appearances) == 1 and None not in appearances.pop()


def keeps_colour(detections: Sequence[Detection]) -> bool:
    """Whether all segments show a subject of one colour that has a name."""
    colours = {seen.colour for seen in detections}
    return len(colours) == 1 and None not in colours


def keeps_size(detections: Sequence[Detection]) -> bool:
    """Whether all segments show a subject and its size stays within SIZE_TOLERANCE."""
    radii = [seen.radius for seen in detections if seen.radius is not None]
    return len(radii) == len(detections) and max(radii) <= SIZE_TOLERANCE * min(radii)


def adherence(storyboards: Sequence[Measured]) -> float:
    """Share of the said attributes that are seen, over all segments of all storyboards."""
    asked = right = 0
    for storyboard in storyboards:
        for said, seen in zip(storyboard.said, storyboard.detections, strict=True):
            asked += len(SAID)
            right += sum(seen.found and getattr(seen, name) == said[name] for name in SAID)
    return right / asked


def seam(storyboards: Sequence[Measured]) -> float | None:
    """Mean over all overlaps whose background stays of how much the picture changes where the later segment takes
    over, relative to the median change elsewhere in the same video. One means invisible; None without such overlaps."""
    ratios = [ratio for storyboard in storyboards for ratio in seam_ratios(storyboard)]
    return sum(ratios) / len(ratios) if ratios else None


def seam_ratios(storyboard: Measured) -> list[float]:
    """The seam of every overlap of one storyboard whose background stays.

    Change is the mean absolute difference to the picture before.
    """
    change = (storyboard.frames[1:] - storyboard.frames[:-1]).abs().mean((1, 2, 3)).clamp(min=LEAST_CHANGE)
    places = [place for place in storyboard.seams if place is not None]
    elsewhere = torch.ones(len(change), dtype=torch.bool)
    elsewhere[[place - 1 for place in places]] = False
    usual = float(change[elsewhere].median())
    ratios = []
    for number, place in enumerate(storyboard.seams):
        if place is None or storyboard.said[number]["background"] != storyboard.said[number + 1]["background"]:
            continue
        ratios.append(float(change[place - 1]) / usual)
    return ratios


def motion(storyboards: Sequence[Measured], isolated: Sequence[Measured]) -> float | None:
    """Mean displacement of the subject relative to isolated segments; None when those do not move at all.

    Displacement is taken per picture, because segments that overlap have fewer pictures of their own.
    """
    reference = mean_speed(isolated)
    return mean_speed(storyboards) / reference if reference > 0 else None


def mean_speed(storyboards: Sequence[Measured]) -> float:
    """Mean over all segments of the subject's displacement per picture, in frame sides."""
    speeds = [
        math.hypot(*seen.displacement) / len(seen.masks) for storyboard in storyboards for seen in storyboard.detections
    ]
    return sum(speeds) / len(speeds)


def summary(storyboards: Sequence[Measured], isolated: Sequence[Measured]) -> dict[str, float | None]:
    """The four measures of `storyboards`, made from the same prompts and seeds as `isolated`.

    Raises ValueError when there is nothing to measure.
    """
    if not storyboards or not isolated:
        raise ValueError("measures need at least one storyboard")
    return {
        "identity": identity(storyboards),
        "adherence": adherence(storyboards),
        "seam": seam(storyboards),
        "motion": motion(storyboards, isolated),
    }
