"""Starts a real ComfyUI server with this pack in it. Standard library only."""

import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from os import environ
from pathlib import Path
from types import FrameType
from typing import NoReturn

PACK = Path(__file__).resolve().parents[1]
PACK_FOLDER = "kv-share"
BASE_FOLDERS = ("custom_nodes", "input", "models", "output", "temp", "user")
IMPORT_FAILURE = re.compile(rf"(IMPORT FAILED|Cannot import|Error while calling comfy_entrypoint).*{PACK_FOLDER}")
LOG_TAIL_LINES = 60


class ServerError(RuntimeError):
    """The server did not start, or could not import the pack; the message ends with the last lines of its log."""


@dataclass(frozen=True)
class Server:
    """A running server: its address, its base directory (models, input, output, ...) and its log file."""

    url: str
    base: Path
    log: Path
    process: subprocess.Popen[bytes]


@contextmanager
def running_server(
    host: Path,
    python: Path,
    base: Path | None = None,
    extra_args: Sequence[str] = (),
    *,
    pack: Path | None = PACK,
    port: int | None = None,
    timeout: float = 300,
) -> Generator[Server, None, None]:
    """Runs the ComfyUI in `host` with `python` until the block ends.

    Without `base` the server works in a temporary folder, without `port` on a free one; `pack=None` leaves it out.
    Raises ServerError when the server does not answer within `timeout` seconds or the pack fails to import.
    """
    with ExitStack() as stack:
        if base is None:
            temporary = tempfile.TemporaryDirectory(prefix="kv-share-", ignore_cleanup_errors=True)
            base = Path(stack.enter_context(temporary))
        base = base.resolve()
        prepare_base(base, pack)
        port = port or free_port()
        log = base / "server.log"
        output = stack.enter_context(log.open("wb"))
        stack.enter_context(_exit_on_sigterm())
        process = subprocess.Popen(
            server_command(host, python, base, port, extra_args),
            cwd=host,
            env={name: value for name, value in environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        stack.callback(_stop, process)
        server = Server(f"http://127.0.0.1:{port}", base, log, process)
        _wait_until_ready(server, timeout)
        yield server


def server_command(host: Path, python: Path, base: Path, port: int, extra_args: Sequence[str] = ()) -> list[str]:
    """The command line that starts the server headless."""
    known = (host / "comfy" / "cli_args.py").read_text(encoding="utf-8")
    command = [str(python), str(host / "main.py"), "--listen", "127.0.0.1", "--port", str(port)]
    command += ["--base-directory", str(base), "--disable-auto-launch"]
    if "--disable-api-nodes" in known:
        command.append("--disable-api-nodes")
    if "--database-url" in known:
        command += ["--database-url", "sqlite:///:memory:"]
    if "--cpu" not in extra_args and not has_cuda(python):
        command.append("--cpu")
    return [*command, *extra_args]


@cache
def has_cuda(python: Path) -> bool:
    """Whether torch in `python` sees a CUDA device."""
    script = "import torch; print(torch.cuda.is_available())"
    return subprocess.run([python, "-c", script], capture_output=True, text=True).stdout.strip() == "True"


def prepare_base(base: Path, pack: Path | None) -> None:
    """Makes the folders of a base directory, with `pack` among its custom nodes."""
    for folder in BASE_FOLDERS:
        (base / folder).mkdir(parents=True, exist_ok=True)
    if pack is None:
        return
    installed = base / "custom_nodes" / PACK_FOLDER
    if installed.is_symlink():
        installed.unlink()
    elif installed.exists():
        shutil.rmtree(installed)
    try:
        installed.symlink_to(pack, target_is_directory=True)
    except OSError:  # Windows allows links to administrators and in developer mode only.
        shutil.copytree(pack, installed, ignore=shutil.ignore_patterns(".dev", ".git", "__pycache__"))


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def log_tail(log: Path) -> str:
    """The last lines of a log file."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:])


def _wait_until_ready(server: Server, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not _answers(server.url):
        if server.process.poll() is not None:
            raise ServerError(f"ComfyUI stopped with code {server.process.returncode}\n{log_tail(server.log)}")
        if time.monotonic() > deadline:
            raise ServerError(f"ComfyUI did not answer within {timeout:.0f} s\n{log_tail(server.log)}")
        time.sleep(0.2)
    if IMPORT_FAILURE.search(server.log.read_text(encoding="utf-8", errors="replace")):
        raise ServerError(f"ComfyUI could not import the pack\n{log_tail(server.log)}")


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/system_stats", timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _exit_on_sigterm() -> Generator[None, None, None]:
    """Turns SIGTERM into SystemExit, so that the server is stopped when this process is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
