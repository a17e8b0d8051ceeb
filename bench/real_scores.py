"""What a film of any subject shows, without knowing the truth: figures of one film, and their means over many.

A figure that needs what is not there (CLIP's text half, masks, another scene) is None.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F

from .form import Row
from .measures import LEAST_CHANGE
from .real_films import RealFilm
from .side_effects import cscv

FRAMES_PER_BEAT = 8
"""Pictures of a beat that are looked at, evenly spread."""
RIM = 1 / 6
"""Part of a frame's width and height, on each side, that counts as its background."""
COLOURS = 8
"""Steps of each channel in a histogram of colours."""
LEAST_SUBJECT = 0.002
"""Part of a picture below which a mask counts as empty."""


@dataclass(frozen=True)
class Eye:
    """see: frames [f, 3, h, w] in 0..1 to features [f, width]; read: texts to features [n, width] of the same space,
    None for a network without text; clip: whether it is CLIP, whose figures others publish."""

    name: str
    see: Callable[[torch.Tensor], torch.Tensor]
    read: Callable[[Sequence[str]], torch.Tensor] | None = None
    clip: bool = False


@dataclass(frozen=True)
class Seen:
    """The figures of one film.

    steadiness: CSCV of the eye's features. clip_t: cosine of each beat's pictures and its prompt; ranked: for each beat
    whether its own prompt fits best among the film's. subject: mean cosine of the subject's crops in different beats.
    speed: mean change of a picture to the next within a beat. rims: for each beat in another scene than the first, the
    likeness of the colours of their frames' rims. seams: for each join without a cut, the change there over the usual.
    """

    steadiness: float | None
    clip_t: Sequence[float]
    ranked: Sequence[bool]
    subject: float | None
    speed: float
    rims: Sequence[float]
    seams: Sequence[float]
    seconds: float


def look_at(film: RealFilm, eye: Eye | None) -> Seen:
    """All figures of one film."""
    beats = [_spread(span) for span in film.spans]
    texts, ranked = ([], []) if eye is None or eye.read is None else _fit(film, eye, eye.read, beats)
    return Seen(
        None if eye is None else cscv(eye.see(film.frames)),
        texts,
        ranked,
        None if eye is None or film.masks is None else subject_likeness(film.frames, film.masks, beats, eye),
        speed(film.frames, film.spans),
        rim_likeness(film),
        seams(film),
        film.seconds,
    )


def subject_likeness(
    frames: torch.Tensor, masks: torch.Tensor, beats: Sequence[Sequence[int]], eye: Eye
) -> float | None:
    """Mean cosine between beats of the mean features of the subject's crops; None where fewer than two show it."""
    seen: list[torch.Tensor] = []
    for pictures in beats:
        crops = [crop for place in pictures if (crop := subject_crop(frames[place], masks[place])) is not None]
        if crops:
            features = torch.cat([F.normalize(eye.see(crop[None]), dim=1) for crop in crops])
            seen.append(F.normalize(features.mean(0), dim=0))
    pairs = [float(one @ other) for one, other in combinations(seen, 2)]
    return sum(pairs) / len(pairs) if pairs else None


