"""The developers' door: what it says without a command, and how it refuses an unusable host."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devtools import environment
from devtools.environment import ROOT, SetupError

COMMANDS = ("setup", "demo", "test", "serve", "train", "bench", "words", "mutate", "check")


def dev(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "dev.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables})


@pytest.mark.parametrize("arguments", [(), ("-h",), ("--help",)])
def test_help_has_one_line_per_command(arguments: tuple[str, ...]) -> None:
    answer = dev(*arguments)
    assert answer.returncode == 0
    lines = [line.split()[0] for line in answer.stdout.splitlines() if line.startswith("  ") and line[2] != " "]
    assert lines == list(COMMANDS)


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
    found = environment.resolve_host(["pytest"])
    assert (found.path, found.python) == (host, Path(sys.executable))
    assert found.version in capsys.readouterr().err


def test_python_without_a_module_is_an_error() -> None:
    with pytest.raises(SetupError, match=r"lacks no_such_module\. With COMFYUI_PATH"):
        environment.require_modules(Path(sys.executable), ["sys", "no_such_module"])


def test_child_modules_see_the_host_before_the_repository(host: Path) -> None:
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
