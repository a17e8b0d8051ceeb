"""The picture of the app in the README: the template First light in the real frontend after its run, as somebody gets
it who installs the archive and follows the README. Needs Chromium.

python -m bench.app_picture [--mode classic|"nodes 2.0"] [--picture FILE]
"""

import argparse
import importlib
import io
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from devtools.browser import running_browser
from devtools.environment import ROOT, find_host, say
from devtools.package import installed, version_of, write_archive
from devtools.published import read_published
from devtools.server import Server

PICTURE = ROOT / "docs" / "pictures" / "app.jpg"
TEMPLATE = "First light"
SIZE, KEPT, WIDTH = (1900, 1100), (225, 130, 1675, 955), 1200
"""The window, what of it is kept, and how wide that is then."""
QUALITY = 82
WITHOUT_MAP = {"Comfy.Minimap.Visible": False}
"""The frontend's own map of the workflow lies on it."""
PLACED = "() => window.app.graph._nodes.some((node) => node.type === 'LongVideoSegmenter')"
LISTEN = """() => {
    window.kvsEnded = null;
    for (const kind of ["execution_success", "execution_error"]) {
        window.app.api.addEventListener(kind, () => { window.kvsEnded = kind; });
    }
}"""
SETTLED = 4000
"""Milliseconds until the frontend has drawn what it was given."""


def film_in_app(page: Any) -> bytes:
    """The window after the README's three clicks, when the film is done. Raises RuntimeError when the run fails."""
    page.get_by_role("button", name="Templates").first.click()
    page.get_by_text(TEMPLATE, exact=True).first.click()
    page.wait_for_function(PLACED)
    page.wait_for_timeout(SETTLED)
    page.evaluate(LISTEN)
    page.get_by_role("button", name="Run").first.click()
    page.wait_for_function("() => window.kvsEnded", timeout=900_000)
    if page.evaluate("() => window.kvsEnded") != "execution_success":
        raise RuntimeError(f"{TEMPLATE} failed in the app")
    page.wait_for_timeout(SETTLED)
    return page.screenshot()


def picture_of(server: Server, mode: Any) -> Image.Image:
    """The picture of a run on a server."""
    # Hosts have a package of that name too.
    importlib.import_module("tests").__path__.append(str(ROOT / "tests"))
    from tests.support.comfy_page import change_settings, comfy_page

    change_settings(server, WITHOUT_MAP)
    with running_browser() as browser, comfy_page(browser, server, mode, size=SIZE) as opened:
        shot = Image.open(io.BytesIO(film_in_app(opened.page))).convert("RGB").crop(KEPT)
    return shot.resize((WIDTH, round(WIDTH * shot.height / shot.width)), Image.Resampling.LANCZOS)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="the picture of the app in the README")
    parser.add_argument("--mode", choices=("classic", "nodes 2.0"), default="nodes 2.0", help="how nodes are drawn")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where to save it")
    options = parser.parse_args()
    files = read_published()
    archive = ROOT / "out" / f"kv-share-{version_of(files)}.zip"
    write_archive(files, archive)
    with installed(archive, find_host(), Path(sys.executable)) as server:
        picture = picture_of(server, options.mode)
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    picture.save(options.picture, quality=QUALITY)
    say(f"picture of the app: {picture.width} x {picture.height}")


if __name__ == "__main__":
    main()
