"""Attention of a chosen point in the viewer of the host's own frontend, in both node renderers: words with bars, the
curve over frames, the point's own frame alone, and the table of words."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from devtools.server import Server
from kvshare_core.host.loading.model_files import EMBEDDED_JOINT
from tests.support.comfy_page import MODES, ComfyPage
from tests.support.viewer_page import FILM, NODE, Viewer, film_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

POINT_FRAME = 4
WORDS = FILM.splitlines()[0].split()


@pytest.fixture(scope="module", params=MODES)
def opened(browser: "Browser", server: Server, request: pytest.FixtureRequest) -> Iterator[ComfyPage]:
    """A page in which a film of the model with joint attention has been made, with a point to look from."""
    with film_page(browser, server, request.param, 1100, steps=1) as page:
        page.set_widget("LoadVideoDiT", "diffusion_model", EMBEDDED_JOINT)
        page.set_widget("MaskGuidedKVShare", "look_at", f"0.25, 0.5, {POINT_FRAME}")
        page.set_widget(NODE, "show", "look_at")
        page.run()
        page.page.wait_for_selector(".kvs-viewer .kvs-looks li:visible")
        yield page


@pytest.fixture
def viewer(opened: ComfyPage) -> Viewer:
    found = Viewer(opened)
    found.slide(found.scrub, 0)
    found.root.get_by_label("This frame only").set_checked(False)
    return found


def test_the_words_of_the_prompt_have_bars(viewer: Viewer) -> None:
    words = viewer.root.locator(".kvs-bars li")
    assert words.locator(".kvs-word").all_inner_texts() == WORDS
    assert all(text.endswith(" %") for text in words.locator(".kvs-part").all_inner_texts())
    longest = words.evaluate_all("all => Math.max(...all.map(one => Number(one.style.getPropertyValue('--kvs-part'))))")
    assert longest == 1
    assert "Segment 1, beat 1: words get" in viewer.root.locator(".kvs-looks").inner_text()


def test_the_curve_leads_to_frames_by_mouse_and_keys(viewer: Viewer) -> None:
    curve = viewer.root.get_by_role("slider", name="Attention of the point to each part")
    bars = curve.locator(".kvs-frame")
    assert bars.count() > 4 and bars.first.get_attribute("title").startswith("Frame 1: ")
    bars.nth(3).click()
    assert viewer.place == 9 and curve.get_attribute("aria-valuetext").startswith("Frames 10 to 13: ")
    for key, place in (("ArrowRight", 13), ("ArrowLeft", 9), ("Home", 0)):
        curve.press(key)
        assert viewer.place == place
    viewer.slide(viewer.scrub, POINT_FRAME)
    assert curve.locator(".kvs-now").get_attribute("class") == "kvs-frame kvs-origin kvs-now"


def test_the_points_own_frame_can_be_shown_alone(viewer: Viewer) -> None:
    """The checkbox leads to the point's frame; in its neighbour there is heat without it and none with it."""
    opacity = viewer.root.get_by_label("Opacity", exact=True)

    def has_heat(frame: int) -> bool:
        viewer.slide(viewer.scrub, frame)
        pictures: list[str] = []
        for strength in (0, 0.6):
            viewer.slide(opacity, strength)
            pictures.append(viewer.screen.evaluate("screen => screen.toDataURL()"))
        return pictures[0] != pictures[1]

    assert has_heat(POINT_FRAME) and has_heat(POINT_FRAME + 1)
    viewer.root.get_by_label("This frame only").check()
    assert viewer.place == POINT_FRAME
    assert has_heat(POINT_FRAME) and not has_heat(POINT_FRAME + 1)


def test_attention_between_words_is_a_table(viewer: Viewer) -> None:
    summary = viewer.root.locator(".kvs-looks summary")
    summary.press("Enter")
    table = viewer.root.get_by_role("table")
    assert table.get_by_role("columnheader").all_inner_texts() == WORDS
    assert table.get_by_role("rowheader").all_inner_texts() == WORDS
    for row in table.locator("tbody tr").all():
        assert abs(sum(map(int, row.locator("td").all_inner_texts())) - 100) <= len(WORDS) / 2
    viewer.page.screenshot(
        f"point-{'nodes-2' if viewer.root.evaluate('e => !!e.closest(`[data-node-id]`)') else 'classic'}"
    )
    summary.press("Enter")


def test_another_map_shows_nothing_of_the_point(viewer: Viewer) -> None:
    subjects = viewer.select("Subject")
    subjects.select_option("0")
    assert subjects.locator("option:checked").inner_text() != "attention of the point"
    assert viewer.page.widget_value(NODE, "show") == "subject"
    assert viewer.root.locator(".kvs-looks, .kvs-curve, .kvs-check").filter(visible=True).count() == 0
    subjects.select_option(label="attention of the point")
    assert viewer.page.widget_value(NODE, "show") == "look_at"
    assert viewer.root.locator(".kvs-bars li").count() == len(WORDS)
