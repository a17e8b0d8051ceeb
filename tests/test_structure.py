"""The layout of the tests: folders are those of what is tested, and test modules do not import each other."""

import ast

import pytest

from devtools.environment import ROOT

TESTS = ROOT / "tests"
TEST_MODULES = sorted(TESTS.rglob("test_*.py"))
MODULES = sorted(TESTS.rglob("*.py"))
CORE = ROOT / "kvshare_core"
HELPERS = {"oracles", "support", "tiny"}
"""Folders without tests: slow references, shared helpers, and tiny models."""
OUTSIDE_THE_CORE = {"bench", "devtools", "docs", "nodes", "web"}
"""Folders of the repository beside the core that have tests of their own."""


def imported_modules(source: str) -> set[str]:
    """Every dotted name that a module's source may import, wherever the statement stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def imported_test_modules(source: str) -> set[str]:
    """Those of the imports that are modules of tests."""
    return {name for name in imported_modules(source) if any(part.startswith("test_") for part in name.split("."))}


@pytest.mark.parametrize(
    "line",
    [
        "import tests.nodes.test_nodes",
        "from tests.nodes.test_nodes import run_node",
        "from tests.nodes import test_nodes as nodes",
        "from . import test_nodes",
        "from .test_nodes import run_node",
        "def late():\n    from tests.nodes.test_nodes import run_node",
    ],
)
def test_every_form_of_importing_a_test_module_is_found(line: str) -> None:
    assert imported_test_modules(line)
    assert not imported_test_modules(line.replace("test_nodes", "node_calls"))


def test_no_module_imports_a_test_module() -> None:
    found = {str(path.relative_to(ROOT)): imported_test_modules(path.read_text(encoding="utf-8")) for path in MODULES}
    assert {path: names for path, names in found.items() if names} == {}


def test_every_test_lies_in_the_folder_of_what_it_tests() -> None:
    for path in TEST_MODULES:
        folder = path.relative_to(TESTS).parent
        root = ROOT if folder.parts and folder.parts[0] in OUTSIDE_THE_CORE else CORE
        assert (root / folder).is_dir(), f"{path.relative_to(ROOT)}: {root.name} has no folder {folder}"


def test_every_room_of_the_core_has_tests() -> None:
    rooms = {path.parent.relative_to(CORE).parts[0] for path in CORE.rglob("*.py") if path.parent != CORE}
    tested = {path.relative_to(TESTS).parts[0] for path in TEST_MODULES}
    assert rooms <= tested


def test_folders_of_helpers_hold_no_tests() -> None:
    for path in TEST_MODULES:
        assert path.relative_to(TESTS).parts[0] not in HELPERS
    helpers = [path for path in MODULES if path not in TEST_MODULES and path.name != "conftest.py"]
    assert helpers
    for path in helpers:
        assert path.relative_to(TESTS).parts[0] in HELPERS, f"{path.relative_to(ROOT)} holds no test"
