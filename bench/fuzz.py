"""Hostile input at every way in: how many errors say what is wrong, how long and how much memory any input takes.

python -m bench.fuzz [--scripts 100000] [--json FILE]
"""

import argparse
import importlib
import json
import logging
import re
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
from safetensors import SafetensorError

from .form import ROOT, Row, make_result, publish, show_progress
from .host_process import start_host

if TYPE_CHECKING:
    from .hostile import Kind

SEED = 1
LONGEST_MESSAGE = 2000
"""Characters of an error that people read to the end."""
QUICK_SCRIPTS = 200
MIB = 2**20
OURS = (ROOT / "kvshare_core", ROOT / "nodes")


def complaint(error: BaseException, named: str) -> str | None:
    """Why an error is not clear; None for one of ours that names what is wrong. named: a pattern of that."""
    message = str(error)
    frames = traceback.extract_tb(error.__traceback__)
    if not isinstance(error, ValueError) or isinstance(error, UnicodeError):
        return f"{type(error).__name__} in {Path(frames[-1].filename).name}:{frames[-1].lineno}: {message[:100]}"
    if not any(Path(frames[-1].filename).is_relative_to(folder) for folder in OURS):
        return f"not ours, from {Path(frames[-1].filename).name}:{frames[-1].lineno}: {message[:100]}"
    if error.__cause__ is not None and not isinstance(error.__cause__, ValueError | OSError | SafetensorError):
        return f"of Python's own {type(error.__cause__).__name__}: {message[:100]}"
    if len(message) > LONGEST_MESSAGE:
        return f"{len(message)} characters: {message[:100]}"
    if not re.search(named, message, re.IGNORECASE):
        return f"names nothing: {message[:100]}"
    try:
        message.encode()
    except UnicodeError:
        return f"half characters: {message[:100]!a}"
    return None


@dataclass
class Tally:
    """What came of the inputs of one kind."""

    kind: "Kind"
    accepted: int = 0
    clear: int = 0
    unclear: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    peak: int | None = 0
    """Bytes that one input took at most; None where the system does not say."""

    def try_input(self, value: Any) -> str | None:
        """Lets one input in; why its error is not clear, None for a clear one or none."""
        before = _start_peak()
        start = time.perf_counter()
        problem = None
        try:
            self.kind.attempt(value)
            self.accepted += 1
        except Exception as error:
            problem = complaint(error, self.kind.named)
            if problem is None:
                self.clear += 1
            else:
                self.unclear[problem] += 1
        self.slowest = max(self.slowest, time.perf_counter() - start)
        self.peak = None if before is None or self.peak is None else max(self.peak, _memory("VmHWM") - before)
        return problem


def fuzz(kind: "Kind", count: int) -> Row:
    """The row of a kind after `count` inputs. Call it in a host that runs."""
    tally = Tally(kind)

    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.seed(SEED)
    @hypothesis.given(kind.values)
    def attempt(value: Any) -> None:
        tally.try_input(value)

    attempt()
    for problem, number in tally.unclear.most_common(10):
        logging.error("%s, %d times: %s", kind.name, number, problem)
    return {
        "kind": kind.name,
        "tried": tally.accepted + tally.clear + tally.unclear.total(),
        "accepted": tally.accepted,
        "errors_clear": tally.clear,
        "errors_unclear": tally.unclear.total(),
        "slowest_seconds": round(tally.slowest, 3),
        "peak_mib": None if tally.peak is None else round(tally.peak / MIB, 1),
    }


def _memory(name: str) -> int:
    """Bytes of this process's memory, as Linux counts them."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024  # pyright: ignore[reportOptionalSubscript]


def _start_peak() -> int | None:
    """Forgets the peak of this process's memory; what it takes now, None where the system does not say."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _memory("VmRSS")
    except OSError:
        return None


def measure_fuzz(scripts: int) -> list[Row]:
    """Rows of all kinds; scripts: how many texts are tried. Call it in a host that runs."""
    from .hostile import KINDS

    rows: list[Row] = []
    for number, kind in enumerate(KINDS):
        rows.append(fuzz(kind, max(20, scripts // kind.every)))
        show_progress(number + 1, len(KINDS), json.dumps(rows[-1]))
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="hostile input at every way in")
    parser.add_argument("--scripts", type=int, default=100_000, help="texts to try; of other kinds fewer are tried")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SCRIPTS} texts, to see that it runs")
    options = parser.parse_args()
    host = start_host()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    folder_paths = importlib.import_module("folder_paths")
    with tempfile.TemporaryDirectory(prefix="kv-share-") as folder:
        for name in ("input", "output", "temp"):
            Path(folder, name).mkdir()
        folder_paths.set_input_directory(str(Path(folder, "input")))
        folder_paths.set_output_directory(str(Path(folder, "output")))
        folder_paths.set_temp_directory(str(Path(folder, "temp")))
        rows = measure_fuzz(QUICK_SCRIPTS if options.quick else options.scripts)
    publish(make_result("fuzz", SEED, rows, host), options.json)
    if any(row["errors_unclear"] for row in rows):
        raise SystemExit("some errors do not say what is wrong")


if __name__ == "__main__":
    main()
