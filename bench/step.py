"""Where the time of a steady step goes, and the arithmetic that it needs at least.

python3 dev.py bench step [--json FILE] [--quick]

One step of the films of `bench sampling`, of four segments without guidance, when the subject is known and shared; on
one thread. All time is that of the processor; operations are timed one by one, in a run of their own.

Columns:
    step_ms         processor time of the step
    products_ms     matrix products and attention
    copies_ms       gathers, scatters, concatenations and copies
    others_ms       all other operations of torch
    outside_ms      the rest of step_ms: Python, and torch's own way into an operation
    gflop           floating-point operations of all products and of attention
    floor_gflop     those of `stock`, and for every query of a subject its scores with the source's keys of that subject
"""

import argparse
import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from devtools.environment import find_host

from .form import Row, make_result, publish
from .host_process import start_host
from .methods import OFF, SHARING
from .sampling import FULL, QUICK, WORD, Clock, Size, Subject, models

SEGMENTS = 4
STEPS = 3
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "attention", "linear", "matmul", "convolution")
COPIES = ("index_select", "index_copy", "cat", "copy_", "clone", "contiguous", "index_add", "gather", "scatter")
"""Parts of the names of torch's operations."""


def measure(subject: Subject, size: Size) -> list[Row]:
    """A row for each method."""
    from kvshare_core.host.sampling.patch import apply
    from kvshare_core.plan.making import make_plan
    from tests.support.windows import PlainWindows, latent_shape, tiny_timeline
    from tests.tiny.models import Sampling

    timeline = tiny_timeline(SEGMENTS, size.frames, 1)
    positive, negative = subject.conditioning(timeline)
    shape = latent_shape(timeline, side=size.side)
    plan = make_plan(timeline, SHARING, WORD, None)
    film, record = apply(subject.model, plan)

    def sample(model: Any, **steps: int) -> None:
        Sampling(STEPS, 1.0).run(model, positive, negative, shape, **steps)

    sample(film)
    found = {
        "stock": PlainWindows(timeline).on(subject.model),
        "off": apply(subject.model, make_plan(timeline, OFF, "", None))[0],
        # With the masks of the run before, which a run that does not begin with pure noise uses from its first step on.
        "kvshare": apply(subject.model, plan, record)[0],
    }
    masks = record.latest()
    assert masks is not None and masks.segments is not None
    further = pairs([mask for mask in masks.segments.masks if mask is not None], plan, size)
    further_gflop = 4e-9 * 128 * size.heads * size.blocks * further

    def steady(model: Any) -> None:
        sample(model, start_step=1, last_step=2)

    gflop = {name: counted(partial(steady, model)) for name, model in found.items()}
    floor = {name: gflop["stock"] + (further_gflop if name == "kvshare" else 0.0) for name in found}
    return [
        {
            "model": subject.name,
            "method": name,
            **profiled(model, steady),
            "gflop": gflop[name],
            "floor_gflop": floor[name],
        }
        for name, model in found.items()
    ]


def pairs(masks: list[torch.Tensor], plan: Any, size: Size) -> int:
    """How many scores of a subject's queries with a source's keys there are in one block. masks: of every segment
    [1, 1, tokens], without the rim that is shared too."""
    from kvshare_core.subject.maps import with_rim

    grid = (size.frames, size.side // 2, size.side // 2)
    counts = [int(with_rim(mask, plan.config.masks.rim, grid).sum()) for mask in masks]
    return sum(counts[index] * counts[source] for index in range(len(counts)) for source in plan.sources(index))


def counted(run: Callable[[], object]) -> float:
    """Floating-point operations of what `run` computes, in units of 10^9."""
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # pyright: ignore[reportPrivateUsage]
    with FlopCounterMode(display=False, custom_mapping={fused: attention_flops}) as counter:
        run()
    return counter.get_total_flops() / 1e9


def attention_flops(query: Sequence[int], key: Sequence[int], *_: Any, **__: Any) -> int:
    """Floating-point operations of one attention, by the shapes [rows, heads, tokens, head_dim]."""
    return 4 * math.prod(query) * key[2]


def profiled(model: Any, run: Callable[[Any], None]) -> dict[str, float]:
    """The columns of time of the one model call that `run` makes, first as a whole and then operation by operation."""
    from comfy.patcher_extension import WrappersMP

    clock = Clock()
    for _ in range(2):
        run(clock.on(model))
    found = {"step_ms": 1e3 * clock.calls[-1][0], "products_ms": 0.0, "copies_ms": 0.0, "others_ms": 0.0}

    def call(executor: Any, *args: Any, **kwargs: Any) -> Any:
        with OperationClock() as seen:
            result = executor(*args, **kwargs)
        for operation, seconds in seen.seconds.items():
            found[_column(operation)] += 1e3 * seconds
        return result

    watched = model.clone()
    watched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "bench", call)
    run(watched)
    inside = found["products_ms"] + found["copies_ms"] + found["others_ms"]
    return {**found, "outside_ms": max(0.0, found["step_ms"] - inside)}


class OperationClock(TorchDispatchMode):
    """Adds up the processor time of every operation while it is active, by the operation's name."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = time.thread_time()
        result = func(*args, **(kwargs or {}))
        self.seconds[str(func)] += time.thread_time() - before
        return result


def _column(operation: str) -> str:
    if any(name in operation for name in PRODUCTS):
        return "products_ms"
    return "copies_ms" if any(name in operation for name in COPIES) else "others_ms"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="where the time of a steady step goes")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--quick", action="store_true", help="tiny models, to see that it runs")
    options = parser.parse_args()
    start_host()
    size = QUICK if options.quick else FULL
    rows = [row for subject in models(size) for row in measure(subject, size)]
    publish(make_result("step", 1, rows, find_host()), options.json)


if __name__ == "__main__":
    main()
