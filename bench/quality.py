"""Identity, the prompt, and what sharing costs besides: storyboards of three and five beats by every method.

python -m bench.quality [--storyboards 64] [--json FILE] [--quick] [--keep FILE]

Every storyboard leaves colour, pattern and size of its subject open. Identity has three figures: appearance (colour and
pattern), size, and both. Methods get the same prompts and the same noise. Two
processes share the work where there are two cores.
"""

import argparse
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import repeat
from pathlib import Path

import torch

from devtools.environment import find_host

from . import confidence, side_effects
from .embedder import Embedder, load_embedder
from .form import Row, Value, make_result, publish, show_progress
from .kept import Cell, Kept, Seen, Task
from .measures import Measured, adherence, identity, keeps_appearance, keeps_colour, keeps_size, mean_speed, seam_ratios
from .methods import METHODS, Method
from .pipeline import BOTH_KINDS, MODELS, STEPS, HostLacksPromptsError, Model, Pipeline, load_pipeline
from .storyboards import JOINS, SCENES, make_storyboard, measure_clip

BEATS = (3, 5)
STORYBOARDS, QUICK_STORYBOARDS = 64, 6
BATCH = 8
"""Storyboards that are made together."""
FIRST_SEED = 2000
"""Seeds below were looked at while settings were chosen."""

JUDGED = ("identity", "appearance", "size", "adherence", "leak")
"""Figures with an interval."""
MASKED, UNMASKED = "kvshare", "kvshare_nomask"
"""The two methods whose difference is what the mask does."""


def look_at(measured: Measured, embed: side_effects.Embed) -> Seen:
    """Everything that is measured on one video."""
    return Seen(
        {
            "identity": [identity([measured])],
            "appearance": [float(keeps_appearance(measured.detections))],
            "colour": [float(keeps_colour(measured.detections))],
            "size": [float(keeps_size(measured.detections))],
            "adherence": [adherence([measured])],
            "seam": seam_ratios(measured),
            "leak": side_effects.leaks(measured),
            "mask_iou": side_effects.mask_overlap(measured),
            "drift": side_effects.drift(measured),
            "frozen": side_effects.frozen(measured),
            "repeated": side_effects.repeated(measured),
            "cscv_lite": side_effects.cscv_lite(measured, embed),
        },
        mean_speed([measured]),
    )


def run_task(task: Task, steps: int) -> list[Seen] | None:
    """Makes and measures the storyboards of a task; None where the host has not what the method needs."""
    torch.set_num_threads(1)
    storyboards = [make_storyboard(seed, task.beats) for seed in task.seeds]
    join = "overlap" if task.making.host_windows else task.join
    try:
        clips = pipeline_of(task.model).generate_all(
            [storyboard.lines(join) for storyboard in storyboards],
            task.seeds,
            overlap=JOINS[join],
            method=task.making,
            subjects=[storyboard.shape for storyboard in storyboards],
            steps=steps,
        )
    except HostLacksPromptsError:
        return None
    embed = embedder()
    return [look_at(measure_clip(*pair), embed) for pair in zip(storyboards, clips, strict=True)]


@cache
def embedder() -> Embedder:
    """The eye of this process."""
    return load_embedder()


@cache
def pipeline_of(model: Model) -> Pipeline:
    """The model of this process."""
    return load_pipeline(model)


def tasks_of(
    models: Sequence[Model],
    lengths: Sequence[int],
    join: str,
    methods: Mapping[str, Method],
    seeds: Sequence[int],
) -> list[Task]:
    """All that is to be made, in parts of BATCH storyboards; lengths: beats of a storyboard."""
    return [
        Task(model, beats, join, name, method, part)
        for model in models
        for beats in lengths
        for name, method in methods.items()
        for part in parts_of(seeds, beats)
    ]


def parts_of(seeds: Sequence[int], beats: int) -> list[tuple[int, ...]]:
    """Seeds whose storyboards can be made together, because their scenes change at the same places; BATCH at most."""
    alike: dict[tuple[bool, ...], list[int]] = {}
    for seed in seeds:
        alike.setdefault(make_storyboard(seed, beats).new_scenes, []).append(seed)
    return [
        tuple(together[start : start + BATCH])
        for together in alike.values()
        for start in range(0, len(together), BATCH)
    ]


