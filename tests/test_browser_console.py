"""The pack in the host's frontend: the console hears of nothing that it would not hear of without the pack."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devtools.environment import ROOT
from devtools.server import Server, running_server
from tests.comfy_page import MODES, Mode, comfy_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WORKFLOW = ROOT / "example_workflows" / "kv_share_first_light.json"


@pytest.fixture(scope="module")
def bare_server(host: Path) -> Iterator[Server]:
    with running_server(host, Path(sys.executable), pack=None) as running:
        yield running


def errors_on(browser: "Browser", server: Server, mode: Mode) -> set[str]:
    with comfy_page(browser, server, mode) as page:
        page.drop_workflow(WORKFLOW)
        page.page.wait_for_load_state("networkidle")
        return set(page.errors)


@pytest.mark.parametrize("mode", MODES)
def test_console_has_no_error_of_the_pack(browser: "Browser", server: Server, bare_server: Server, mode: Mode) -> None:
    assert errors_on(browser, server, mode) <= errors_on(browser, bare_server, mode)
