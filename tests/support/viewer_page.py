"""A page of ComfyUI's frontend with the mask viewer, and the viewer's controls."""

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING

from devtools.environment import ROOT
from devtools.server import Server
from tests.support.comfy_page import ComfyPage, Mode, comfy_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator


NODE = "AttentionMaskPreview"
WORKFLOW = ROOT / "example_workflows" / "First light.json"
FILM = "a circle moving right over night\na circle moving down over grass"
PIXELS = """() => {
    const screen = document.querySelector(".kvs-screen");
    return [...screen.getContext("2d").getImageData(0, 0, screen.width, screen.height).data];
}"""


class Viewer:
    """The viewer of the first preview in a page."""

    def __init__(self, page: ComfyPage) -> None:
        self.page = page
        self.root = page.page.locator(".kvs-viewer")
        self.screen = self.root.locator(".kvs-screen")
        self.scrub = self.root.locator(".kvs-scrub")

    def select(self, label: str) -> "Locator":
        return self.root.locator("label", has_text=label).locator("select")

    @property
    def place(self) -> int:
        return int(self.scrub.input_value())

    @property
    def pixels(self) -> list[int]:
        return self.page.page.evaluate(PIXELS)

    def slide(self, control: "Locator", value: float) -> None:
        control.evaluate(
            "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }",
            value,
        )


@contextmanager
def film_page(browser: "Browser", server: Server, mode: Mode, height: int, steps: int) -> Iterator[ComfyPage]:
    """A page with the film to be made in so many steps, and the preview in sight."""
    with comfy_page(browser, server, mode, size=(1000, height)) as page:
        page.drop_workflow(WORKFLOW)
        page.look_at(NODE)
        page.set_widget("KSampler", "steps", steps)
        # Otherwise the host would take what it made for the test before.
        page.set_widget("KSampler", "seed", Random().randrange(2**32))
        page.set_widget("LongVideoSegmenter", "prompts", FILM)
        yield page
