"""How surely a subject is found: by the attention to its words, block by block, and by what hiding them changes.

python -m bench.masks [--clips 24] [--models NAME ...] [--begin noise held image] [--json FILE] [--quick]

Clips are of one prompt, by the unpatched models; what is seen in the finished clip is the truth at every step. A `first
look` is what the subject of another clip, of another prompt and noise, looks like by the effect of its words: by it the
later segments of a film are searched. Clips begin with `noise`, as text-to-video does; with the first frames of an
existing video of the same prompt `held` by the noise mask; or, of the image-to-video model, with an `image`. Columns:

    begin       what the clip begins with
    frames      which latent frames are judged: all, those that are made, or those that are given (held, or the image)
    rank        probability that a token of the subject scores higher than another token; 0.5 is chance
    mask_iou    overlap of the mask that the shipped threshold makes of the score with the true one

The last two are means over the clips that show the subject in those frames, with intervals.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from devtools.environment import find_host
from kvshare_core.config import MaskSettings
from kvshare_core.embedded.detector import detect
from kvshare_core.embedded.scenes import FRAMES
from kvshare_core.embedded.vocabulary import SHAPES
from kvshare_core.subject.appearance import Features, choose_examples, contrasts, example_weights, mean_value
from kvshare_core.subject.maps import normalise_over_clip, standardised

from .confidence import interval, mean
from .form import Row, make_result, publish, show_progress
from .image_films import image_values, make_film
from .pipeline import MODELS, Beginning, Model, Pipeline, Pointing, load_pipeline, models_of
from .side_effects import in_tokens
from .storyboards import Storyboard, make_storyboard

CLIPS, QUICK_CLIPS = 24, 3
FIRST_SEED = 600
PROBED = tuple(model for model in MODELS if model != "vit3d")
"""The models that read the text in every block; the probe refuses others."""
LEVELS = (0, 1, 3, 6, 10, 15)
"""Steps, of pipeline.STEPS, that are looked at."""
THRESHOLD = MaskSettings().thres

ImageModel = Literal["image-to-video"]
Begin = Literal["noise", "held", "image"]
BEGINS: tuple[Begin, ...] = get_args(Begin)
IMAGE_MODEL: ImageModel = "image-to-video"
HELD_FRAMES = 2
"""Latent frames of the existing video that a clip begins with."""
VIDEO_SEED = 100_000
"""Is added to a clip's seed for that of the existing video."""

Source = str
"""What points: `effect`, `first look`, `all blocks` or one block."""
Place = tuple[int, Source]
"""A step and what points in it."""
Frames = Literal["all", "made", "given"]


@dataclass(frozen=True)
class Found:
    """How well one score finds the subject of one clip."""

    rank: float
    mask_iou: float


