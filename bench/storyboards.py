"""Does the subject stay the same? Storyboards of three beats made by every method, measured by the detector.

python -m bench.storyboards [--seeds 20] [--json FILE] [--quick]
"""

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from kvshare_core.embedded.detector import detect
from kvshare_core.embedded.scenes import caption
from kvshare_core.embedded.vocabulary import BACKGROUNDS, DIRECTIONS, SHAPES

from .form import Row, make_result, publish, show_progress
from .measures import SAID, Measured, summary
from .methods import METHODS
from .pipeline import STEPS, Clip, load_pipeline

BEATS = 3
JOINS = {"cut": 0, "overlap": 2}
"""Latent frames that neighbouring segments share under each kind of join."""
SCENES = "scenes"
"""The join that a film has: a cut where the background changes, an overlap where it stays."""
CUT = "[cut]"
"""The script's word for it."""
QUICK_SEEDS = 2
QUICK_STEPS = 8

COMPARED = ("isolated", "windows", "kvshare")
"""Names of the methods."""

Generate = Callable[["Storyboard", str, int], Clip]
"""Makes a storyboard's video by a method with an overlap."""


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
        """The script of the film under a join of JOINS or SCENES."""
        if join != SCENES:
            return self.prompts
        cuts = [(), *((CUT,) if new else () for new in self.new_scenes)]
        return tuple(line for cut, prompt in zip(cuts, self.prompts, strict=True) for line in (*cut, prompt))

    @property
    def shape(self) -> str:
        return self.said[0]["shape"]


def overlap_of(join: str) -> int:
    """Latent frames that neighbouring segments share where a join is no cut."""
    return JOINS["overlap" if join == SCENES else join]


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
    return Measured(said, detections, clip.frames, clip.seams, clip.segment_frames, clip.masks, clip.latents)


def measure_storyboards(
    storyboards: Sequence[Storyboard], generate: Generate, progress: Callable[[int, int], None]
) -> list[Row]:
    """One row for every method under every join; `progress(done, total)` follows each video.

    What is the same computation is made once: isolated segments do not depend on the join, and windows without overlap
    are isolated segments.
    """
    plans = {(method, join): plan(method, join) for join in JOINS for method in COMPARED}
    needed = list(dict.fromkeys(plans.values()))
    measured: dict[tuple[str, int], list[Measured]] = {needs: [] for needs in needed}
    for number, storyboard in enumerate(storyboards):
        for place, (method, overlap) in enumerate(needed):
            clip = generate(storyboard, method, overlap)
            measured[method, overlap].append(measure_clip(storyboard, clip))
            progress(number * len(needed) + place + 1, len(storyboards) * len(needed))
    return [
        {"method": method, "join": join, **summary(measured[needs], measured["isolated", 0])}
        for (method, join), needs in plans.items()
    ]


def plan(method: str, join: str) -> tuple[str, int]:
    """The computation, as a method and an overlap, that `method` under `join` stands for."""
    overlap = JOINS[join]
    if method == "isolated" or (method == "windows" and overlap == 0):
        return "isolated", 0
    return method, overlap


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="identity, adherence, seam and motion over storyboards")
    parser.add_argument("--seeds", type=int, default=20, help="storyboards, seeds 0 to this minus one")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--quick", action="store_true", help="two seeds and few steps, to see that it runs")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error(f"--seeds is {options.seeds}; it must be at least 1")
    pipeline = load_pipeline()

    def generate(storyboard: Storyboard, method: str, overlap: int) -> Clip:
        return pipeline.generate(
            storyboard.prompts,
            seed=storyboard.seed,
            overlap=overlap,
            method=METHODS[method],
            subject=storyboard.shape,
            steps=QUICK_STEPS if options.quick else STEPS,
        )

    storyboards = [make_storyboard(seed) for seed in range(QUICK_SEEDS if options.quick else options.seeds)]
    rows = measure_storyboards(storyboards, generate, lambda done, total: show_progress(done, total, "videos"))
    publish(make_result("storyboards", 0, rows, pipeline.host), options.json)


if __name__ == "__main__":
    main()
