"""Identity, the prompt, and what sharing costs besides: storyboards of three and five beats by every method.

python -m bench.quality [--settings 20-steps 8-steps 4-steps] [--storyboards N] [--json FILE] [--quick] [--keep FILE]

It samples in 20 steps with guidance, and in 8 and in 4 steps at cfg 1 with the models' LoRAs for few steps, by fewer
methods. Every storyboard leaves colour, pattern and size of its subject open. Identity has three figures: appearance
(colour and pattern), size, and both. Methods get the same prompts and the same noise. Two processes share the work
where there are two cores; how much is made of what is printed first.
"""

import argparse
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import torch

from devtools.environment import find_host

from . import confidence, side_effects
from .embedder import Embedder, load_embedder
from .form import Row, Value, make_result, publish, show_progress
from .kept import Cell, Kept, Seen, Task
from .measures import Measured, adherence, identity, keeps_appearance, keeps_colour, keeps_size, mean_speed, seam_ratios
from .methods import METHODS
from .pipeline import BOTH_KINDS, MODELS, HostLacksPromptsError, Model, models_of
from .settings import FEW_STEP_PARTS, GUIDED, SETTINGS, Setting, missing, pipeline_of, usable
from .storyboards import JOINS, SCENES, make_storyboard, measure_clip

BEATS = (3, 5)
STORYBOARDS, LARGE_STORYBOARDS, QUICK_STORYBOARDS = 16, 6, 8
"""Of each length, in the full form and for the models of LARGE, and in the quick form."""
LARGE: tuple[Model, ...] = ("one-stream-attention",)
"""Models with so many tokens that the full form has less of them."""
BATCH = 8
"""Storyboards that are made together."""
FIRST_SEED = 2000
"""Seeds below were looked at while settings were chosen."""

JUDGED = ("identity", "appearance", "size", "adherence", "leak")
"""Figures with an interval."""
MASKED, UNMASKED = "kvshare", "kvshare_nomask"
"""The two methods whose difference is what the mask does."""
COMPARED = ("isolated", "concat", "ditctrl", UNMASKED, MASKED)
"""The methods that the aims are about: all that is made where there is no time for more."""


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
            "search_cost": [measured.search_cost],
        },
        mean_speed([measured]),
    )


def run_task(task: Task) -> list[Seen] | None:
    """Makes and measures the storyboards of a task; None where the host has not what the method needs."""
    torch.set_num_threads(1)
    storyboards = [make_storyboard(seed, task.beats) for seed in task.seeds]
    join = "overlap" if task.making.host_windows else task.join
    try:
        clips = pipeline_of(task.model, task.setting.few_steps).generate_all(
            [storyboard.lines(join) for storyboard in storyboards],
            task.seeds,
            overlap=JOINS[join],
            method=task.making,
            subjects=[storyboard.shape for storyboard in storyboards],
            steps=task.setting.steps,
            cfg=task.setting.cfg,
        )
    except HostLacksPromptsError:
        return None
    embed = embedder()
    return [look_at(measure_clip(*pair), embed) for pair in zip(storyboards, clips, strict=True)]


@cache
def embedder() -> Embedder:
    """The eye of this process."""
    return load_embedder()


@dataclass(frozen=True)
class Share:
    """What is made of one model by one setting: so many storyboards of each length, in beats, by some of METHODS."""

    setting: Setting
    model: Model
    storyboards: int
    lengths: tuple[int, ...]
    methods: tuple[str, ...]

    def __str__(self) -> str:
        lengths = " and of ".join(map(str, self.lengths))
        methods = ", ".join(self.methods)
        return f"{self.setting.name}, {self.model}: {self.storyboards} storyboards of {lengths} beats by {methods}"


def shares_of(
    settings: Sequence[Setting], models: Sequence[Model], quick: bool, storyboards: int | None = None
) -> list[Share]:
    """What is made in the full or the quick form; storyboards: of each length, in place of the form's own number. A
    model that there is no LoRA for few steps for is sampled by the others of the settings."""
    shares: list[Share] = []
    for setting, model in product(settings, models):
        if setting.few_steps and model not in FEW_STEP_PARTS:
            continue
        brief = quick or model in LARGE
        count = storyboards or (QUICK_STORYBOARDS if quick else LARGE_STORYBOARDS if brief else STORYBOARDS)
        lengths = BEATS[:1] if brief else BEATS
        shares.append(Share(setting, model, count, lengths, COMPARED if brief or setting != GUIDED else (*METHODS,)))
    return shares