def subject_crop(frame: torch.Tensor, mask: torch.Tensor) -> torch.Tensor | None:
    """The square of a frame [3, h, w] around its subject, grey where the mask [h, w] is not; None for an empty mask."""
    inside = mask > 0.5
    if float(inside.float().mean()) < LEAST_SUBJECT:
        return None
    rows, columns = (torch.nonzero(inside.any(dim))[:, 0] for dim in (1, 0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    cut = torch.where(inside, frame, 0.5)[:, top:bottom, left:right]
    side = max(bottom - top, right - left)
    across, down = side - (right - left), side - (bottom - top)
    return F.pad(cut, (across // 2, across - across // 2, down // 2, down - down // 2), value=0.5)


def speed(frames: torch.Tensor, spans: Sequence[tuple[int, int]]) -> float:
    """Mean absolute change of a picture to the next within a beat."""
    changes = torch.cat([_changes(frames[start:stop]) for start, stop in spans if stop - start > 1])
    return float(changes.mean())


def rim_likeness(film: RealFilm) -> list[float]:
    """For each beat behind a cut that ends the first scene: how much of the colours of the rim of its frames the first
    beat's rim has too, 0..1."""
    first, behind = _rim_colours(film.frames[slice(*film.spans[0])]), False
    found: list[float] = []
    for new_scene, span in zip(film.board.new_scenes, film.spans[1:], strict=True):
        behind |= new_scene
        if behind:
            found.append(float(torch.minimum(first, _rim_colours(film.frames[slice(*span)])).sum()))
    return found


def seams(film: RealFilm) -> list[float]:
    """For each join without a cut, the largest change near it over the median change of the film; 1 is no seam."""
    changes = _changes(film.frames).clamp(min=LEAST_CHANGE)
    found: list[float] = []
    for new_scene, (start, _) in zip(film.board.new_scenes, film.spans[1:], strict=True):
        if not new_scene:
            near = changes[max(0, start - 3) : start + 2]
            found.append(float(near.max() / changes.median()))
    return found


def summary(seen: Mapping[str, Seen], isolated: Mapping[str, Seen], eye: Eye | None) -> Row:
    """The figures of a way over its films, by storyboard, beside isolated segments of the same storyboards.

    motion: speed over that of isolated segments. leak: how much more of the first scene's colours later scenes have
    than isolated ones. CSCV is told only beside CLIP-T and motion, since a film that stands still or ignores its
    prompts has the best; of another network than CLIP it is called cscv_lite, not comparable with published CSCV.
    """
    both = [name for name in seen if name in isolated]
    mine, theirs = [seen[name] for name in both], [isolated[name] for name in both]
    motion = _mean([one.speed for one in mine], _mean([one.speed for one in theirs]))
    rims = [a - b for one, other in zip(mine, theirs, strict=True) for a, b in zip(one.rims, other.rims, strict=True)]
    films = list(seen.values())
    clip_t = _mean([value for one in films for value in one.clip_t])
    steadiness = _mean([one.steadiness for one in films if one.steadiness is not None])
    return {
        "films": len(films),
        "subject": _mean([one.subject for one in films if one.subject is not None]),
        "clip_t": clip_t,
        "rank": _mean([float(value) for one in films for value in one.ranked]),
        "motion": motion,
        "leak": _mean(rims),
        "seam": _mean([value for one in films for value in one.seams]),
        "cscv": steadiness if eye is not None and eye.clip and clip_t is not None and motion is not None else None,
        "cscv_lite": steadiness if eye is not None and not eye.clip and motion is not None else None,
        "seconds": _mean([one.seconds for one in films]),
    }


def _fit(
    film: RealFilm, eye: Eye, read: Callable[[Sequence[str]], torch.Tensor], beats: Sequence[Sequence[int]]
) -> tuple[list[float], list[bool]]:
    """CLIP-T of every beat, and whether no other prompt of the film fits it better."""
    texts = F.normalize(read(film.board.prompts), dim=1)
    likeness = torch.stack([(F.normalize(eye.see(film.frames[list(beat)]), dim=1) @ texts.T).mean(0) for beat in beats])
    best = likeness.argmax(1).tolist()
    return likeness.diagonal().tolist(), [place == number for number, place in enumerate(best)]


def _spread(span: tuple[int, int]) -> list[int]:
    start, stop = span
    count = min(FRAMES_PER_BEAT, stop - start)
    return [start + math.floor((number + 0.5) * (stop - start) / count) for number in range(count)]


def _changes(frames: torch.Tensor) -> torch.Tensor:
    return (frames[1:] - frames[:-1]).abs().mean((1, 2, 3))


def _rim_colours(frames: torch.Tensor) -> torch.Tensor:
    """The share of each colour [COLOURS ** 3] in the rims of frames [f, 3, h, w]."""
    height, width = frames.shape[-2:]
    rim = torch.ones(height, width, dtype=torch.bool)
    rim[round(height * RIM) : height - round(height * RIM), round(width * RIM) : width - round(width * RIM)] = False
    steps = (frames.movedim(1, -1)[:, rim].flatten(0, 1) * COLOURS).long().clamp(0, COLOURS - 1)
    numbers = (steps[:, 0] * COLOURS + steps[:, 1]) * COLOURS + steps[:, 2]
    return torch.bincount(numbers, minlength=COLOURS**3) / len(numbers)


def _mean(values: Sequence[float], over: float | None = 1.0) -> float | None:
    return sum(values) / len(values) / over if values and over else None
