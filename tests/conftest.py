"""Boots the host for in-process tests, and offers one running server to all tests that need it.

Tests import the pack as `kv_share` (`from kv_share.nodes... import`, `from kv_share.kvshare_core... import`); plain
`kvshare_core` names the same modules. The host's own `nodes` stays the host's.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from devtools.browser import REQUIRED_VARIABLE, BrowserError, running_browser
from devtools.environment import find_host
from devtools.inprocess import enter_host, load_pack
from devtools.server import Server, running_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# The models are tiny: a second thread only waits, here and in the servers that tests start, and on a busy machine that
# waiting takes ten times as long as the work. To be set before torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"

enter_host(find_host())
load_pack()

# A busy machine is no bug: examples may take as long as they need.
hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")

import folder_paths  # noqa: E402

from tests.support.family_cases import CASES, FamilyCase  # noqa: E402
from tests.support.present import present  # noqa: E402

TESTS = Path(__file__).parent

ON_THE_OLDEST_HOST = (
    "devtools",
    "families",
    "nodes",
    "host/loading",
    "web/test_console.py",
    "web/test_blueprint_page.py",
    "web/test_new_user.py",
)
"""Folders and files whose tests carry the mark `oldest`: contracts, nodes, workflows, and the pages open at all."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that also have to pass on the oldest host. Raises UsageError for a place that is gone."""
    places = [TESTS / place for place in ON_THE_OLDEST_HOST]
    gone = [str(place) for place in places if not place.exists()]
    if gone:
        raise pytest.UsageError(f"ON_THE_OLDEST_HOST of tests/conftest.py names what is not there: {', '.join(gone)}")
    for item in items:
        if any(item.path.is_relative_to(place) for place in places):
            item.add_marker(pytest.mark.oldest)


@pytest.fixture(scope="session")
def host() -> Path:
    """The ComfyUI folder under test."""
    return find_host()


@pytest.fixture(scope="session", autouse=True)
def temporary_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What nodes that run in this process leave for the frontend stays out of the host's folder."""
    import folder_paths

    folder_paths.set_temp_directory(str(tmp_path_factory.mktemp("temp")))


@pytest.fixture(scope="session")
def server(host: Path) -> Iterator[Server]:
    """A running ComfyUI with the pack; shared, so a test must not rely on an empty queue history or cache."""
    with running_server(host, Path(sys.executable)) as running:
        yield running


# For a module at most: while Playwright runs, asyncio.run is not possible in its thread.
@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A headless Chromium; without one the test is skipped, or fails where a browser is required."""
    try:
        with running_browser() as running:
            yield running
    except BrowserError as reason:
        if os.environ.get(REQUIRED_VARIABLE):
            raise
        pytest.skip(str(reason))


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The host's input and output folders, of this test alone."""
    for name in ("input", "output"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    return tmp_path


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> FamilyCase:
    """A tiny model of every family and layout, one after another; what the host lacks is skipped."""
    return present(request.param)
