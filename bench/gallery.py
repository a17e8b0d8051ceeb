"""What one storyboard looks like by every method: the first, middle and last frame of each segment.

python -m bench.gallery [--seed 2000] [--model NAME] [--method NAME ...] --picture FILE
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

from devtools.environment import say

from .methods import METHODS
from .pictures import contact_sheet, save
from .pipeline import MODELS, Clip, load_pipeline
from .storyboards import BEATS, JOINS, SCENES, Storyboard, make_storyboard

SEED = 2000
"""The first storyboard of bench.quality."""
SHOWN = ("isolated", "windows", "ditctrl", "concat", "kvshare")
ENLARGED = 2


def sheet_of(storyboard: Storyboard, clips: Mapping[str, Clip]) -> Image.Image:
    """A row for every method, by its name, with the segments one after another."""
    shown: list[torch.Tensor] = []
    labels: list[tuple[str, str]] = []
    for name, clip in clips.items():
        for segment, (start, stop) in zip(clip.timeline.segments, clip.segment_frames, strict=True):
            shown.append(F.interpolate(clip.frames[start:stop], scale_factor=ENLARGED, mode="nearest"))
            labels.append((name, storyboard.prompts[segment.beat]))
    return contact_sheet(shown, labels, columns=len(shown) // len(clips))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="one storyboard by several methods, as a picture")
    parser.add_argument("--seed", type=int, default=SEED, help="which storyboard")
    parser.add_argument("--beats", type=int, default=BEATS, help="how many prompts it has")
    parser.add_argument("--model", choices=MODELS, default=MODELS[0], help="which embedded model")
    parser.add_argument("--method", nargs="+", choices=tuple(METHODS), default=SHOWN, help="how it is made")
    parser.add_argument("--picture", type=Path, required=True, help="where to draw it")
    options = parser.parse_args()
    storyboard, pipeline = make_storyboard(options.seed, options.beats), load_pipeline(options.model)
    clips = {
        name: pipeline.generate(
            storyboard.lines(SCENES),
            seed=options.seed,
            overlap=JOINS[SCENES],
            method=METHODS[name],
            subject=storyboard.shape,
        )
        for name in options.method
    }
    save(sheet_of(storyboard, clips), options.picture)
    say(f"gallery: {', '.join(clips)} drawn into {options.picture}")


if __name__ == "__main__":
    main()
