"""What each setting does: the shipped settings with one of them changed at a time, in storyboards of three beats.

python -m bench.studies [--study NAME ...] [--models NAME ...] [--setting 20-steps] [--storyboards 16] [--json FILE]
    [--figures FOLDER]

Its storyboards are none of those whose figures are published: on these, settings were chosen.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from devtools.environment import find_host

from .confidence import interval, mean
from .form import Row, Value, make_result, publish
from .kept import Cell, Kept, Seen, Task
from .methods import METHODS, Method
from .pipeline import BOTH_KINDS, MODELS, STEPS, Model
from .quality import mean_speed_of, measure, parts_of
from .settings import GUIDED, SETTINGS, Setting, missing
from .storyboards import JOINS, SCENES

BEATS = 3
STORYBOARDS = 16
FIRST_SEED = 600
INTERVALS = ("identity", "adherence")


@dataclass(frozen=True)
class Variant:
    """One value of the setting that a study is about."""

    name: str
    method: Method
    join: str = SCENES


def with_config(name: str, **values: Any) -> Variant:
    """The shipped settings with `values` changed."""
    shipped = METHODS["kvshare"]
    return Variant(name, replace(shipped, config=replace(shipped.config, **values)))


def with_masks(name: str, **values: Any) -> Variant:
    """The shipped settings with `values` of the mask changed."""
    return with_config(name, masks=replace(METHODS["kvshare"].config.masks, **values))


def number(value: float) -> str:
    """How a value is named in rows."""
    return f"{value:g}"


def part(start: int, stop: int) -> str:
    """How steps or blocks from `start` to before `stop` are named; -1 is the end."""
    return f"from {start}" if stop == -1 else f"{start} to {stop - 1}"


def studies(steps: int = STEPS) -> Mapping[str, tuple[Variant, ...]]:
    """All studies by name, of films that are sampled in so many steps."""
    quarter, half = steps // 4, steps // 2
    shipped = Variant("shipped", METHODS["kvshare"])
    unguided = Variant("everything", replace(METHODS["kvshare"], guided=False))
    return {
        "strength": tuple(with_config(number(value), strength=value) for value in (0.25, 0.5, 0.75, 1.0)),
        "sources": tuple(with_config(name, sources=name) for name in ("first", "previous", "first and previous")),
        "order": (
            Variant("lockstep 0.5", METHODS["kvshare"]),
            *(
                with_config(f"sources_first {number(value)}", order="sources_first", strength=value)
                for value in (0.5, 0.6, 0.75)
            ),
        ),
        "mode": tuple(
            with_config(name, mode=mode, strength=strength)
            for name, mode, strength in (
                ("swap 0.5", "swap", 0.5),
                ("extend 1", "extend", 1.0),
                ("replace 0.5", "replace", 0.5),
                ("replace 1", "replace", 1.0),
            )
        ),
        "what is shared": (shipped, with_config("subject and background", share_background=True), unguided),
        "mask kind": (
            with_masks("appearance", kind="appearance"),
            with_masks("contrast", kind="contrast", thres=0.5),
            with_masks("threshold", kind="threshold", thres=0.3),
        ),
        "mask start": (with_masks("effect", start="effect"), with_masks("maps", start="maps")),
        "threshold": tuple(with_masks(number(value), thres=value) for value in (0.5, 0.6, 0.7, 0.75, 0.8)),
        "rim": tuple(with_masks(number(value), rim=value) for value in (0, 1, 2)),
        "mask frozen after": tuple(with_masks(number(value), freeze_after=value) for value in (0.25, 0.5, 0.75, 1.0)),
        "position": (
            *(with_config(name, position=name) for name in ("centred", "same", "matched", "frame")),
            with_config("gap of 5", position="gap", position_gap=5),
        ),
        "key contrast": tuple(with_config(number(value), key_contrast=value) for value in (0.9, 1.0, 1.1, 1.2)),
        "token dropout": tuple(with_config(number(value), token_dropout=value) for value in (0.0, 0.25, 0.5)),
        "steps": tuple(
            with_config(part(start, stop), start_step=start, end_step=stop)
            for start, stop in ((0, -1), (0, quarter), (0, half), (quarter, -1), (half, -1))
        ),
        "blocks": tuple(
            with_config(part(start, stop), start_layer=start, end_layer=stop)
            for start, stop in ((0, -1), (0, 4), (2, 6), (4, -1), (6, -1))
        ),
        "transition": tuple(Variant(join, METHODS["kvshare"], join) for join in JOINS),
        "noise": (shipped, Variant("freenoise", replace(METHODS["kvshare"], freenoise=True))),
    }


def tasks_of(
    setting: Setting, models: Sequence[Model], chosen: Mapping[str, Sequence[Variant]], seeds: Sequence[int]
) -> list[Task]:
    """What the studies need, each computation once, and isolated segments to compare motion with."""
    isolated = Variant("isolated", METHODS["isolated"], "cut")
    needed = dict.fromkeys((variant.method, variant.join) for variants in chosen.values() for variant in variants)
    return [
        Task(setting, model, BEATS, join, name_of(method), method, part)
        for model in models
        for method, join in dict.fromkeys([(isolated.method, isolated.join), *needed])
        for part in parts_of(seeds, BEATS)
    ]


def name_of(method: Method) -> str:
    """A name that no other method has."""
    return repr(method)


def rows_of(chosen: Mapping[str, Sequence[Variant]], found: Mapping[Cell, Sequence[Seen]]) -> list[Row]:
    """One row for every variant on every model."""
    rows: list[Row] = []
    made_by: dict[tuple[str, Model], None] = dict.fromkeys((cell.setting, cell.model) for cell in found)
    for study, variants in chosen.items():
        for setting, model in made_by:
            isolated = mean_speed_of(found[Cell(setting, model, BEATS, "cut", name_of(METHODS["isolated"]))])
            for variant in variants:
                seen = found[Cell(setting, model, BEATS, variant.join, name_of(variant.method))]
                row: dict[str, Value] = {"study": study, "setting": setting, "model": model, "variant": variant.name}
                for name in seen[0].contributions:
                    values = [one.contributions[name] for one in seen]
                    row[name] = mean(values)
                    if name in INTERVALS:
                        row[f"{name}_ci"] = interval(values, FIRST_SEED)
                row["motion"] = mean_speed_of(seen) / isolated
                rows.append(row)
    return rows


def main() -> None:
    """The command line."""
    everything = studies()
    parser = argparse.ArgumentParser(description="one setting changed at a time")
    parser.add_argument("--study", nargs="+", choices=tuple(everything), default=tuple(everything))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=BOTH_KINDS, help="which embedded models")
    parser.add_argument("--setting", choices=tuple(SETTINGS), default=GUIDED.name, help="how films are sampled")
    parser.add_argument("--storyboards", type=int, default=STORYBOARDS)
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--keep", type=Path, help="keep finished batches in this file, and go on from it")
    parser.add_argument("--figures", type=Path, help="draw a figure of each study into this folder")
    options = parser.parse_args()
    if options.storyboards < 1 or options.processes < 1:
        parser.error("--storyboards and --processes must be at least 1")
    setting = SETTINGS[options.setting]
    problem = missing(options.models, [setting])
    if problem is not None:
        parser.error(problem)
    chosen = {name: studies(setting.steps)[name] for name in options.study}
    seeds = range(FIRST_SEED, FIRST_SEED + options.storyboards)
    kept = Kept(options.keep)
    tasks = tasks_of(setting, options.models, chosen, seeds)
    rows = rows_of(chosen, measure(tasks, options.processes, kept))
    publish(make_result("studies", FIRST_SEED, rows, find_host()), options.json)
    if options.figures is not None:
        from .figures import draw_studies

        draw_studies(rows, options.figures)


if __name__ == "__main__":
    main()
