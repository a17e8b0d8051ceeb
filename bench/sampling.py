"""What a step of sampling costs with the pack, over the same segments without it.

python3 dev.py bench sampling [--rounds 3] [--processes 1] [--json FILE] [--quick]

Models of random weights, large enough that attention and matrix products take nearly all of the time: 1,024 video
tokens a segment, 256 channels, 3 blocks. Every method samples the same film by the stock sampler, on one thread; in
every round all of them take turns, and ratios are medians of the rounds' own. Time is that of the processor; the wall's
is beside it, and longer where something else runs on the machine.

Methods:
    stock           the segments one after the other by a bare context handler without the pack, blended
    core windows    the host's own context windows, as long and as many as the segments, with its defaults: every window
                    but the first has a frame more in front
    off             the pack with mode off, and the record of the run not read
    off, record     the same for a preview of the subject, which is looked for then
    kvshare         the defaults: the subject is looked for by its word, in the first step by the effect of hiding it
    sources_first   the defaults in that order
    ditctrl         the paper's preset, in every step, in the last block
    released order  what the paper's code evaluates in every step, by the bare handler: neighbours in pairs, so that all
                    but the first and the last segment are evaluated twice; nothing is shared

Columns:
    seconds_per_step    of a step after the first
    first_step          the first step over such a one
    over_stock          a step after the first over that of `stock`
    wall_over_stock     the same by the wall's clock
    peak_mib            most that the tensors of a run of two steps hold beyond the model
    subject             part of the video's tokens that is subject, of all segments, None where nothing is looked for
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from devtools.environment import find_host
from kvshare_core.config import KVShareConfig
from kvshare_core.timeline.timeline import Timeline

from .form import Row, make_result, publish, show_progress
from .host_process import start_host
from .meters import StorageMeter
from .methods import OFF, PAPER, SHARING

STEPS = 2
SEGMENTS, GUIDANCES = (4, 7), (1.0, 3.0)
MIB = 2**20
WORD = "fox"
"""The subject, which every prompt of `tiny_timeline` names."""
PAPER_EVERYWHERE = replace(PAPER, start_percent=0.0, end_percent=1.0)
CONFIGS: Mapping[str, KVShareConfig] = {
    "off": OFF,
    "off, record": OFF,
    "kvshare": SHARING,
    "sources_first": replace(SHARING, order="sources_first"),
    "ditctrl": PAPER_EVERYWHERE,
}
"""The pack's methods."""
METHODS = ("stock", "core windows", *CONFIGS, "released order")


@dataclass(frozen=True)
class Size:
    """How large the models are. side: latent cells along a picture's side, two to a token."""

    heads: int
    blocks: int
    frames: int
    side: int
    text: int


FULL = Size(heads=2, blocks=3, frames=4, side=32, text=64)
QUICK = Size(heads=1, blocks=2, frames=3, side=6, text=6)


@dataclass(frozen=True)
class Subject:
    """A MODEL of the host, and the conditioning of a timeline for it: positive, negative."""

    name: str
    model: Any
    conditioning: Callable[[Timeline], tuple[Any, Any]]


@dataclass(frozen=True)
class Timing:
    """Seconds of one run's first step and of one after it, by the processor and by the wall."""

    first: float
    later: float
    wall: float


def models(size: Size) -> list[Subject]:
    """One model with a cross-attention to its text, and one whose text is part of its attention."""
    from tests.support.windows import beat_prompts, joint_beat_prompts
    from tests.tiny.models import joint_text, one_prompt, sized_wan, tiny_hunyuan

    def crossed(timeline: Timeline) -> tuple[Any, Any]:
        return beat_prompts(timeline, size.text), one_prompt(tokens=size.text)

    def joined(timeline: Timeline) -> tuple[Any, Any]:
        return joint_beat_prompts(timeline, size.text), [list(joint_text(99, size.text))]

    half = size.blocks // 2
    return [
        Subject("wan", sized_wan(size.heads, size.blocks), crossed),
        Subject("hunyuan video", tiny_hunyuan(half, size.blocks - half, size.heads), joined),
    ]


