"""A headless Chromium for the tests of `web/`, and the Node.js that comes with what drives it.

Playwright is a package of PyPI with its driver inside, so neither npm nor a download of a browser is needed; the
Chromium is the system's.
"""

import os
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM_VARIABLE = "KVSHARE_CHROMIUM"
"""Environment variable that names another Chromium than the one on the PATH."""

REQUIRED_VARIABLE = "KVSHARE_REQUIRE_BROWSER"
"""Environment variable that makes it a failure of the tests that there is no browser, as in CI."""

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")

FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class BrowserError(RuntimeError):
    """There is no browser to test with; the message says what to install."""


def find_chromium() -> Path:
    """The Chromium to test with. Raises BrowserError when there is none."""
    named = os.environ.get(CHROMIUM_VARIABLE)
    names = (named,) if named else CHROMIUM_NAMES
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise BrowserError(
            f"no {' or '.join(names)} on the PATH; install Chromium, or let {CHROMIUM_VARIABLE} name its file."
        )
    return Path(found)


def find_node() -> Path:
    """The Node.js of Playwright's driver. Raises BrowserError when Playwright is not installed."""
    _require_playwright()
    from playwright._impl._driver import compute_driver_executable  # pyright: ignore[reportMissingImports]

    return Path(compute_driver_executable()[0])


@contextmanager
def running_browser() -> Generator["Browser", None, None]:
    """Runs Chromium headless, with a new empty profile, until the block ends. Raises BrowserError when it cannot."""
    chromium = find_chromium()
    _require_playwright()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Its sandbox does not start for root, as which CI runs.
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS, chromium_sandbox=False)
        try:
            yield browser
        finally:
            browser.close()


def _require_playwright() -> None:
    if find_spec("playwright") is None:
        raise BrowserError(f"{sys.executable} lacks playwright; install it: {sys.executable} -m pip install playwright")
