"""What a user pastes as a prompt is text in the page, never part of the page."""

from typing import TYPE_CHECKING

import pytest

from devtools.server import Server
from tests.support.comfy_page import MODES, ComfyPage, Mode
from tests.support.viewer_page import NODE, film_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTILE = '<img src=kvs-none onerror="window.kvsHit = 1"><script>window.kvsHit = 2</script>'
FILM = f"a circle {HOSTILE} over night\na circle {HOSTILE} over grass | negative: {HOSTILE}"
STRANGE = """() => window.kvsHit !== undefined
    || [...document.images].some((image) => image.src.includes("kvs-none"))
    || [...document.scripts].some((script) => script.textContent.includes("kvsHit"))"""


def wait_for_text(page: ComfyPage, place: str, text: str) -> None:
    page.page.wait_for_function(
        "([place, text]) => [...document.querySelectorAll(place)].some((one) => one.textContent.includes(text))",
        arg=[place, text],
    )


@pytest.mark.parametrize("mode", MODES)
def test_tags_in_prompts_and_in_what_is_said_of_them_stay_text(browser: "Browser", server: Server, mode: Mode) -> None:
    with film_page(browser, server, mode, 1000, 2) as page:
        page.look_at("LongVideoSegmenter")
        page.set_widget("LongVideoSegmenter", "prompts", f"[{HOSTILE}] a circle")
        wait_for_text(page, ".kvs-timeline", HOSTILE[:20])
        assert not page.page.evaluate(STRANGE)
        page.set_widget("LongVideoSegmenter", "prompts", FILM)
        wait_for_text(page, ".kvs-timeline .kvs-prompt", HOSTILE)
        page.page.locator(".kvs-timeline .kvs-beat").nth(1).click()
        assert not page.page.evaluate(STRANGE)
        page.look_at(NODE)
        page.run()
        page.page.wait_for_selector(".kvs-viewer .kvs-screen:visible")
        assert not page.page.evaluate(STRANGE)
