"""How well the embedded models follow captions whose attribute combination they have never seen.

python -m bench.accuracy [--captions 200] [--models cross-attention] [--json FILE]
python -m bench.accuracy --few-steps --steps 8 --cfg 1    # with the models' LoRAs for few steps
python -m bench.accuracy --checkpoint FILE     # a training run in progress, without a host and a VAE
python -m bench.accuracy --vit3d FILE          # another ViT3D than the embedded one
"""

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from devtools.environment import find_host
from devtools.inprocess import enter_host
from kvshare_core.embedded.detector import Detection, detect, detect_pair
from kvshare_core.embedded.latents import fit_basis
from kvshare_core.embedded.scenes import ATTRIBUTES, caption, pair_caption, sample_pairs, sample_scenes
from kvshare_core.embedded.vocabulary import PAIR_WORDS

from .form import Row, make_result, publish, show_progress
from .lean import load_lean_sampler
from .pictures import contact_sheet, save
from .pipeline import GUIDANCE, MODELS, STEPS, Model, Pipeline, load_pipeline, load_pixel_pipeline, models_of

TARGETS = {"colour": 0.95, "pattern": 0.95, "shape": 0.90, "direction": 0.90, "background": 0.95, "size": None}
DROPPED = ("colour", "size", "pattern")
Sampler = Callable[[list[str], int], torch.Tensor]
"""Prompts and a seed to videos [n, f, 3, h, w] in 0..1."""


@dataclass(frozen=True)
class Task:
    """A caption, the words it says per attribute, and so what must be seen in its video."""

    text: str
    said: dict[str, str]


def make_tasks(count: int, seed: int, patterned: bool = True) -> list[Task]:
    """`count` captions of held-out combinations; every second one leaves out colour, size and pattern, each by a coin.
    Without `patterned`, for a model that knows no patterns, none says one."""
    scenes = sample_scenes(count, torch.Generator().manual_seed(seed), held_out=True, patterned=patterned)
    coin = random.Random(seed)
    tasks = []
    for index in range(count):
        words = scenes.attribute_words(index)
        unsaid = {name for name in DROPPED if index % 2 and coin.random() < 0.5}
        if not patterned:
            unsaid.add("pattern")
        said = {name: words[name] for name in ATTRIBUTES if name not in unsaid}
        tasks.append(Task(caption(words, set(said)), said))
    return tasks


@dataclass(frozen=True)
class PairTask:
    """A caption of two subjects and the words it says of each."""

    text: str
    said: tuple[dict[str, str], dict[str, str]]


def make_pair_tasks(count: int, seed: int, patterned: bool = True) -> list[PairTask]:
    """`count` captions of two subjects, both of held-out combinations, that say everything but, without `patterned`,
    their patterns."""
    scenes = sample_pairs(count, torch.Generator().manual_seed(seed), held_out=True, patterned=patterned)
    said = frozenset(name for name in ATTRIBUTES if patterned or name != "pattern")
    tasks = []
    for index in range(count):
        first, second = ({name: words[name] for name in said} for words in scenes.attribute_words(index))
        tasks.append(PairTask(pair_caption((first, second), (said, said)), (first, second)))
    return tasks


def count_right_in_pairs(tasks: Sequence[PairTask], videos: Sequence[torch.Tensor]) -> list[Row]:
    """One row per attribute over both subjects, and one for how often both are there; each video's subjects are taken
    for those of its caption in the way that agrees best."""
    names = [name for name in TARGETS if name in tasks[0].said[0]]
    right = dict.fromkeys((*names, "both subjects"), 0)
    for task, video in zip(tasks, videos, strict=True):
        seen = detect_pair(video)
        agreements = [
            {name: sum(one.found and getattr(one, name) == said[name] for one, said in pairs) for name in names}
            for pairs in (list(zip(seen, task.said, strict=True)), list(zip(seen, task.said[::-1], strict=True)))
        ]
        for name, count in max(agreements, key=lambda found: sum(found.values())).items():
            right[name] += count
        right["both subjects"] += all(one.found for one in seen)
    said = dict.fromkeys(names, 2 * len(tasks)) | {"both subjects": len(tasks)}
    return [
        {"attribute": name, "said": said[name], "right": count, "accuracy": count / said[name], "target": None}
        for name, count in right.items()
    ]


def make_videos(texts: Sequence[str], sampler: Sampler, batch: int, seed: int, label: str) -> list[torch.Tensor]:
    """A video of each text; text i starts from the noise of seed + i whatever the batch is."""
    videos: list[torch.Tensor] = []
    for start in range(0, len(texts), batch):
        videos += sampler(list(texts[start : start + batch]), seed + start).unbind()
        show_progress(len(videos), len(texts), label)
    return videos


