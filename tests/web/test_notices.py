"""What a run has to say of itself, in the host's own frontend: in the editor, and in the viewer after the run."""

from typing import TYPE_CHECKING

import pytest

from devtools.server import Server
from tests.support.comfy_page import MODES, Mode, change_settings
from tests.support.viewer_page import film_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.mark.parametrize("mode", MODES)
def test_a_run_in_which_nothing_was_shared_is_visible_without_the_console(
    browser: "Browser", server: Server, mode: Mode
) -> None:
    """In a film of one step the subject is found when it is too late."""
    with film_page(browser, server, mode, 1000, 1) as page:
        notices = page.page.locator(".kvs-notice")
        assert notices.count() == 2 and not any(one.is_visible() for one in notices.all())
        page.run()
        page.page.wait_for_selector(".kvs-viewer .kvs-screen:visible")
        told = [page.page.locator(f"{place} .kvs-notice").text_content() or "" for place in PLACES]
        assert told[0] == told[1] and told[0].startswith("nothing was shared: the subject was found in the last step")
        page.set_widget("KSampler", "steps", 2)
        page.run()
        page.page.wait_for_function("() => !document.querySelector('.kvs-viewer .kvs-notice').textContent")
        assert page.page.locator(f"{PLACES[0]} .kvs-notice").text_content() == ""


def test_a_run_speaks_the_language_of_the_frontend(browser: "Browser", server: Server) -> None:
    """A notice of Python's in the editor and in the viewer, and where the mask's words stand."""
    change_settings(server, {"Comfy.Locale": "zh"})
    try:
        with film_page(browser, server, "classic", 1000, 1) as page:
            page.run()
            page.page.wait_for_selector(".kvs-viewer .kvs-screen:visible")
            for place in PLACES:
                told = page.page.locator(f"{place} .kvs-notice").text_content() or ""
                assert "没有任何共享" in told and "主体在最后一个要共享的步中才找到" in told, told
            assert "“circle” (第 " in page.page.locator(".kvs-viewer .kvs-words").inner_text()
            page.screenshot("notices-zh")
    finally:
        change_settings(server, {"Comfy.Locale": "en"})


PLACES = (".kvs-timeline", ".kvs-viewer")
