"""One film by one process with one thread, and by two workers with one thread each: time, equality, what travels.

Needs two free cores and the package Ray. The runs take turns, so that a change of the machine's pace meets both.

python -m bench.workers [--json FILE] [--rounds N] [--steps N]
"""

import argparse
import os
import time
from pathlib import Path
from statistics import median
from typing import Any

from devtools.environment import find_host
from devtools.inprocess import enter_host, load_pack

SEGMENTS = 16
WORKERS = 2
SIDE = 24
"""Height and width of the latent."""
CFG = 4.0


def measure_workers(rounds: int, steps: int) -> list[dict[str, Any]]:
    """A row for one process and one for two workers; seconds are medians over the rounds, after one that starts the
    workers and loads the model. equal: whether all latents are those of the first run, bit for bit."""
    import comfy.sample
    import torch

    from kvshare_core.config import KVShareConfig
    from kvshare_core.host.conditioning.encoding import encode_timeline
    from kvshare_core.host.loading.loading import EMBEDDED, load_video_model
    from kvshare_core.host.loading.model_info import model_info
    from kvshare_core.host.sampling.patch import apply
    from kvshare_core.host.workers.pool import close_pool
    from kvshare_core.host.workers.settings import WorkerSettings
    from kvshare_core.host.workers.workers import with_workers
    from kvshare_core.plan.making import make_plan
    from kvshare_core.plan.worker_split import MIB, split_segments
    from kvshare_core.script.film import Script, ScriptBeat
    from kvshare_core.timeline.planning import plan_timeline

    torch.set_num_threads(1)
    model, clip, _ = load_video_model(EMBEDDED, EMBEDDED, EMBEDDED, "default")
    info = model_info(model)[1]
    beats = tuple(ScriptBeat(f"a red circle moves {way}") for way in ("right", "left") * (SEGMENTS // 2))
    planned = plan_timeline(Script(beats), info.native_frames, 1, 8, info.compression[0])
    timeline, positive, negative = encode_timeline(clip, planned, "")
    plan = make_plan(timeline, KVShareConfig(), "circle", None)
    patched, _ = apply(model, plan)
    models = {1: patched, WORKERS: with_workers(patched, WorkerSettings(workers=WORKERS))}
    shape = (1, info.latent_channels, timeline.latent_frames, SIDE, SIDE)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    seconds: dict[int, list[float]] = {count: [] for count in models}
    equal = dict.fromkeys(models, True)
    first: torch.Tensor | None = None
    for number in range(rounds + 1):
        for count, sampled in models.items():
            began = time.perf_counter()
            with torch.inference_mode():
                latent: Any = comfy.sample.sample(
                    sampled,
                    noise,
                    steps,
                    CFG,
                    "euler",
                    "simple",
                    positive,
                    negative,
                    torch.zeros(shape),
                    disable_pbar=True,
                    seed=0,
                )
            if number:
                seconds[count].append((time.perf_counter() - began) / steps)
            first = latent if first is None else first
            equal[count] = equal[count] and torch.equal(first, latent)
    close_pool()
    piece = info.latent_channels * timeline.window * SIDE * SIDE * 4
    alone = median(seconds[1])
    rows: list[dict[str, Any]] = []
    for count in models:
        split = split_segments(plan, count)
        rows.append(
            {
                "workers": count,
                "segments": len(timeline.segments),
                "seconds_per_call": median(seconds[count]),
                "speedup": alone / median(seconds[count]),
                "evaluations": sum(span.evaluations for span in split.spans),
                "wire_mib_per_call": split.wire_bytes(piece, 2) / MIB if count > 1 else 0.0,
                "equal": equal[count],
            }
        )
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="one film by one process and by two workers")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each, in turns")
    parser.add_argument("--steps", type=int, default=4, help="steps of each run")
    options = parser.parse_args()
    # Before torch is imported, here and in the workers.
    os.environ["OMP_NUM_THREADS"] = "1"
    host = find_host()
    enter_host(host)
    load_pack()
    from .form import make_result, publish

    publish(make_result("workers", 0, measure_workers(options.rounds, options.steps), host), options.json)


if __name__ == "__main__":
    main()
