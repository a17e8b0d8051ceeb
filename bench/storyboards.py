"""Storyboards: prompts of one subject that leave its colour and size open, and what a video of them shows."""

import random
from dataclasses import dataclass
from itertools import pairwise

from kvshare_core.embedded.detector import detect
from kvshare_core.embedded.scenes import caption
from kvshare_core.embedded.vocabulary import BACKGROUNDS, DIRECTIONS, SHAPES

from .measures import SAID, Measured
from .pipeline import Clip

BEATS = 3
SCENES, LONG_SCENES = "scenes", "scenes, long overlap"
"""Joins that a film has: a cut where the background changes, an overlap where it stays."""
JOINS = {"cut": 0, "overlap": 2, SCENES: 2, LONG_SCENES: 3}
"""Latent frames that neighbouring segments share under each kind of join, where it is no cut."""
CUT = "[cut]"
"""The script's word for it."""


@dataclass(frozen=True)
class Storyboard:
    """Prompts of one subject whose shape is said and whose colour and size are not. `said` holds the words of
    measures.SAID for every beat; the noise is that of `seed`."""

    seed: int
    said: tuple[dict[str, str], ...]

    @property
    def prompts(self) -> tuple[str, ...]:
        return tuple(caption(words, set(SAID)) for words in self.said)

    @property
    def new_scenes(self) -> tuple[bool, ...]:
        """For every beat but the first whether its background is another than that of the beat before."""
        return tuple(one["background"] != other["background"] for one, other in pairwise(self.said))

    def lines(self, join: str) -> tuple[str, ...]:
        """The script of the film under a join of JOINS."""
        if join not in (SCENES, LONG_SCENES):
            return self.prompts
        cuts = [(), *((CUT,) if new else () for new in self.new_scenes)]
        return tuple(line for cut, prompt in zip(cuts, self.prompts, strict=True) for line in (*cut, prompt))

    @property
    def shape(self) -> str:
        return self.said[0]["shape"]


def make_storyboard(seed: int, beats: int = BEATS) -> Storyboard:
    """A storyboard of that many beats. Of any two transitions in a row one keeps the background and turns the subject,
    the other changes the background and by a coin turns the subject too."""
    choice = random.Random(seed)
    words = {
        "shape": choice.choice(SHAPES),
        "direction": choice.choice(DIRECTIONS),
        "background": choice.choice(BACKGROUNDS),
    }
    said = [words]
    for transition in range(1, beats):
        keeps_background = (seed + transition) % 2 == 0
        words = dict(words)
        if keeps_background or choice.random() < 0.5:
            words["direction"] = choice.choice([word for word in DIRECTIONS if word != words["direction"]])
        if not keeps_background:
            words["background"] = choice.choice([word for word in BACKGROUNDS if word != words["background"]])
        said.append(words)
    return Storyboard(seed, tuple(said))


def measure_clip(storyboard: Storyboard, clip: Clip) -> Measured:
    """Detects every segment of a storyboard's video in the pictures where its weight is at least one half."""
    said = tuple(storyboard.said[segment.beat] for segment in clip.timeline.segments)
    detections = tuple(detect(clip.frames[start:stop]) for start, stop in clip.segment_frames)
    return Measured(
        said, detections, clip.frames, clip.seams, clip.segment_frames, clip.masks, clip.latents, clip.search_cost
    )
