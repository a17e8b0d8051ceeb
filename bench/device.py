"""What the pack does on a GPU, in one run of at most eight minutes that needs no network: whether it is right there,
how much memory a call takes, what a step costs, and where the time goes.

python3 dev.py bench device --json FILE [--device cpu] [--parts contracts equality …] [--minutes 8]

With a ComfyUI of your own: COMFYUI_PATH=FOLDER /path/to/its/python dev.py bench device --json FILE
(docs/device.md says what a machine needs). Each part runs within a time limit of its own, and the file is written after
every row: a run that is stopped leaves what it has found. Without CUDA all parts run with small models, and the figures
say nothing but that they could be taken.

Parts:
    contracts   the contracts of docs/architecture.md on the main families, in bf16 and fp16
    equality    shared runs against the same on the CPU in float32: `error_over_stock` is the difference over that of
                the model without the pack, which must not be many times smaller
    reruns      every way of keeping keys and of sharing, twice: both must be equal bit for bit, and keys kept on the
                CPU must give the same as keys kept on the device
    waits       in a steady step, operations of the pack for which the CPU waits for the device
    memory      one shared call at full size: `peak_gib` against `predicted_gib`, which the host is asked to keep free
    transfers   how much of the way back from the computer's memory is hidden behind attention
    steps       seconds of a step with random models of the size of Wan 2.1 1.3B and CogVideoX-2B at full length:
                stock windows, off, the defaults, the paper's preset; `tflops` is the model's own arithmetic over time
    attention   bench attention at full length with a third of the picture as the subject
    profile     a steady step of the defaults: the operations that take most of the time; `busy_share`, the part of
                the step in which the device computes; `floor_share`, the part that the model's own arithmetic would
                take at the speed of a large matrix product

Columns:
    part, case, dtype   what was measured
    figure, value       what was found; None where it could not be
    bound               what the value must not pass; None where there is nothing to pass
    ok                  whether it holds; None where nothing was asked
    note                why a figure is missing, or more about it
"""

import argparse
import contextlib
import importlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from devtools.environment import find_host

from .device_rows import row_of
from .form import Row, make_result, publish
from .supervisor import Part, Supervisor, tell

PARTS = (
    Part("contracts", 100),
    Part("equality", 40),
    Part("reruns", 40),
    Part("waits", 25),
    Part("memory", 40),
    Part("transfers", 25),
    Part("attention", 70),
    Part("steps", 150),
    Part("profile", 50),
)
"""In the order of what matters: limits add up to more than the whole, which few machines need."""
MODULES = {
    **dict.fromkeys(("contracts", "equality", "reruns", "waits"), "bench.device_checks"),
    **dict.fromkeys(("memory", "transfers", "attention", "steps", "profile"), "bench.device_sizes"),
}
"""Where each part's function is, which has its name."""
MINUTES = 8.0
SPARE = 20.0
"""Seconds of the whole that are left for ending."""


def _end_with(parent: int) -> None:
    """Ends this process soon after the one that started it, whatever ended that."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def work(parts: Sequence[str], device: torch.device, file: Path) -> None:
    """Measures parts one after the other and tells the supervisor."""
    for name in parts:
        tell(file, begin=name)
        try:
            module = importlib.import_module(MODULES[name])
            for row in getattr(module, name)(device):
                tell(file, row=row)
        except Exception as error:
            if "CUDA error" in str(error):
                # Nothing computes in a process after such an error.
                tell(file, failed=_in_short(error))
                return
            tell(file, end=name, how=_in_short(error))
        else:
            tell(file, end=name)
        _empty(device)


def _in_short(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def _empty(device: torch.device) -> None:
    with contextlib.suppress(ImportError):
        unload = importlib.import_module("comfy.model_management").unload_all_models
        unload()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def all_rows(supervisor: Supervisor) -> list[Row]:
    """The rows so far, and one for each part that has ended, with the seconds it took."""
    ends = [
        row_of("parts", ended.part, "seconds", ended.seconds, ok=ended.how == "done", note=ended.how)
        for ended in supervisor.ended
    ]
    return [*supervisor.rows, *ends] or [row_of("parts", "all", "seconds", 0.0, note="not begun")]


def run(parts: Sequence[Part], device: str, minutes: float, file: Path | None) -> list[Row]:
    """Measures the parts in processes; writes the result so far to `file` all the time."""
    host = find_host()

    def command(names: Sequence[str], events: Path) -> list[str]:
        return [sys.executable, "-m", "bench.device", "--device", device, "--work", str(events), "--parts", *names]

    def write() -> None:
        if file is not None:
            partial = file.with_suffix(".partial")
            partial.write_text(make_result("device", 0, all_rows(supervisor), host).as_json(), encoding="utf-8")
            os.replace(partial, file)

    supervisor = Supervisor(parts, command, write, 60 * minutes - SPARE)
    write()
    with tempfile.TemporaryDirectory() as folder:
        supervisor.run(Path(folder))
    return all_rows(supervisor)


def main() -> None:
    """The command line."""
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(description="the pack on a GPU, in at most eight minutes and without a network")
    parser.add_argument("--json", type=Path, help="write the results here, while it runs")
    parser.add_argument("--device", help="cuda or cpu; default: cuda where there is one")
    parser.add_argument("--parts", nargs="+", choices=names, default=names, help="only these")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"for everything (default: {MINUTES:g})")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if options.work is not None:
        # As the supervisor's own process.
        _end_with(os.getppid())
        importlib.import_module("bench.host_process").start_host()
        work(options.parts, torch.device(device), options.work)
        return
    if device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("this torch sees no CUDA device; choose --device cpu, or start it with a Python whose torch does")
    if options.minutes * 60 <= SPARE:
        parser.error(f"--minutes must be more than {SPARE / 60:.1f}")
    file = None if options.json is None else options.json.resolve()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    rows = run([part for part in PARTS if part.name in options.parts], device, options.minutes, file)
    # The file is there already: what writes it anew could be stopped in the middle.
    publish(make_result("device", 0, rows, find_host()), None)
    sys.exit(any(row["ok"] is False for row in rows))


if __name__ == "__main__":
    main()
