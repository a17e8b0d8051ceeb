"""Runs reviewers' tools over the published files: what they call malicious is hidden from users.

Standard library only."""

import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from .environment import interpreter, make_tools, say
from .published import problems_of, read_published

TOOLS: tuple[tuple[str, ...], ...] = (
    # Every finding of high severity makes a pack malicious; those of medium severity are words of ours: prose that it
    # takes for encoded text, `record(` for `ord(`, and getattr with the name of a field.
    ("nodesafe", "scan", ".", "--format", "markdown", "--fail-on", "malicious"),
    ("comfy-test", "lint", "--strict", "."),
    # B101: asserts tell the type checker what holds; nothing depends on them.
    ("bandit", "--quiet", "--recursive", "--skip", "B101", "."),
)
"""Names of programs, and their arguments in the folder of the pack."""


def review() -> int:
    """Unpacks the published files and reviews them; returns the exit status. Raises SetupError when the tools cannot be
    installed."""
    programs = interpreter(make_tools("reviewers")).parent
    files = read_published()
    problems = problems_of(files)
    with tempfile.TemporaryDirectory(prefix="kv-share-") as folder:
        pack = Path(folder, "kv-share")
        for name, content in files.items():
            (pack / name).parent.mkdir(parents=True, exist_ok=True)
            (pack / name).write_bytes(content)
        problems += objections([(str(programs / name), *arguments) for name, *arguments in TOOLS], pack)
    for problem in problems:
        say(problem)
    say(f"review: {len(problems)} objections" if problems else "review: no objections")
    return 1 if problems else 0


def objections(commands: Iterable[Sequence[str]], folder: Path) -> list[str]:
    """What those of the commands say, run in `folder`, that fail."""
    found: list[str] = []
    for command in commands:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", errors="replace")
        if done.returncode:
            found.append(f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}".rstrip())
    return found