def tasks_of(share: Share, join: str, first_seed: int = FIRST_SEED) -> list[Task]:
    """All that a share consists of, in parts of BATCH storyboards."""
    seeds = range(first_seed, first_seed + share.storyboards)
    return [
        Task(share.setting, share.model, beats, join, name, METHODS[name], part)
        for beats in share.lengths
        for name in share.methods
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
    """One row for every setting, model, number of beats and method, and one for what the mask adds."""
    rows: list[Row] = []
    for cell, seen in found.items():
        isolated = found[cell._replace(method="isolated")]
        columns = {name: [one.contributions[name] for one in seen] for name in seen[0].contributions}
        figures = {name: confidence.mean(values) for name, values in columns.items()}
        intervals = {name: confidence.interval(columns[name], seed) for name in JUDGED}
        rows.append(row_of(cell, figures, intervals, mean_speed_of(seen) / mean_speed_of(isolated)))
    for cell in dict.fromkeys(cell._replace(method=f"{MASKED} - {UNMASKED}") for cell in found):
        first, second = (found[cell._replace(method=method)] for method in (MASKED, UNMASKED))
        pairs = {
            name: ([one.contributions[name] for one in first], [one.contributions[name] for one in second])
            for name in first[0].contributions
        }
        figures = {name: _difference(*pair) for name, pair in pairs.items()}
        intervals = {name: confidence.interval_of_difference(*pairs[name], seed) for name in JUDGED}
        isolated = found[cell._replace(method="isolated")]
        motion = (mean_speed_of(first) - mean_speed_of(second)) / mean_speed_of(isolated)
        rows.append(row_of(cell, figures, intervals, motion))
    return rows


def row_of(
    cell: Cell, figures: Mapping[str, float | None], intervals: Mapping[str, list[float] | None], motion: float
) -> Row:
    """A row of the table; `NAME_ci` is the 95 % interval of NAME."""
    setting, model, beats, join, method = cell
    row: dict[str, Value] = {"setting": setting, "model": model, "beats": beats, "join": join, "method": method}
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


def measure(tasks: Sequence[Task], processes: int, kept: Kept) -> dict[Cell, list[Seen]]:
    """What every cell's storyboards show, in the order of the tasks; tasks that are `kept` are not made again."""
    waiting = [task for task in tasks if task not in kept]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool:
        results = pool.map(run_task, waiting)
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
    parser.add_argument("--storyboards", type=int, help="of each length, by each method, whatever the model")
    parser.add_argument("--models", nargs="+", choices=MODELS, help="which embedded models")
    parser.add_argument(
        "--settings", nargs="+", choices=tuple(SETTINGS), help="how to sample; all that there are LoRAs for"
    )
    parser.add_argument("--join", choices=tuple(JOINS), default=SCENES, help="how segments meet")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--quick", action="store_true", help="few storyboards, of three beats, on two models")
    parser.add_argument("--keep", type=Path, help="keep finished batches in this file, and go on from it")
    options = parser.parse_args()
    if options.processes < 1 or (options.storyboards is not None and options.storyboards < 1):
        parser.error("--storyboards and --processes must be at least 1")
    drawing: list[Model] = [model for model in models_of(find_host()) if model != "vit3d"]
    models: Sequence[Model] = options.models or (BOTH_KINDS if options.quick else drawing)
    settings, left_out = (
        usable(models) if options.settings is None else ([SETTINGS[name] for name in options.settings], None)
    )
    if left_out is not None:
        print(left_out, file=sys.stderr)
    shares = shares_of(settings, models, options.quick, options.storyboards)
    problem = missing((share.model for share in shares if share.setting.few_steps), settings)
    if problem is not None or not shares:
        parser.error(problem or f"the models have no LoRA for few steps; choose --settings {GUIDED.name}")
    print(*shares, sep="\n", flush=True)
    tasks = [task for share in shares for task in tasks_of(share, options.join)]
    found = measure(tasks, options.processes, Kept(options.keep))
    publish(make_result("quality", FIRST_SEED, rows_of(found, FIRST_SEED), find_host()), options.json)


if __name__ == "__main__":
    main()
