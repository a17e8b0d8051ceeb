#!/usr/bin/env python3
"""The developers' door. Standard library only; everything it makes lives in `.dev/`.

--host NAME runs the command on another pinned ComfyUI: `oldest` is the oldest one that the pack supports.
COMFYUI_PATH=FOLDER uses a ComfyUI of yours instead; start dev.py with the Python that runs it:
    COMFYUI_PATH=/path/to/ComfyUI /path/to/its/venv/bin/python dev.py test
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

from devtools import environment, review, server
from devtools import map as architecture_map


def setup(arguments: Sequence[str], host_name: str | None) -> int:
    """make the environment and fetch the pinned ComfyUI, or say that both are there"""
    _no_arguments("setup", arguments)
    host = environment.resolve_host(host_name)
    environment.say(f"ready: ComfyUI {host.version} in {host.path}, run by {host.python}")
    return 0


def demo(arguments: Sequence[str], host_name: str | None) -> int:
    """three prompts become one long video on a real server [--help for options]"""
    return _run_module("bench.demo", arguments, host_name)


def test(arguments: Sequence[str], host_name: str | None) -> int:
    """run the tests, on all cores unless paths are named [pytest arguments]"""
    parallel = parallel_options(arguments, usable_cores())
    needs = ["pytest", "hypothesis", *(["xdist"] if parallel else [])]
    return _run_module("pytest", [*parallel, *arguments], host_name, needs)


def serve(arguments: Sequence[str], host_name: str | None) -> int:
    """start ComfyUI with the pack for the browser [--port N] [ComfyUI arguments]"""
    parser = argparse.ArgumentParser(prog="dev.py serve")
    parser.add_argument("--port", type=int, help="default: a free one")
    options, rest = parser.parse_known_args(arguments)
    host = environment.resolve_host(host_name)
    base = environment.DEV / "base"
    with server.running_server(host.path, host.python, base, rest, port=options.port) as running:
        environment.say(f"log: {running.log}\nmodels, input and output: {running.base}\nstop with Ctrl-C")
        print(running.url, flush=True)
        try:
            return running.process.wait()
        except KeyboardInterrupt:
            return 0


def train(arguments: Sequence[str], host_name: str | None) -> int:
    """train the embedded model from seeds [--help for options]"""
    return _run_module("kvshare_core.embedded.training", arguments, host_name)


def bench(arguments: Sequence[str], host_name: str | None) -> int:
    """run the benchmark NAME of bench/ [--json FILE] [its own arguments]"""
    files = (environment.ROOT / "bench").glob("*.py")
    names = sorted({file.stem for file in files if "__main__" in file.read_text(encoding="utf-8")} - {"demo"})
    if not arguments or arguments[0] not in names:
        raise environment.SetupError(f"bench needs a name, one of: {', '.join(names)}")
    return _run_module(f"bench.{arguments[0]}", arguments[1:], host_name)


def words(arguments: Sequence[str], host_name: str | None) -> int:
    """write the English words of the nodes to locales/en, from their schemas"""
    _no_arguments("words", arguments)
    return _run_module("devtools.words", arguments, host_name)


def mutate(arguments: Sequence[str], host_name: str | None) -> int:
    """change the core in small ways: which changes do the tests miss? [--jobs N] [FILES]"""
    return _run_module("devtools.mutate", arguments, host_name, needs=["pytest", "hypothesis", "mutmut"])


def map(arguments: Sequence[str], host_name: str | None) -> int:
    """draw the rooms of the pack in docs/architecture.md, from their imports [--check]"""
    return architecture_map.main(arguments)


def package(arguments: Sequence[str], host_name: str | None) -> int:
    """build the registry's archive in out/, check it and make a film with it [--no-host]"""
    return _run_module("devtools.package", arguments, host_name)


def check(arguments: Sequence[str], host_name: str | None) -> int:
    """lint, format check, strict types, and reviewers' tools over what is published"""
    _no_arguments("check", arguments)
    host = environment.resolve_host(host_name, ["ruff", "pyright"])
    steps = (
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["pyright", "--pythonpath", str(host.python)],
    )
    results = [_run([str(host.python), "-m", *step], environment.child_environment(host)) for step in steps]
    return max(*results, review.review())


COMMANDS: dict[str, Callable[[Sequence[str], str | None], int]] = {
    command.__name__: command
    for command in (setup, demo, test, serve, train, bench, words, mutate, map, package, check)
}


OPTIONS_WITH_VALUES = frozenset({"-c", "-k", "-m", "-o", "-p", "-r", "-W"})
"""Short options of pytest whose value may be the next argument."""

ONE_PROCESS_OPTIONS = ("-n", "--numprocesses", "--dist", "--pdb", "--trace")
"""Options of pytest that say how many processes there are, or that need the terminal."""


def parallel_options(arguments: Sequence[str], cores: int) -> list[str]:
    """The options with which pytest runs every test module in one of `cores` processes. None when the arguments name a
    file or folder, or say themselves how to run."""
    paths = [
        argument
        for before, argument in zip(["", *arguments], arguments, strict=False)
        if before not in OPTIONS_WITH_VALUES and (environment.ROOT / argument.partition("::")[0]).exists()
    ]
    if cores < 2 or paths or any(argument.startswith(ONE_PROCESS_OPTIONS) for argument in arguments):
        return []
    return ["-n", str(cores), "--dist", "loadfile"]


def usable_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usage() -> str:
    """The help text: one line per command."""
    lines = [f"  {name:7} {command.__doc__}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: python3 dev.py [--host NAME] COMMAND [arguments]", "", *lines, "", str(__doc__).strip()])


def _no_arguments(name: str, arguments: Sequence[str]) -> None:
    if arguments:
        raise environment.SetupError(f"{name} takes no arguments, got: {shlex.join(arguments)}")


def _run_module(module: str, arguments: Sequence[str], host_name: str | None, needs: Sequence[str] = ()) -> int:
    """Runs a module in the host's Python, from the repository, with the host in its environment."""
    host = environment.resolve_host(host_name, needs)
    command_line = f"python3 dev.py {shlex.join(sys.argv[1:])}"
    variables = {**environment.child_environment(host), "KVSHARE_COMMAND": command_line}
    return _run([str(host.python), "-m", module, *arguments], variables)


def _run(command: Sequence[str], variables: Mapping[str, str]) -> int:
    with subprocess.Popen(command, cwd=environment.ROOT, env=variables) as process:
        signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
        try:
            return process.wait()
        except KeyboardInterrupt:  # The child got it too and stops its server before it leaves.
            return process.wait()


def take_host_name(arguments: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """The NAME of a leading --host NAME, if there is one, and what comes after it. Raises SetupError without a NAME."""
    flag, equals, name = (arguments[0] if arguments else "").partition("=")
    if flag != "--host":
        return None, arguments
    rest = arguments[1:]
    if not equals and rest:
        name, rest = rest[0], rest[1:]
    return environment.pinned_host(name).name, rest


def run_command(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit status. Raises SetupError or ServerError when it cannot be run."""
    host_name, rest = take_host_name(arguments)
    if not rest or rest[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    command = COMMANDS.get(rest[0])
    if command is None:
        print(f"error: no command {rest[0]!r}\n\n{usage()}", file=sys.stderr)
        return 2
    return command(rest[1:], host_name)


def main(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit status; what stops it is said in a line."""
    try:
        return run_command(arguments)
    except (environment.SetupError, server.ServerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit(f"error: dev.py needs Python 3.11 or newer, this is {sys.version.split()[0]}")
    sys.exit(main(sys.argv[1:]))
