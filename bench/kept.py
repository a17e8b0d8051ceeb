"""Finished batches of storyboards, kept in a file so that a long benchmark can go on where it was stopped."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from .form import pack_version
from .methods import Method
from .pipeline import Model
from .settings import Setting

CHANGED = "+)"
"""How form.pack_version ends when the checkout has changes."""


class Cell(NamedTuple):
    """What a row of a table is about; `setting` is one's name."""

    setting: str
    model: Model
    beats: int
    join: str
    method: str


@dataclass(frozen=True)
class Task:
    """Some storyboards to be made by one method, which `making` is."""

    setting: Setting
    model: Model
    beats: int
    join: str
    method: str
    making: Method
    seeds: tuple[int, ...]

    @property
    def cell(self) -> Cell:
        return Cell(self.setting.name, self.model, self.beats, self.join, self.method)


@dataclass(frozen=True)
class Seen:
    """One storyboard's video: its contributions to each figure, and the subject's mean way per picture."""

    contributions: Mapping[str, list[float]]
    speed: float


class Kept:
    """What every finished task showed, None where the host could not make it; in `file`, one a line, where one is
    named. Lines of another version of the pack do not count, nor those of a version with changes of its own."""

    def __init__(self, file: Path | None):
        self._file = file
        self._version = pack_version()
        self._found: dict[str, list[Seen] | None] = {}
        if file is not None and file.is_file():
            for line in file.read_text(encoding="utf-8").splitlines():
                version, task, seen = json.loads(line)
                if version == self._version and not version.endswith(CHANGED):
                    self._found[task] = None if seen is None else [Seen(**one) for one in seen]

    def __contains__(self, task: Task) -> bool:
        return repr(task) in self._found

    def get(self, task: Task) -> list[Seen] | None:
        """What a finished task showed."""
        return self._found[repr(task)]

    def put(self, task: Task, seen: Sequence[Seen] | None) -> None:
        """Takes in what a task showed."""
        self._found[repr(task)] = None if seen is None else list(seen)
        if self._file is not None:
            line = [self._version, repr(task), None if seen is None else [asdict(one) for one in seen]]
            with self._file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