def rows_of(found: Mapping[Cell, Sequence[Seen]], seed: int) -> list[Row]:
    """One row for every model, number of beats and method, and one for what the mask adds."""
    rows: list[Row] = []
    for (model, beats, join, method), seen in found.items():
        isolated = found[model, beats, join, "isolated"]
        columns = {name: [one.contributions[name] for one in seen] for name in seen[0].contributions}
        figures = {name: confidence.mean(values) for name, values in columns.items()}
        intervals = {name: confidence.interval(columns[name], seed) for name in JUDGED}
        rows.append(
            row_of((model, beats, join, method), figures, intervals, mean_speed_of(seen) / mean_speed_of(isolated))
        )
    for model, beats, join in dict.fromkeys(cell[:3] for cell in found):
        first, second = found[model, beats, join, MASKED], found[model, beats, join, UNMASKED]
        pairs = {
            name: tuple([one.contributions[name] for one in seen] for seen in (first, second))
            for name in first[0].contributions
        }
        figures = {name: _difference(*pair) for name, pair in pairs.items()}
        intervals = {name: confidence.interval_of_difference(*pairs[name], seed) for name in JUDGED}
        motion = (mean_speed_of(first) - mean_speed_of(second)) / mean_speed_of(found[model, beats, join, "isolated"])
        rows.append(row_of((model, beats, join, f"{MASKED} - {UNMASKED}"), figures, intervals, motion))
    return rows


def row_of(
    cell: Cell, figures: Mapping[str, float | None], intervals: Mapping[str, list[float] | None], motion: float
) -> Row:
    """A row of the table; `NAME_ci` is the 95 % interval of NAME."""
    model, beats, join, method = cell
    row: dict[str, Value] = {"model": model, "beats": beats, "join": join, "method": method}
    for name, value in figures.items():
        row[name] = value
        if name in intervals:
            row[f"{name}_ci"] = intervals[name]
        if name == "seam":
            row["motion"] = motion
    return row


def mean_speed_of(seen: Sequence[Seen]) -> float:
    """How far the subject moves per picture, in frame sides."""
    return sum(one.speed for one in seen) / len(seen)


def _difference(first: confidence.Contributions, second: confidence.Contributions) -> float | None:
    one, other = confidence.mean(first), confidence.mean(second)
    return None if one is None or other is None else one - other


def measure(tasks: Sequence[Task], steps: int, processes: int, kept: Kept) -> dict[Cell, list[Seen]]:
    """What every cell's storyboards show, in the order of the tasks; tasks that are `kept` are not made again."""
    waiting = [task for task in tasks if task not in kept]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool:
        results = pool.map(run_task, waiting, repeat(steps))
        for done, (task, seen) in enumerate(zip(waiting, results, strict=True), start=1 + len(tasks) - len(waiting)):
            kept.put(task, seen)
            show_progress(done, len(tasks), "batches")
    found: dict[Cell, list[Seen]] = {}
    for task in tasks:
        seen = kept.get(task)
        if seen is not None:
            found.setdefault(task.cell, []).extend(seen)
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="identity, adherence and side effects of every method")
    parser.add_argument("--storyboards", type=int, default=STORYBOARDS, help="of each length, by each method")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=BOTH_KINDS, help="which embedded models")
    parser.add_argument("--join", choices=tuple(JOINS), default=SCENES, help="how segments meet")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--quick", action="store_true", help="a tenth of it")
    parser.add_argument("--keep", type=Path, help="keep finished batches in this file, and go on from it")
    options = parser.parse_args()
    storyboards = QUICK_STORYBOARDS if options.quick else options.storyboards
    if storyboards < 1 or options.processes < 1:
        parser.error("--storyboards and --processes must be at least 1")
    seeds = range(FIRST_SEED, FIRST_SEED + storyboards)
    tasks = tasks_of(options.models, BEATS, options.join, METHODS, seeds)
    found = measure(tasks, STEPS, options.processes, Kept(options.keep))
    publish(make_result("quality", FIRST_SEED, rows_of(found, FIRST_SEED), find_host()), options.json)


if __name__ == "__main__":
    main()