class Clock:
    """Times the model calls of runs, one of which is a step of the sampler `euler`."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, float]] = []
        """Seconds of each call so far, by the processor and by the wall."""

    def on(self, model: Any) -> Any:
        """A clone of `model` whose calls are timed."""
        from comfy.patcher_extension import WrappersMP

        clone = model.clone()
        clone.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "bench", self._call)
        return clone

    def _call(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        before = time.process_time(), time.perf_counter()
        result = executor(*args, **kwargs)
        self.calls.append((time.process_time() - before[0], time.perf_counter() - before[1]))
        return result

    def take(self, steps: int) -> Timing:
        """What the calls of one run took, which may have several stages of so many steps; forgets them."""
        stages = [self.calls[start : start + steps] for start in range(0, len(self.calls), steps)]
        self.calls = []
        return Timing(
            sum(stage[0][0] for stage in stages),
            sum(statistics.mean(cpu for cpu, _ in stage[1:]) for stage in stages),
            sum(statistics.mean(wall for _, wall in stage[1:]) for stage in stages),
        )


@dataclass(frozen=True)
class Run:
    """One method on one film: samples it in so many steps, to a latent."""

    sample: Callable[[int], torch.Tensor]
    subject: Callable[[], float | None]
    """Of the newest run, as the column."""


def runs(subject: Subject, size: Size, segments: int, cfg: float, clock: Clock) -> dict[str, Run]:
    """By name the methods that the host can run."""
    from kvshare_core.host.sampling.patch import apply
    from kvshare_core.plan.making import make_plan
    from kvshare_core.record.record import KVShareRecord
    from tests.support.windows import PlainWindows, latent_shape, tiny_timeline
    from tests.tiny.models import Sampling

    from .pipeline import HostLacksPromptsError, host_windows, without_beats

    timeline = tiny_timeline(segments, size.frames, 1)
    positive, negative = subject.conditioning(timeline)
    shape = latent_shape(timeline, side=size.side)

    def run(model: Any, prompts: Any = positive, record: KVShareRecord | None = None) -> Run:
        timed = clock.on(model)

        def sample(steps: int) -> torch.Tensor:
            return Sampling(steps, cfg).run(timed, prompts, negative, shape)

        def part() -> float | None:
            found = None if record is None else record.latest()
            return None if found is None else float(found.mask.mean())

        return Run(sample, part)

    found = {"stock": run(PlainWindows(timeline).on(subject.model))}
    try:
        found["core windows"] = run(host_windows(subject.model, timeline), without_beats(positive))
    except HostLacksPromptsError:
        # Older hosts have no windows that this could be compared with.
        pass
    for name, config in CONFIGS.items():
        # Without a subject a run that shares nothing looks for none, as it does where nobody reads its record.
        word = "" if name == "off" else WORD
        model, record = apply(subject.model, make_plan(timeline, config, word, None))
        found[name] = run(model, record=record)
    return {**found, "released order": run(_in_pairs(timeline).on(subject.model))}


def _in_pairs(timeline: Timeline) -> Any:
    """A bare handler that evaluates neighbours in pairs."""
    from tests.support.windows import PlainWindows

    pairs = [segment for pair in zip(timeline.segments, timeline.segments[1:], strict=False) for segment in pair]
    return PlainWindows(replace(timeline, segments=tuple(pairs)))


def measure(subject: Subject, size: Size, segments: int, cfg: float, rounds: int) -> list[Row]:
    """One row for each method."""
    clock = Clock()
    found = runs(subject, size, segments, cfg, clock)
    peaks: dict[str, float] = {}
    for name, run in found.items():
        with StorageMeter() as meter:
            run.sample(2)
        peaks[name] = meter.peak_bytes / MIB
        clock.take(2)
    timings: dict[str, list[Timing]] = {name: [] for name in found}
    for number in range(rounds):
        names = list(found)
        # Each round begins with another method, so that none always follows the same one.
        for name in names[number % len(names) :] + names[: number % len(names)]:
            gc.collect()
            found[name].sample(STEPS)
            timings[name].append(clock.take(STEPS))
    stock = timings["stock"]
    return [
        {
            "model": subject.name,
            "segments": segments,
            "cfg": cfg,
            "method": name,
            "seconds_per_step": statistics.median(one.later for one in timings[name]),
            "first_step": statistics.median(one.first / one.later for one in timings[name]),
            "over_stock": _ratio(timings[name], stock, lambda one: one.later),
            "wall_over_stock": _ratio(timings[name], stock, lambda one: one.wall),
            "peak_mib": peaks[name],
            "subject": found[name].subject(),
        }
        for name in found
    ]


def _ratio(own: list[Timing], stock: list[Timing], figure: Callable[[Timing], float]) -> float:
    return statistics.median(figure(one) / figure(other) for one, other in zip(own, stock, strict=True))


@dataclass(frozen=True)
class Cell:
    """A film on a model, by the model's place among `models`."""

    model: int
    size: Size
    segments: int
    cfg: float
    rounds: int

    def measure(self) -> list[Row]:
        """Its rows; the host must run."""
        return measure(models(self.size)[self.model], self.size, self.segments, self.cfg, self.rounds)


def measure_cells(cells: Sequence[Cell], processes: int, keep: Callable[[list[Row]], None]) -> list[Row]:
    """All rows, several films at a time where there are several `processes`; keep: is given those so far, film by
    film."""
    rows: list[Row] = []
    with ProcessPoolExecutor(processes, get_context("spawn"), start_host) as pool:
        for number, found in enumerate(pool.map(Cell.measure, cells), start=1):
            rows += found
            keep(rows)
            show_progress(number, len(cells), "films")
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="what a step of sampling costs with the pack")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1, help="films that are measured at the same time")
    parser.add_argument("--quick", action="store_true", help="tiny models and one round, to see that it runs")
    options = parser.parse_args()
    if options.rounds < 1 or options.processes < 1:
        parser.error("--rounds and --processes must be at least 1")
    cells = [Cell(model, QUICK, SEGMENTS[0], GUIDANCES[0], 1) for model in range(2)]
    if not options.quick:
        films = product(SEGMENTS, GUIDANCES, range(2))
        cells = [Cell(model, FULL, segments, cfg, options.rounds) for segments, cfg, model in films]
    torch.set_num_threads(1)

    def keep(rows: list[Row]) -> None:
        if options.json is not None:
            options.json.write_text(make_result("sampling", 1, rows, find_host()).as_json(), encoding="utf-8")

    rows = measure_cells(cells, options.processes, keep)
    publish(make_result("sampling", 1, rows, find_host()), options.json)


if __name__ == "__main__":
    main()
