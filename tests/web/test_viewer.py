"""The mask viewer in the host's own frontend, in both node renderers: it shows frames and heat after a run, reacts to
mouse and keyboard, and leaves the workflow as it was."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from devtools.server import Server
from tests.support.comfy_page import MODES, ComfyPage, comfy_page
from tests.support.viewer_page import FILM, NODE, WORKFLOW, Viewer, film_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

STEPS = 2


LISTEN = """() => {
    const node = window.app.graph._nodes.find((node) => node.type === "LongVideoSegmenter");
    const {element} = node.widgets.find((widget) => widget.name === "kvshare_timeline");
    const run = element.querySelector(".kvs-run");
    window.kvsTold = [];
    window.kvsRun = run;
    window.app.api.addEventListener("kv_share.progress", ({detail}) => {
        window.kvsTold.push([detail.step, detail.segment, run.hidden, run.textContent]);
    });
}"""


@pytest.fixture(scope="module", params=MODES)
def opened(browser: "Browser", server: Server, request: pytest.FixtureRequest) -> Iterator[ComfyPage]:
    """A page in which the film has been made."""
    with film_page(browser, server, request.param, 1000, STEPS) as page:
        assert page.page.locator(".kvs-viewer .kvs-hint").is_visible()
        page.page.evaluate(LISTEN)
        page.run()
        page.page.wait_for_selector(".kvs-viewer .kvs-screen:visible")
        yield page


@pytest.fixture
def viewer(opened: ComfyPage) -> Viewer:
    found = Viewer(opened)
    found.slide(found.scrub, 0)
    found.slide(found.root.get_by_label("Opacity", exact=True), 0.6)
    found.select("Draw").select_option("heat")
    return found


def test_frames_and_heat_are_shown(viewer: Viewer) -> None:
    with_heat = viewer.pixels
    viewer.slide(viewer.root.get_by_label("Opacity", exact=True), 0)
    without = viewer.pixels
    assert len(set(without)) > 10 and without != with_heat
    viewer.slide(viewer.root.get_by_label("Opacity", exact=True), 1)
    viewer.select("Draw").select_option("mask")
    assert viewer.pixels not in (with_heat, without)
    viewer.page.screenshot(
        f"viewer-{'nodes-2' if viewer.root.evaluate('e => !!e.closest(`[data-node-id]`)') else 'classic'}"
    )


def test_progress_is_shown_step_by_step_and_segment_by_segment(viewer: Viewer) -> None:
    page = viewer.page.page
    told = page.evaluate("() => window.kvsTold")
    segments = 1 + max(segment for _, segment, _, _ in told)
    assert [one[:2] for one in told] == [[step, number] for step in range(STEPS) for number in range(segments)]
    assert not any(hidden for _, _, hidden, _ in told)
    assert told[-1][3] == f"Step {STEPS} of {STEPS}, segment {segments} of {segments}: {FILM.splitlines()[-1]}"
    page.wait_for_function("() => window.kvsRun.hidden")


def test_scrubbing_and_keys_go_through_the_frames(viewer: Viewer) -> None:
    first = viewer.pixels
    viewer.slide(viewer.scrub, 9)
    assert viewer.pixels != first and viewer.root.locator(".kvs-time").inner_text().startswith("10 of ")
    viewer.screen.focus()
    viewer.page.page.keyboard.press("ArrowRight")
    assert viewer.place == 10
    viewer.page.page.keyboard.press("ArrowLeft")
    assert viewer.place == 9
    viewer.page.page.keyboard.press(" ")
    viewer.page.page.wait_for_function("() => document.querySelector('.kvs-scrub').value !== '9'")
    viewer.page.page.keyboard.press(" ")
    stopped = viewer.place
    viewer.root.get_by_role("button", name="Play").wait_for(state="visible")
    assert viewer.place == stopped


def test_segment_picker_goes_to_the_segment_and_follows_the_frame(viewer: Viewer) -> None:
    segments = viewer.select("Segment")
    last = segments.locator("option").count() - 1
    assert last > 0
    segments.select_option(str(last))
    assert viewer.place > 0 and "beat 2" in segments.locator("option").nth(last).inner_text()
    viewer.slide(viewer.scrub, 0)
    assert segments.input_value() == "0"


def test_words_are_followed_to_their_tokens(viewer: Viewer) -> None:
    lines = viewer.root.locator(".kvs-words li")
    assert lines.count() == 2
    assert "“circle” (token" in lines.nth(0).inner_text() and "“grass”" in lines.nth(1).inner_text()


def test_masks_of_the_steps_on_the_way_can_be_chosen(viewer: Viewer) -> None:
    steps = viewer.select("Step")
    assert steps.locator("option").all_inner_texts() == ["last", *(f"after {step + 1}" for step in range(STEPS))]
    heat = viewer.pixels
    steps.select_option("1")
    assert viewer.select("Draw").input_value() == "mask" and viewer.pixels != heat
    steps.select_option("0")


def test_mask_has_an_outline_of_any_colour_and_its_size_in_words(viewer: Viewer) -> None:
    covered = viewer.root.locator(".kvs-covered").inner_text()
    part = float(covered.removeprefix("Mask: ").removesuffix(" % of the frame"))
    assert 0 < part < 100
    outlined = viewer.page.page.evaluate(
        """() => {
            const screen = document.querySelector(".kvs-screen");
            const {data} = screen.getContext("2d").getImageData(0, 0, screen.width, screen.height);
            let white = 0;
            for (let place = 0; place < data.length; place += 4) {
                white += Math.min(data[place], data[place + 1], data[place + 2]) > 200;
            }
            return white;
        }"""
    )
    assert outlined > 20


def test_opacity_of_the_viewer_and_of_the_node_is_one(viewer: Viewer) -> None:
    slider = viewer.root.get_by_label("Opacity", exact=True)
    slider.evaluate(
        """slider => {
            slider.value = 0.3;
            for (const kind of ["input", "change"]) {
                slider.dispatchEvent(new Event(kind, {bubbles: true}));
            }
        }"""
    )
    assert viewer.page.widget_value(NODE, "opacity") == 0.3
    viewer.page.set_widget(NODE, "opacity", 0.6)
    assert slider.input_value() == "0.6"


def test_a_click_chooses_the_point(viewer: Viewer) -> None:
    viewer.slide(viewer.scrub, 4)
    viewer.screen.click()
    assert viewer.page.widget_value("MaskGuidedKVShare", "look_at") == ""
    viewer.root.get_by_role("button", name="Choose a point").click()
    before = viewer.pixels
    viewer.screen.click()
    assert viewer.pixels != before, "the point has no marker"
    x, y, frame = map(float, viewer.page.widget_value("MaskGuidedKVShare", "look_at").split(","))
    assert abs(x - 0.5) < 0.02 and abs(y - 0.5) < 0.02 and frame == 4
    viewer.page.set_widget("MaskGuidedKVShare", "look_at", "")


def test_workflow_keeps_nothing_of_the_viewer(viewer: Viewer) -> None:
    before: dict[str, Any] = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    wanted = next(node["widgets_values"] for node in before["nodes"] if node["type"] == NODE)
    saved = next(node for node in viewer.page.saved_workflow()["nodes"] if node["type"] == NODE)
    assert saved["widgets_values"][: len(wanted)] == wanted
    assert not any("kvs" in str(value) for value in saved["widgets_values"])


@pytest.mark.parametrize("palette", ["light"])
def test_light_theme_has_a_picture(browser: "Browser", server: Server, palette: Any) -> None:
    with comfy_page(browser, server, "classic", palette, size=(1000, 1000)) as page:
        page.drop_workflow(WORKFLOW)
        page.look_at(NODE)
        assert page.page.locator(".kvs-viewer .kvs-hint").is_visible()
        page.screenshot(f"viewer-{palette}")
