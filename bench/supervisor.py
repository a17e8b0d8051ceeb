"""Runs the parts of a long measurement in a process of their own, each within a time limit, and writes what there is
after every row.

A part that hangs, that runs out of memory or that a driver's error ends costs its own rows only: the process is started
again for the parts that follow. Whatever ends the measurement, the file is a valid result.
"""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from .form import ROOT, Row

POLL = 0.05
GRACE = 5.0
"""Seconds that a process has to end by itself once its last part has ended."""

Command: TypeAlias = Callable[[Sequence[str], Path], list[str]]
"""The command of a process that measures the named parts and writes events to the file, by `tell`."""


@dataclass(frozen=True)
class Part:
    """A part of the measurement. seconds: most that it may take, and most that may pass before it begins."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Ended:
    """How a part ended: `done`, or why it did not, and what it took."""

    part: str
    how: str
    seconds: float


class Events:
    """The events of a process, read while it writes them."""

    def __init__(self, file: Path):
        self._file = file
        self._place = 0

    def new(self) -> list[dict[str, Any]]:
        """Those since the last call; a line that is still being written comes with the next."""
        if not self._file.is_file():
            return []
        with self._file.open("rb") as stream:
            stream.seek(self._place)
            data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._place += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


def tell(file: Path, **event: Any) -> None:
    """Writes an event: `begin` or `end` with a part's name, `row` with a row of it, `failed` with a reason."""
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(event) + "\n")


class Supervisor:
    """One measurement. `rows` are those so far, `ended` the parts that have ended."""

    def __init__(self, parts: Sequence[Part], command: Command, changed: Callable[[], None], seconds: float):
        """changed: called after every row and every part; seconds: for all parts together."""
        self.rows: list[Row] = []
        self.ended: list[Ended] = []
        self._parts = list(parts)
        self._command = command
        self._changed = changed
        self._until = time.monotonic() + seconds

    def run(self, folder: Path) -> None:
        """Measures all parts; events go to files in `folder`."""
        attempt = 0
        while self._parts and time.monotonic() < self._until:
            self._run_process(folder / f"events-{attempt}.jsonl")
            attempt += 1
        for part in self._parts:
            self._end(part.name, "left out: no time was left", 0.0)

    def _run_process(self, file: Path) -> None:
        """One process, until it ends or a part of it takes too long."""
        events, started = Events(file), time.monotonic()
        process = subprocess.Popen(self._command([part.name for part in self._parts], file), cwd=ROOT)
        running = self._parts[0]
        reason = ""
        try:
            while self._parts and not reason:
                over = process.poll() is not None
                for event in events.new():
                    if "begin" in event:
                        running, started = self._parts[0], time.monotonic()
                    reason = self._take(event, running, started) or reason
                now = time.monotonic()
                if over and not reason:
                    reason = f"its process ended with code {process.returncode}"
                elif now > min(started + running.seconds, self._until):
                    reason = f"stopped after {now - started:.0f} s"
                else:
                    time.sleep(POLL)
        finally:
            _stop(process, patient=not self._parts)
        if self._parts:
            self._parts.pop(0)
            self._end(running.name, reason, time.monotonic() - started)

    def _take(self, event: dict[str, Any], running: Part, started: float) -> str:
        """Takes an event in; why the process cannot go on, else nothing."""
        if "row" in event:
            self.rows.append(event["row"])
            self._changed()
        elif "end" in event:
            self._parts.pop(0)
            self._end(running.name, event.get("how", "done"), time.monotonic() - started)
        return str(event.get("failed", ""))

    def _end(self, part: str, how: str, seconds: float) -> None:
        self.ended.append(Ended(part, how, seconds))
        self._changed()


def _stop(process: "subprocess.Popen[bytes]", patient: bool) -> None:
    """Ends a process that we started; patient: it may still end by itself."""
    if patient:
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            pass
    if process.poll() is None:
        process.kill()
    process.wait()
