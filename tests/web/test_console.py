"""The browser console has no message that it would not have without the pack."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devtools.environment import ROOT
from devtools.server import Server, running_server
from tests.support.comfy_page import MODES, Mode, comfy_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PATIENCE = 60
"""Seconds that the page without the pack has for telling the same errors."""

WORKFLOW = ROOT / "example_workflows" / "First light.json"


@pytest.fixture(scope="module")
def bare_server(host: Path) -> Iterator[Server]:
    with running_server(host, Path(sys.executable), pack=None) as running:
        yield running


@pytest.mark.parametrize("mode", MODES)
def test_console_has_no_error_of_the_pack(browser: "Browser", server: Server, bare_server: Server, mode: Mode) -> None:
    with comfy_page(browser, server, mode) as page:
        page.drop_workflow(WORKFLOW)
        page.look_at("LongVideoSegmenter")
        page.page.wait_for_selector(".kvs-timeline[aria-busy='false'] .kvs-beat")
        page.page.wait_for_load_state("networkidle")
        # A browser asks for a site's icon when it likes, and once.
        found = {error for error in page.errors if not error.endswith("/favicon.ico")}
    with comfy_page(browser, bare_server, mode) as page:
        page.drop_workflow(WORKFLOW)
        end = time.monotonic() + PATIENCE
        # Some of the host's own errors come late.
        while not found <= set(page.errors) and time.monotonic() < end:
            page.page.wait_for_timeout(100)
        assert found <= set(page.errors)