def measure_accuracy(
    tasks: Sequence[Task], sampler: Sampler, batch: int, seed: int
) -> tuple[list[Row], list[torch.Tensor], list[Detection]]:
    """Samples every task and counts the said attributes that are seen in its video; an undetected subject is wrong.

    Returns one row per attribute, and the videos and detections in the order of `tasks`.
    """
    videos = make_videos([task.text for task in tasks], sampler, batch, seed, "captions")
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


def of_model(model: Model, subjects: int, rows: Sequence[Row]) -> list[Row]:
    """Rows of a table of several models."""
    return [{"model": model, "subjects": subjects, **row} for row in rows]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="accuracy of the embedded models on held-out captions")
    parser.add_argument("--captions", type=int, default=200)
    parser.add_argument("--models", nargs="+", choices=MODELS, help="all that the host has, unless named")
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--cfg", type=float, default=GUIDANCE)
    parser.add_argument(
        "--few-steps", action="store_true", help="with the LoRA for 4 to 8 steps; give --steps, --cfg 1"
    )
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet (PNG) of the last model's videos here")
    parser.add_argument("--checkpoint", type=Path, help="measure this training checkpoint instead, without a host")
    parser.add_argument("--vit3d", type=Path, metavar="FILE", help="measure this ViT3D, trained on the scenes, instead")
    parser.add_argument("--log", type=Path, help="with --checkpoint: append the figures to this file, in one line")
    options = parser.parse_args()
    if options.captions < 1 or options.batch < 1:
        parser.error("--captions and --batch must be at least 1")
    if options.log and not options.checkpoint:
        parser.error("--log follows a training run; name its --checkpoint too")
    tasks: Sequence[Task] = []
    settings = options.steps, options.cfg

    if options.checkpoint:
        lean = load_lean_sampler(options.checkpoint, fit_basis())
        tasks = make_tasks(options.captions, options.seed, lean.model.text.words.shape[0] == len(PAIR_WORDS))
        rows, videos, detections = measure_accuracy(
            tasks, lambda prompts, seed: lean.sample(prompts, seed, *settings), options.batch, options.seed
        )
        publish(make_result("accuracy", options.seed, rows, None), options.json)
        if options.log:
            with options.log.open("a", encoding="utf-8") as log:
                log.write(log_line(lean.step, options.cfg, rows, detections) + "\n")
    elif options.vit3d:
        own = load_pixel_pipeline(options.vit3d)
        tasks = make_tasks(options.captions, options.seed)
        rows, videos, detections = measure_accuracy(
            tasks, lambda prompts, seed: own.single_clips(prompts, seed, *settings), options.batch, options.seed
        )
        publish(make_result("accuracy", options.seed, rows, find_host()), options.json)
    else:
        # A checkpoint is measured where there is no host.
        enter_host(find_host())
        from kvshare_core.embedded.clip import knows_patterns
        from kvshare_core.embedded.model import DRAWS_PAIRS, FEW_STEPS_FILES, with_few_steps

        table: list[Row] = []
        videos, detections = [], []
        wanted = options.models or models_of(find_host())
        for model in [model for model in wanted if not options.few_steps or model in FEW_STEPS_FILES]:
            pipeline = load_pipeline(model)
            if options.few_steps:
                pipeline = pipeline.with_model(with_few_steps(pipeline.model, model))

            def sample(prompts: list[str], seed: int, pipeline: Pipeline = pipeline) -> torch.Tensor:
                return pipeline.single_clips(prompts, seed, *settings)

            patterned = knows_patterns(pipeline.clip)
            tasks = make_tasks(options.captions, options.seed, patterned)
            rows, videos, detections = measure_accuracy(tasks, sample, options.batch, options.seed)
            table += of_model(model, 1, rows)
            if model in DRAWS_PAIRS:
                pairs = make_pair_tasks(options.captions, options.seed, patterned)
                both = make_videos([pair.text for pair in pairs], sample, options.batch, options.seed, "pairs")
                table += of_model(model, 2, count_right_in_pairs(pairs, both))
        publish(make_result("accuracy", options.seed, table, find_host()), options.json)
    if options.sheet:
        labels = [describe(task, seen) for task, seen in zip(tasks, detections, strict=True)]
        save(contact_sheet(videos, labels), options.sheet)


if __name__ == "__main__":
    main()
