"""What GitHub and new contributors read: the CI's commands, the forms for issues, the list of commands, the version."""

import re
import shlex
from typing import Any

import pytest
import yaml
from PIL import Image

import dev
from devtools.environment import PINNED_HOSTS, ROOT

GITHUB = ROOT / ".github"
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
DEV = re.compile(r"python3 dev\.py[^\n#`\"]*")
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


def read_yaml(path: Any) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def command_of(line: str) -> tuple[str | None, str]:
    """The host and the name of the command that a line runs."""
    host, rest = dev.take_host_name(shlex.split(line)[2:])
    return host, rest[0]


def ci_lines() -> list[str]:
    return [match.strip() for match in DEV.findall((GITHUB / "workflows" / "check.yml").read_text(encoding="utf-8"))]


def test_the_ci_runs_what_has_to_pass_before_a_change_is_merged() -> None:
    wanted = DEV.findall((ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert len(wanted) == 3 and {line.strip() for line in wanted} <= set(ci_lines())
    assert {command_of(line)[1] for line in ci_lines()} == {"check", "test", "package"}


def test_the_ci_tests_every_host_that_has_results() -> None:
    jobs = read_yaml(GITHUB / "workflows" / "check.yml")["jobs"]
    hosts = {entry["host"] for entry in jobs["test"]["strategy"]["matrix"]["include"]}
    assert hosts == {host.version for host in PINNED_HOSTS.values()}
    measured = {path.stem.removeprefix("families-") for path in (ROOT / "bench" / "results").glob("families-*.json")}
    newest = {
        step["with"]["ref"].removeprefix("v") for step in jobs["newest"]["steps"] if "ref" in step.get("with", {})
    }
    assert hosts | newest == measured


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_a_form_is_one_that_github_takes(form: Any) -> None:
    found = read_yaml(form)
    assert found["name"] and found["description"]
    ids = [part["id"] for part in found["body"] if part["type"] != "markdown"]
    assert len(ids) == len(set(ids)) > 1
    for part in found["body"]:
        assert part["type"] in ("markdown", "input", "textarea", "dropdown", "checkboxes")
        assert part["attributes"]["value" if part["type"] == "markdown" else "label"]


def test_contributing_lists_every_command() -> None:
    for file in (ROOT / "CONTRIBUTING.md", ROOT / "README.md"):
        for line in DEV.findall(file.read_text(encoding="utf-8")):
            assert command_of(line)[1] in dev.COMMANDS, line
    block = CONTRIBUTING.partition("## All commands")[2].partition("\n## ")[0]
    assert {command_of(line)[1] for line in DEV.findall(block) if "--host" not in line} == set(dev.COMMANDS)


def test_the_changelog_begins_with_the_version() -> None:
    (version, *_) = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert f'\nversion = "{version}"\n' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "shape"), [("Icon", 1.0), ("Banner", 21 / 9)])
def test_the_pictures_for_the_registry_are_there_and_have_its_shapes(name: str, shape: float) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (path,) = re.findall(
        rf'^{name} = "https://raw\.githubusercontent\.com/kv-share/kv-share/main/(.*)"$', text, re.MULTILINE
    )
    with Image.open(ROOT / path) as picture:
        assert picture.width / picture.height == pytest.approx(shape, rel=1e-3)
        assert name != "Icon" or picture.width <= 400