def clips(count: int) -> list[Storyboard]:
    """Storyboards of one prompt, as many of each shape; `count` is a multiple of their number."""
    chosen: dict[str, list[Storyboard]] = {shape: [] for shape in SHAPES}
    seed = FIRST_SEED
    while any(len(found) < count // len(SHAPES) for found in chosen.values()):
        board = make_storyboard(seed, 1)
        if len(chosen[board.shape]) < count // len(SHAPES):
            chosen[board.shape].append(board)
        seed += 1
    return [board for found in chosen.values() for board in found]


def rank(score: torch.Tensor, true: torch.Tensor) -> float:
    """Probability that a token where boolean `true` [tokens] holds has a higher `score` [tokens] than one where it does
    not; ties count half. Needs tokens of both kinds."""
    inside, outside = score[true], score[~true]
    higher = (inside[:, None] > outside).double() + 0.5 * (inside[:, None] == outside).double()
    return float(higher.mean())


def overlap(heat: torch.Tensor, true: torch.Tensor) -> float:
    """Intersection over union of where a score in 0..1 reaches the shipped threshold and what is true."""
    found = heat >= THRESHOLD
    return float((found & true).sum() / (found | true).sum())


def scores_of(pointing: Pointing) -> Iterator[tuple[Place, torch.Tensor]]:
    """Everything that points in a clip, [tokens]."""
    for step, effect in pointing.effects.items():
        blocks = pointing.scores[step]
        yield (step, "effect"), effect
        yield (step, "all blocks"), torch.stack([standardised(score) for score in blocks.values()]).sum(0)
        for block, score in sorted(blocks.items()):
            yield (step, f"block {block}"), score


def first_looks(pointing: Pointing, other: Pointing) -> Iterator[tuple[Place, torch.Tensor]]:
    """How much every token is like the subject of the `other` clip in the same step, [tokens]."""
    for step, values in pointing.values.items():
        counts = contrasts(example_weights(choose_examples(standardised(other.effects[step][None, None]))))
        total = torch.zeros_like(other.effects[step])
        for block, value in values.items():
            there = other.values[step][block]
            directions = Features(there, mean_value(there)).directions(counts)
            total += standardised(Features(value, mean_value(value)).along(directions))[0, 0]
        yield (step, "first look"), total


def judge(pointing: Pointing, other: Pointing | None = None, frames: Frames = "all") -> dict[Place, Found]:
    """How well everything that points finds the subject that is seen in the end, in some of the latent `frames`;
    nothing where none is seen there. other: a clip of another subject of the same shape, by which this one is
    searched."""
    masks = detect(pointing.frames).masks
    true = torch.stack([in_tokens(masks[first:last]).flatten() for first, last in pointing.latents])
    judged = {"all": slice(None), "made": slice(pointing.given, None), "given": slice(pointing.given)}[frames]
    if not bool(true[judged].any()):
        return {}
    scores = (*scores_of(pointing), *([] if other is None else first_looks(pointing, other)))
    found: dict[Place, Found] = {}
    for place, score in scores:
        raw, heat = (values.reshape(true.shape)[judged].flatten() for values in (score, normalise_over_clip(score)))
        inside = true[judged].flatten()
        found[place] = Found(rank(raw, inside), overlap(heat, inside))
    return found


def rows_of(
    model: Model | ImageModel, judged: Sequence[Mapping[Place, Found]], begin: Begin = "noise", frames: Frames = "all"
) -> list[Row]:
    """A row for everything that points, over all clips in which a subject is seen; none where no clip shows it."""
    seen = [found for found in judged if found]
    rows: list[Row] = []
    for step, source in seen[0] if seen else ():
        of_clips = [found[step, source] for found in seen]
        row: dict[str, str | int | float | list[float] | None] = {
            "model": model,
            "begin": begin,
            "frames": frames,
            "source": source,
            "step": step,
            "clips": len(seen),
        }
        for name in ("rank", "mask_iou"):
            values = [[float(getattr(found, name))] for found in of_clips]
            row[name] = mean(values)
            row[f"{name}_ci"] = interval(values, FIRST_SEED)
        rows.append(row)
    return rows


def beginning_of(pipeline: Pipeline, board: Storyboard, begin: Begin) -> Beginning | None:
    """What the clip of a storyboard begins with; None for noise."""
    if begin == "held":
        video = pipeline.single_clips(board.prompts[:1], board.seed + VIDEO_SEED)
        return Beginning(HELD_FRAMES, pipeline.encode(video)[:, :, :HELD_FRAMES])
    if begin == "image":
        from kvshare_core.host.conditioning.encoding import encode

        entries = encode(pipeline.clip, board.prompts[0]), encode(pipeline.clip, "")
        return Beginning(1, None, image_values(pipeline, *entries, make_film(board.seed).image, FRAMES))
    return None


def measure(model: Model | ImageModel, boards: Sequence[Storyboard], begin: Begin) -> list[Row]:
    """The rows of one model whose clips begin so."""
    pipeline = load_pipeline(model)
    parts: tuple[Frames, ...] = ("all",) if begin == "noise" else get_args(Frames)
    judged: dict[Frames, list[dict[Place, Found]]] = {frames: [] for frames in parts}
    done = 0
    for shape in SHAPES:
        clips = [
            pipeline.pointing(
                board.prompts[0], board.shape, board.seed, LEVELS, begin=beginning_of(pipeline, board, begin)
            )
            for board in boards
            if board.shape == shape
        ]
        # Each is searched by the clip before it, the first by the last.
        others = [None] if len(clips) == 1 else [clips[-1], *clips[:-1]]
        for frames, found in judged.items():
            found += [judge(clip, other, frames) for clip, other in zip(clips, others, strict=True)]
        done += len(clips)
        show_progress(done, len(boards), f"clips, {model}, {begin}")
    rows = [row for frames, found in judged.items() for row in rows_of(model, found, begin, frames)]
    if not rows:
        print(f"{model}: no clip shows its subject; it has no rows", file=sys.stderr)
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="what finds the subject")
    parser.add_argument("--clips", type=int, default=CLIPS, help="a multiple of the number of shapes")
    parser.add_argument("--models", nargs="+", choices=PROBED, help="which embedded models; all that the host knows")
    parser.add_argument("--begin", nargs="+", choices=BEGINS, default=BEGINS, help="what clips begin with")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_CLIPS} clips")
    options = parser.parse_args()
    count = QUICK_CLIPS if options.quick else options.clips
    if count < len(SHAPES) or count % len(SHAPES):
        parser.error(f"--clips must be a multiple of {len(SHAPES)}")
    models: Sequence[Model] = options.models or [model for model in models_of(find_host()) if model in PROBED]
    rows: list[Row] = []
    for begin in options.begin:
        chosen: Sequence[Model | ImageModel] = [IMAGE_MODEL] if begin == "image" else models
        for model in chosen:
            rows += measure(model, clips(count), begin)
    publish(make_result("masks", FIRST_SEED, rows, find_host()), options.json)


if __name__ == "__main__":
    main()
