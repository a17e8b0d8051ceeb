"""What dividing one film among several GPUs gains: evaluations, bytes and time, from the split that workers use
(kvshare_core/plan/worker_split.py) and the computation of the released models (bench/results/plans.json). Nothing is
run.

python -m bench.scaling [--json FILE]
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

from kvshare_core.config import KVShareConfig
from kvshare_core.plan.share_plan import SharePlan
from kvshare_core.plan.worker_split import MIB, split_segments
from kvshare_core.script.film import Script, ScriptBeat
from kvshare_core.timeline.planning import plan_timeline

from .form import ROOT, Row, make_result, publish
from .released import RELEASED

TFLOPS = 400.0
"""Of one GPU in bf16, reached and not promised: about half of what an H100 is sold with."""
LOCAL_GB = 8.0
"""GB a second between processes of one machine, through its memory."""
NETWORK_GB = 1.25
"""GB a second between machines: 10 Gbit/s Ethernet."""
NUMBER_BYTES = 4
FILM = 16
"""Segments of the films in the table of machines."""


@dataclass(frozen=True)
class Model:
    """A model, by its row in plans.json. lists: conditionings that the sampler asks for in a step."""

    name: str
    row: str
    lists: int


MODELS = (
    # An expert of A14B has the layers of 2.1-14B.
    Model("Wan 2.2 A14B 720p, one expert", "Wan 2.1-14B 720p 81 frames", 2),
    Model("LTX-2.3 704x1280, one list", "LTX-2.3 704x1280 121 frames", 1),
    Model("MiniMax H3 768x1344, 15 s, one list", "MiniMax H3 768x1344 362 frames", 1),
)
MACHINES = ((1, 1), (1, 2), (1, 4), (1, 8), (4, 8))
"""Machines, and GPUs in each."""
CURVE = (1, 2, 4, 8, 16, 32, 64)
FILMS = (4, 16, 64, 256)


def measure_scaling() -> list[Row]:
    """A row for each model on each set of machines, and for films of 4 to 256 beats on 1 to 64 GPUs of the first
    model in machines of 8."""
    told = json.loads((ROOT / "bench" / "results" / "plans.json").read_text(encoding="utf-8"))["rows"]
    tflop = {row["model"]: row["total_tflop"] for row in told}
    rows = [
        scaling_row(model, tflop[model.row], FILM, machines, gpus) for model in MODELS for machines, gpus in MACHINES
    ]
    first = MODELS[0]
    rows += [
        scaling_row(first, tflop[first.row], segments, max(1, workers // 8), min(workers, 8))
        for segments in FILMS
        for workers in CURVE
    ]
    return rows


def scaling_row(model: Model, tflop: float, segments: int, machines: int, gpus: int) -> Row:
    """One film of a beat for each segment whose sources are the first one. tflop: of one evaluation."""
    plan, workers = film_plan(segments), machines * gpus
    split = split_segments(plan, workers)
    slowest = max(span.evaluations for span in split.spans)
    released = next(one for one in RELEASED if one.name == model.row)
    piece = released.channels * math.prod(released.latent) * NUMBER_BYTES
    one_evaluation = model.lists * tflop / TFLOPS
    alone = segments * one_evaluation
    wire = split.wire_bytes(piece, model.lists)
    # The workers of the machine with the sampler get theirs through its memory.
    away = wire * (machines - 1) / machines
    wire_seconds = 0.0 if workers == 1 else (wire - away) / LOCAL_GB / 1e9 + away / NETWORK_GB / 1e9
    seconds = slowest * one_evaluation + wire_seconds
    return {
        "model": model.name,
        "segments": segments,
        "machines": machines,
        "gpus": workers,
        "workers_used": len(split.spans),
        "evaluations": sum(span.evaluations for span in split.spans),
        "slowest": slowest,
        "wire_mib_per_call": wire / MIB if workers > 1 else 0.0,
        "wire_seconds": wire_seconds,
        "seconds_alone": alone,
        "seconds_per_call": seconds,
        "speedup": alone / seconds,
        "efficiency": alone / seconds / workers,
    }


def film_plan(segments: int) -> SharePlan:
    """A film of as many beats, each of one segment."""
    beats = tuple(ScriptBeat(f"prompt {number}") for number in range(segments))
    return SharePlan(plan_timeline(Script(beats), 21, 2, 16, 4), KVShareConfig(sources="first"))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="what several GPUs gain for one film, without running it")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    publish(make_result("scaling", 0, measure_scaling(), None), options.json)


if __name__ == "__main__":
    main()
