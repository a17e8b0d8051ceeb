"""How well the embedded model follows captions whose attribute combination it has never seen.

python -m bench.accuracy [--captions 200] [--json FILE]
python -m bench.accuracy --checkpoint FILE     # a training run in progress, without a host and a VAE
"""

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from kvshare_core.embedded.detector import Detection, detect
from kvshare_core.embedded.latents import fit_basis
from kvshare_core.embedded.scenes import ATTRIBUTES, caption, sample_scenes

from .form import Row, make_result, publish, show_progress
from .lean import load_lean_sampler
from .pictures import contact_sheet, save
from .pipeline import GUIDANCE, STEPS, load_pipeline

TARGETS = {"colour": 0.95, "shape": 0.90, "direction": 0.90, "background": 0.95, "size": None}
DROPPED = ("colour", "size")

Sampler = Callable[[list[str], int], torch.Tensor]
"""Prompts and a seed to videos [n, f, 3, h, w] in 0..1."""


@dataclass(frozen=True)
class Task:
    """A caption, the words it says per attribute, and so what must be seen in its video."""

    text: str
    said: dict[str, str]


def make_tasks(count: int, seed: int) -> list[Task]:
    """`count` captions of held-out combinations; every second one leaves out colour and size, each by a coin."""
    scenes = sample_scenes(count, torch.Generator().manual_seed(seed), held_out=True)
    coin = random.Random(seed)
    tasks = []
    for index in range(count):
        words = scenes.attribute_words(index)
        unsaid = {name for name in DROPPED if index % 2 and coin.random() < 0.5}
        said = {name: words[name] for name in ATTRIBUTES if name not in unsaid}
        tasks.append(Task(caption(words, set(said)), said))
    return tasks


def measure_accuracy(
    tasks: Sequence[Task], sampler: Sampler, batch: int, seed: int
) -> tuple[list[Row], list[torch.Tensor], list[Detection]]:
    """Samples every task and counts the said attributes that are seen in its video; an undetected subject is wrong.

    Returns one row per attribute, and the videos and detections in the order of `tasks`. Task i starts from the noise
    of seed + i whatever the batch is.
    """
    videos: list[torch.Tensor] = []
    for start in range(0, len(tasks), batch):
        videos += sampler([task.text for task in tasks[start : start + batch]], seed + start).unbind()
        show_progress(len(videos), len(tasks), "captions")
    detections = [detect(video) for video in videos]
    return count_right(tasks, detections), videos, detections


def count_right(tasks: Sequence[Task], detections: Sequence[Detection]) -> list[Row]:
    """One row per attribute: how often it was said, and how often the detection agrees."""
    rows: list[Row] = []
    for name, target in TARGETS.items():
        asked = [(task.said[name], seen) for task, seen in zip(tasks, detections, strict=True) if name in task.said]
        right = sum(seen.found and getattr(seen, name) == word for word, seen in asked)
        accuracy = right / len(asked) if asked else None
        rows.append({"attribute": name, "said": len(asked), "right": right, "accuracy": accuracy, "target": target})
    return rows


def describe(task: Task, seen: Detection) -> list[str]:
    """Two lines for a contact sheet: the caption, and what was seen (an exclamation mark before a wrong word)."""
    if not seen.found:
        return [task.text, f"! no subject, {seen.background}"]
    words = [
        ("" if name not in task.said or task.said[name] == getattr(seen, name) else "!") + str(getattr(seen, name))
        for name in ATTRIBUTES
    ]
    return [task.text, " ".join(words)]


def log_line(step: int, guidance: float, rows: Sequence[Row], detections: Sequence[Detection]) -> str:
    """The figures of one measurement in one line."""
    figures = " ".join(f"{row['attribute']}={row['accuracy']:.3f}" for row in rows if row["accuracy"] is not None)
    found = sum(seen.found for seen in detections)
    return f"step={step} captions={len(detections)} cfg={guidance:g} found={found} {figures}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="accuracy of the embedded model on held-out captions")
    parser.add_argument("--captions", type=int, default=200)
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--cfg", type=float, default=GUIDANCE)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet (PNG) of the videos here")
    parser.add_argument("--checkpoint", type=Path, help="measure this training checkpoint instead, without a host")
    parser.add_argument("--log", type=Path, help="with --checkpoint: append the figures to this file, in one line")
    options = parser.parse_args()
    if options.captions < 1 or options.batch < 1:
        parser.error("--captions and --batch must be at least 1")
    if options.log and not options.checkpoint:
        parser.error("--log follows a training run; name its --checkpoint too")

    lean = load_lean_sampler(options.checkpoint, fit_basis()) if options.checkpoint else None
    pipeline = None if lean else load_pipeline()
    make = lean.sample if lean else pipeline.single_clips
    tasks = make_tasks(options.captions, options.seed)
    rows, videos, detections = measure_accuracy(
        tasks, lambda prompts, seed: make(prompts, seed, options.steps, options.cfg), options.batch, options.seed
    )
    publish(make_result("accuracy", options.seed, rows, pipeline.host if pipeline else None), options.json)
    if options.sheet:
        labels = [describe(task, seen) for task, seen in zip(tasks, detections, strict=True)]
        save(contact_sheet(videos, labels), options.sheet)
    if lean and options.log:
        with options.log.open("a", encoding="utf-8") as log:
            log.write(log_line(lean.step, options.cfg, rows, detections) + "\n")


if __name__ == "__main__":
    main()
