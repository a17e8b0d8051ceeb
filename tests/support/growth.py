"""How the time of a computation grows with the size of its input, judged by ratios on the same machine."""

import gc
import time
from collections.abc import Callable

TIMES_LARGER = 6
MOST = 2.5
"""How many times longer than in proportion the larger input may take; a quadratic reader takes TIMES_LARGER times."""
LEAST_SECONDS = 2e-3
"""Less is not measured: the noise of the clock and of memory would decide."""
TRIES = 4


def assert_linear(run: Callable[[int], object], size: int) -> None:
    """The best of several tries of `run(TIMES_LARGER * size)` takes less than MOST * TIMES_LARGER times as long as
    that of `run(size)`. Whatever `run` prepares counts too, so it must be linear itself."""
    small, large = float("inf"), float("inf")
    for _ in range(TRIES):
        small, large = min(small, _seconds(run, size)), min(large, _seconds(run, TIMES_LARGER * size))
        if large <= MOST * TIMES_LARGER * max(small, LEAST_SECONDS):
            return
    raise AssertionError(f"{size}: {small:.4f} s, {TIMES_LARGER * size}: {large:.4f} s")


def _seconds(run: Callable[[int], object], size: int) -> float:
    """Processor time, without the collector, whose share grows with what else the process holds."""
    gc.collect()
    gc.disable()
    try:
        start = time.process_time()
        run(size)
        return time.process_time() - start
    finally:
        gc.enable()
