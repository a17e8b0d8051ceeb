"""Storyboards rendered from known scenes, measured as if a model had made them."""

import torch

from bench.measures import Measured
from bench.spans import own_pictures, seam_pictures
from kvshare_core.embedded.detector import detect
from kvshare_core.embedded.scenes import Scenes, render
from kvshare_core.embedded.vocabulary import BACKGROUNDS, COLOURS, DIRECTIONS, PATTERNS, SHAPES
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline

SIDE = 96


def beat(**changes: float | str) -> dict[str, float | str]:
    standard = dict(colour="red", pattern="plain", shape="circle", direction="right", background="night")
    return {**standard, "radius": 0.20, "travel": 0.4, **changes}


def render_beat(attributes: dict[str, float | str], frames: int) -> torch.Tensor:
    words = dict(colour=COLOURS, pattern=PATTERNS, shape=SHAPES, direction=DIRECTIONS, background=BACKGROUNDS)
    values = {name: torch.tensor([options.index(attributes[name])]) for name, options in words.items()}
    lengths = {name: torch.tensor([attributes[name]]) for name in ("radius", "travel")}
    scenes = Scenes(size=torch.tensor([0]), centre=torch.tensor([[0.5, 0.5]]), **values, **lengths)
    return render(scenes, SIDE, frames)[0][0]


def timeline_of(beats: int, overlap: int) -> Timeline:
    lines = parse_script("\n".join(["a shape moving"] * beats))
    return plan_timeline(lines, window=5, overlap=overlap, fps=16, temporal_compression=4)


def measured(
    shown: list[dict[str, float | str]], said: list[dict[str, float | str]] | None = None, overlap: int = 0
) -> Measured:
    """A storyboard that shows one rendered beat after the other and was asked for `said`, by default what it shows."""
    timeline = timeline_of(len(shown), overlap)
    spans = own_pictures(timeline)
    pieces = [render_beat(attributes, stop - start) for attributes, (start, stop) in zip(shown, spans, strict=True)]
    frames = torch.cat(pieces)
    detections = tuple(detect(frames[start:stop]) for start, stop in spans)
    names = ("shape", "direction", "background")
    wanted = tuple({name: str(attributes[name]) for name in names} for attributes in (said or shown))
    latents = tuple(timeline.picture_range(frame, frame + 1) for frame in range(timeline.latent_frames))
    return Measured(wanted, detections, frames, seam_pictures(timeline), spans, latents=latents)
