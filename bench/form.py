"""The one form of every benchmark: a JSON file and the same as a text table."""

import json
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import torch

from devtools.environment import read_version

ROOT = Path(__file__).resolve().parents[1]

Value: TypeAlias = str | int | float | bool | Mapping[str, bool] | Sequence[float] | None
Row: TypeAlias = Mapping[str, Value]


def command_line() -> str:
    """The command that started this benchmark, as a developer types it; of files elsewhere only the names."""
    words = shlex.split(os.environ.get("KVSHARE_COMMAND", "")) or ["python", *sys.argv]
    return shlex.join(_in_checkout(Path(word)) if Path(word).is_absolute() else word for word in words)


def _in_checkout(path: Path) -> str:
    """A path as it is in any checkout, or the name of a file that is in none."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def pack_version() -> str:
    """The version in pyproject.toml and, in a git checkout, the commit; "+" marks changes since that commit."""
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    version = next(line for line in lines if line.startswith("version")).split('"')[1]
    commit = _git("rev-parse", "--short", "HEAD")
    if commit is None:
        return version
    return f"{version} ({commit}{'+' if _git('status', '--porcelain') else ''})"


def versions(comfyui: Path | None) -> dict[str, str | None]:
    """Versions of everything that can change a figure; `comfyui` is the host's folder, None for a run without it."""
    return {
        "pack": pack_version(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "comfyui": read_version(comfyui) if comfyui else None,
    }


def machine() -> dict[str, str | int | None]:
    """The machine that the figures come from."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _processor_name(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


@dataclass(frozen=True)
class Result:
    """One run of one benchmark. `rows` are flat and share the columns of the first; None is a figure that does not
    exist. Raises ValueError when the rows do not fit together or hold a number that JSON lacks."""

    name: str
    command: str
    seed: int
    versions: Mapping[str, str | None]
    host: Mapping[str, str | int | None]
    rows: Sequence[Row]

    def __post_init__(self) -> None:
        if not self.rows:
            raise ValueError(f"benchmark {self.name} has no rows")
        for place, row in enumerate(self.rows):
            for column, value in row.items():
                numbers = value if isinstance(value, Sequence) else [value]
                if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
                    raise ValueError(f"benchmark {self.name}: row {place} has {value} as {column}")
            if list(row) != list(self.rows[0]):
                raise ValueError(
                    f"benchmark {self.name}: row {place} has columns {list(row)}, row 0 has {list(self.rows[0])}"
                )

    def as_json(self) -> str:
        """The form: name, command, seed, versions, host, rows."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def as_table(self) -> str:
        """The same for people: a head of one line and the rows as aligned columns."""
        facts = [f"{name} {value}" for name, value in (*self.versions.items(), *self.host.items()) if value is not None]
        head = f"{self.name}, seed {self.seed}: {self.command}\n{', '.join(facts)}"
        return f"{head}\n\n{text_table(self.rows)}"


def make_result(name: str, seed: int, rows: Sequence[Row], comfyui: Path | None) -> Result:
    """The result of this process's run; `comfyui` is the folder of the host it ran on, None when it ran without one."""
    return Result(name, command_line(), seed, versions(comfyui), machine(), rows)


def text_table(rows: Sequence[Row]) -> str:
    """Rows with equal keys as aligned text: numbers to the right, words to the left."""
    columns = list(rows[0])
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(len(line[place]) for line in [columns, *cells]) for place in range(len(columns))]
    numeric = [all(not isinstance(row[column], str) for row in rows) for column in columns]
    lines = [columns, ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def publish(result: Result, file: Path | None) -> None:
    """Prints the table, and writes the JSON form to `file` when one is named."""
    print(result.as_table())
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(result.as_json(), encoding="utf-8")
        print(f"\nwritten to {file}")


def show_progress(done: int, total: int, what: str) -> None:
    """One line on stderr that counts up: `done` of `total` things called `what`."""
    print(f"\r{done} of {total} {what}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _cell(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return f"{sum(value.values())} of {len(value)}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " to ".join(f"{number:.3f}" for number in value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor_name() -> str:
    """The processor's name as the system gives it."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
