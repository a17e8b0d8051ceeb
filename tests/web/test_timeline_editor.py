"""The timeline editor in the host's own frontend, in both node renderers: edits by mouse, keyboard and touch change the
text as intended, and nothing else."""

import json
from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from devtools.environment import ROOT
from devtools.server import Server
from kvshare_core.embedded.latents import BLOCK_FRAMES, NATIVE_LATENT_FRAMES
from kvshare_core.script.film import ScriptBeat, WordWeight
from kvshare_core.script.json_form import script_json
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline
from tests.support.comfy_page import MODES, ComfyPage, Mode, comfy_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

NODE = "LongVideoSegmenter"
FILM = """# My film.
subject: circle

[2s] a circle moving right over night
# The turn.
[blend 8f]
[16f] a circle moving down over grass | seed: +5

a circle moving left over grass"""
WORKFLOW = ROOT / "example_workflows" / "First light.json"
FRAME_MILLISECONDS = 16
MANY = 100
MOST_BLOCKED_MILLISECONDS, MOST_DRAWN = 1000, 4000
"""For a film of few beats, and for the drawing of a thousand; a tenth of it without other work on the machine."""

DRAG_TIMES = """async () => {
    // Of every frame of a drag: what the editor does in it, and the layout that comes of it, in milliseconds.
    const block = document.querySelectorAll(".kvs-timeline .kvs-beat")[4];
    const box = block.getBoundingClientRect();
    const send = (kind, right) => {
        const [clientX, clientY] = [box.right - 1 + right, box.top + 9];
        block.dispatchEvent(new PointerEvent(kind, {button: 0, pointerType: "mouse", bubbles: true, clientX, clientY}));
    };
    block.setPointerCapture = () => {};
    send("pointerdown", 0);
    const times = [];
    for (let step = 1; step <= 60; step++) {
        let begin = 0;
        requestAnimationFrame(() => { begin = performance.now(); });
        send("pointermove", step);
        await new Promise((resolve) => requestAnimationFrame(resolve));
        document.querySelector(".kvs-later").getBoundingClientRect();
        times.push(performance.now() - begin);
    }
    send("pointercancel", 60);
    return times.sort((one, other) => one - other);
}"""

CONTRAST = """root => {
    // Of the words of a beat to what is behind them, as WCAG 2 counts it.
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const light = (colour) => {
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const parts = [...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)].map((part) => part / 255);
        const [r, g, b] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const beat = root.querySelector(".kvs-beat");
    const found = [beat, beat.querySelector(".kvs-prompt")].map((one) => getComputedStyle(one));
    const [low, high] = [light(found[0].backgroundColor), light(found[1].color)].sort((one, other) => one - other);
    return (high + 0.05) / (low + 0.05);
}"""

SIZE = "() => [...window.app.graph._nodes.find((node) => node.type === 'LongVideoSegmenter').size]"
RESIZE = """size => {
    window.app.graph._nodes.find((node) => node.type === "LongVideoSegmenter").setSize(size);
    window.app.canvas.setDirty(true, true);
}"""
TEXT_FIELDS = """() => [...document.querySelectorAll("textarea")]
    .filter((field) => !field.closest(".kvs-panel") && field.getBoundingClientRect().width > 0)
    .map((field) => [field.getBoundingClientRect().toJSON(), field.value])"""

IN_VUE = "root => Boolean(root.closest('[data-node-id]'))"


class Editor:
    """The editor of the first film in a page."""

    def __init__(self, page: ComfyPage) -> None:
        self.page = page
        self.root = page.page.locator(".kvs-timeline")
        self.beats = self.root.locator(".kvs-beat")

    @property
    def text(self) -> str:
        return self.page.widget_value(NODE, "prompts")

    @property
    def written(self) -> tuple[ScriptBeat, ...]:
        return parse_script(self.text).beats

    def write(self, text: str) -> None:
        """Sets the text, and waits until it is shown."""
        self.page.set_widget(NODE, "prompts", text)
        self.settle()

    def settle(self) -> None:
        """Waits until what is written is shown."""
        self.page.page.wait_for_selector(".kvs-timeline[aria-busy='false']")

    def shown(self, beats: int) -> None:
        """Waits until so many beats are written and shown."""
        self.page.page.wait_for_function(
            "count => document.querySelectorAll('.kvs-timeline .kvs-beat').length === count", arg=beats
        )
        self.settle()

    def becomes(self, text: str) -> None:
        """Waits until the text is that and shown."""
        self.page.page.wait_for_function(
            """text => window.app.graph._nodes.find((node) => node.type === "LongVideoSegmenter")
                .widgets.find((widget) => widget.name === "prompts").value === text""",
            arg=text,
        )
        self.settle()

    def changes(self, before: str) -> str:
        """Waits until the text is another one and shown."""
        self.page.page.wait_for_function(
            """text => window.app.graph._nodes.find((node) => node.type === "LongVideoSegmenter")
                .widgets.find((widget) => widget.name === "prompts").value !== text""",
            arg=before,
        )
        self.settle()
        return self.text

    def choose(self, number: int) -> None:
        self.beats.nth(number - 1).locator(".kvs-control").focus()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.page.keyboard.press(key)

    def drag(self, part: "Locator", right: float, edge: bool = False) -> None:
        """Drags a part of the editor so many pixels to the right, from its right edge or its middle."""
        box = part.bounding_box()
        assert box is not None
        x, y = box["x"] + (box["width"] - 4 if edge else box["width"] / 2), box["y"] + box["height"] / 2
        mouse = self.page.page.mouse
        mouse.move(x, y)
        mouse.down()
        for part_way in (0.3, 0.7, 1):
            mouse.move(x + right * part_way, y)
        mouse.up()

    def fact(self, name: str) -> str:
        return self.root.locator(".kvs-facts div", has=self.page.page.get_by_text(name, exact=True)).inner_text()


@pytest.fixture(scope="module", params=MODES)
def opened(browser: "Browser", server: Server, request: pytest.FixtureRequest) -> Iterator[ComfyPage]:
    mode: Mode = request.param
    with comfy_page(browser, server, mode, size=(1400, 1400)) as page:
        page.drop_workflow(WORKFLOW)
        page.look_at(NODE)
        yield page


@pytest.fixture
def editor(opened: ComfyPage) -> Editor:
    found = Editor(opened)
    found.write(FILM)
    found.choose(1)
    return found


def line(text: str, number: int) -> str:
    return text.splitlines()[number]


def test_mouse_resizes_a_beat(editor: Editor) -> None:
    box = editor.beats.nth(1).bounding_box()
    assert box is not None
    editor.drag(editor.beats.nth(1), box["width"] / 2, edge=True)
    text = editor.changes(FILM)
    assert editor.written[1].duration is not None and editor.written[1].duration.value > 16
    assert text.replace(line(text, 6), line(FILM, 6)) == FILM


def test_mouse_puts_a_beat_in_another_place(editor: Editor) -> None:
    box = editor.beats.nth(2).bounding_box()
    assert box is not None
    editor.drag(editor.beats.nth(0), box["x"] + box["width"])
    editor.changes(FILM)
    assert [beat.prompt.split()[3] for beat in editor.written] == ["down", "left", "right"]


def test_keyboard_does_everything(editor: Editor) -> None:
    editor.press("ArrowRight", "Shift+ArrowRight")
    assert "[20f] a circle moving down" in editor.changes(FILM)
    editor.press("Control+z")
    editor.becomes(FILM)
    editor.press("Control+y")
    assert "[20f]" in editor.changes(FILM)
    editor.press("Control+z")
    editor.becomes(FILM)
    editor.press("d")
    editor.shown(4)
    assert [beat.seed_offset for beat in editor.written] == [0, 5, 5, 0]
    editor.press("Delete")
    editor.shown(3)
    editor.becomes(FILM)
    editor.choose(2)
    editor.press("s")
    editor.shown(4)
    assert [beat.duration and beat.duration.value for beat in editor.written] == [2, 8, 8, None]
    editor.press("Control+z")
    editor.becomes(FILM)
    editor.choose(3)
    editor.press("Alt+ArrowLeft")
    assert editor.changes(FILM).endswith("| seed: +5")


def test_copied_beat_is_pasted_behind_the_chosen_one(editor: Editor) -> None:
    editor.choose(2)
    editor.press("Control+c", "ArrowRight", "Control+v")
    editor.shown(4)
    assert editor.text == FILM + "\n" + line(FILM, 6)


def test_pasted_beat_has_no_source_that_is_not_earlier(editor: Editor) -> None:
    sourced = FILM + " | source: beat 1 and beat 2"
    editor.write(sourced)
    editor.choose(3)
    editor.press("Control+c")
    editor.choose(1)
    editor.press("Control+v")
    editor.shown(4)
    assert [beat.sources for beat in editor.written] == [None, (0,), None, (0, 2)]


def test_what_is_no_beat_is_not_pasted(editor: Editor) -> None:
    editor.page.page.evaluate("() => navigator.clipboard.writeText('[3s')")
    editor.choose(1)
    editor.press("Control+v")
    editor.page.page.wait_for_function("() => document.querySelector('.kvs-said').textContent.includes('[3s')")
    assert editor.text == FILM
    box = editor.root.bounding_box()
    assert box is not None and box["width"] < 1000


def test_words_are_changed_in_place(editor: Editor) -> None:
    fields = editor.root.locator(".kvs-inspector")
    editor.choose(2)
    fields.locator("textarea").fill("a sign | a circle")
    editor.press("Enter")
    assert editor.changes(FILM) == FILM.replace("a circle moving down over grass", r"a sign \| a circle")
    before = editor.text
    fields.locator("input").nth(0).fill("3")
    editor.press("Enter")
    assert editor.changes(before) == before.replace("[16f]", "[3s]")
    before = editor.text
    fields.locator("select").select_option("cut")
    assert editor.changes(before) == before.replace("[blend 8f]", "[cut]")
    before = editor.text
    fields.locator("input").nth(2).fill("sign")
    editor.press("Enter")
    assert editor.changes(before) == before.replace("| seed: +5", "| seed: +5 | subject: sign")


SUBJECT = "MaskGuidedKVShare"


@pytest.fixture
def unnamed(editor: Editor) -> Iterator[Editor]:
    """The editor with no subject named by MaskGuidedKVShare."""
    editor.page.set_widget(SUBJECT, "subject", "")
    yield editor
    editor.page.set_widget(SUBJECT, "subject", "circle")


def test_wrong_word_marks_its_beat_and_the_nearest_one_is_a_click_away(unnamed: Editor) -> None:
    film = "subject: circle\na circle over night\ntwo circles over grass"
    unnamed.write(film)
    assert [
        number for number in range(2) if "kvs-wrong" in (unnamed.beats.nth(number).get_attribute("class") or "")
    ] == [1]
    unnamed.root.locator(".kvs-problem .kvs-place").click()
    assert unnamed.beats.nth(1).locator(".kvs-control").get_attribute("aria-pressed") == "true"
    unnamed.page.screenshot(f"timeline-wrong-word-{'nodes-2' if unnamed.root.evaluate(IN_VUE) else 'classic'}")
    unnamed.root.get_by_role("button", name="Use 'circles' here").click()
    assert unnamed.changes(film) == f"{film} | subject: circle = circles"
    assert unnamed.root.locator(".kvs-problem, .kvs-wrong").count() == 0


def test_wrong_word_of_another_node_is_corrected_there(editor: Editor) -> None:
    editor.page.set_widget(SUBJECT, "subject", "circles")
    editor.write("a circle over night\na circle over grass")
    editor.root.get_by_role("button", name="Use 'circle'").nth(0).click()
    assert editor.page.widget_value(SUBJECT, "subject") == "circle"


def test_subject_that_nobody_names_can_be_named_by_a_click(unnamed: Editor) -> None:
    film = "a circle over night\na circle over grass"
    unnamed.write(film)
    warning = unnamed.root.locator(".kvs-warning")
    assert "No subject is named" in warning.inner_text()
    warning.get_by_role("button", name="Subject: circle").click()
    assert unnamed.changes(film) == f"subject: circle\n{film}"
    assert warning.count() == 0


@pytest.mark.parametrize("mode", MODES)
def test_node_that_shares_is_put_in_where_it_is_missing(browser: "Browser", server: Server, mode: Mode) -> None:
    with comfy_page(browser, server, mode, size=(1400, 1400)) as page:
        page.drop_workflow(WORKFLOW)
        page.page.evaluate(
            """() => {
                const {graph} = window.app;
                graph.remove(graph._nodes.find((node) => node.type === "MaskGuidedKVShare"));
            }"""
        )
        page.look_at(NODE)
        editor = Editor(page)
        editor.write("a circle over night\na circle over grass")
        editor.root.get_by_role("button", name="Add Mask-Guided KV Share").click()
        page.page.wait_for_function(
            "() => document.querySelector('.kvs-timeline .kvs-warning')?.textContent.includes('named')"
        )
        saved = page.saved_workflow()
        named = {node["id"]: node["type"] for node in saved["nodes"]}
        links = {(named[start], named[stop], kind) for _, start, _, stop, _, kind in saved["links"]}
        assert {
            ("LoadVideoDiT", SUBJECT, "MODEL"),
            (NODE, SUBJECT, "KVSHARE_TIMELINE"),
            (SUBJECT, "KSampler", "MODEL"),
        } <= links
        assert ("LoadVideoDiT", "KSampler", "MODEL") not in links


def test_new_beat_shows_the_subject_and_is_ready_to_be_written(editor: Editor) -> None:
    editor.root.get_by_role("button", name="Add a beat").click()
    editor.shown(4)
    assert editor.written[1].prompt.startswith("circle")
    assert (
        not editor.root.locator("button.kvs-message").is_visible() and editor.root.locator(".kvs-problem").count() == 0
    )
    editor.page.page.keyboard.type("a circle in the rain")
    before = editor.text
    editor.press("Enter")
    editor.changes(before)
    assert [beat.prompt for beat in editor.written][:2] == ["a circle moving right over night", "a circle in the rain"]


@pytest.mark.parametrize("bad", ["0", "banana", "-3s"])
def test_bad_duration_is_rejected_in_its_field(editor: Editor, bad: str) -> None:
    field = editor.root.locator(".kvs-inspector input").nth(0)
    field.fill(bad)
    editor.press("Enter")
    editor.root.locator(".kvs-bad").wait_for(state="visible")
    assert field.get_attribute("aria-invalid") == "true" and field.input_value() == bad
    assert field.is_enabled() and editor.text == FILM
    field.fill("3")
    editor.press("Enter")
    assert editor.changes(FILM) == FILM.replace("[2s]", "[3s]")
    editor.root.locator(".kvs-bad").wait_for(state="hidden")


def test_everything_a_beat_can_have_has_a_field(editor: Editor) -> None:
    more = editor.root.locator(".kvs-inspector details")
    more.locator("summary").click()
    editor.choose(2)
    values = {"strength": "0.4", "source": "beat 1", "negative": "blurry", "seed": "+2"}
    for name, value in {**values, "weight": "circle 1.5 | grass 0"}.items():
        before = editor.text
        more.locator(f"input[data-name={name}]").fill(value)
        editor.press("Enter")
        editor.changes(before)
    beat = editor.written[1]
    assert (beat.strength, beat.sources, beat.negative, beat.seed_offset) == (0.4, (0,), "blurry", 2)
    assert beat.weights == (WordWeight("circle", 1.5), WordWeight("grass", 0.0))


def test_pasted_paragraph_can_be_joined(editor: Editor) -> None:
    paragraph = "A circle moves slowly to the right\nover a dark night sky, and then\nit goes down over grass."
    editor.write(paragraph)
    assert editor.beats.count() == 3
    editor.root.get_by_role("button", name="Join lines").click()
    editor.becomes(paragraph.replace("\n", " "))
    assert editor.beats.count() == 1
    editor.root.get_by_role("button", name="Undo").click()
    editor.becomes(paragraph)


def test_click_on_an_error_goes_to_its_place(editor: Editor) -> None:
    broken = FILM + "\n[banana] a circle"
    editor.page.set_widget(NODE, "prompts", broken)
    message = editor.root.locator("button.kvs-message")
    message.wait_for(state="visible")
    message.click()
    field = editor.page.page.evaluate(
        "() => [document.activeElement.tagName, document.activeElement.value, document.activeElement.selectionStart]"
    )
    assert field[:2] == ["TEXTAREA", broken] and broken[field[2] :].startswith(("banana", "[banana"))


def test_said_lines_do_not_outlast_what_they_are_about(editor: Editor) -> None:
    editor.press("d")
    editor.shown(4)
    said = editor.root.locator(".kvs-said")
    assert "duplicated" in said.inner_text()
    editor.write(FILM)
    assert said.inner_text() == ""


def test_all_buttons_are_in_sight_on_a_narrow_node(editor: Editor) -> None:
    size = editor.page.page.evaluate(SIZE)
    editor.page.page.evaluate(RESIZE, [320, size[1]])
    editor.page.page.wait_for_function("() => document.querySelector('.kvs-timeline').clientWidth < 330")
    box = editor.root.bounding_box()
    button = editor.root.get_by_role("button", name="Zoom in").bounding_box()
    editor.page.page.evaluate(RESIZE, size)
    assert box is not None and button is not None
    assert box["x"] <= button["x"] and button["x"] + button["width"] <= box["x"] + box["width"]


def test_text_is_what_counts(editor: Editor) -> None:
    editor.page.set_widget(NODE, "prompts", FILM + "\n[3s")
    message = editor.root.locator("button.kvs-message")
    message.wait_for(state="visible")
    assert "line 10, column 1" in message.inner_text()
    assert editor.beats.count() == 3
    editor.write(FILM)
    message.wait_for(state="hidden")


def test_json_film_can_be_turned_into_text(editor: Editor) -> None:
    script = parse_script(FILM)
    editor.write(script_json(script))
    turn = editor.root.get_by_role("button", name="Convert this JSON film to the text form")
    turn.wait_for(state="visible")
    editor.choose(1)
    editor.press("d")
    turn.click()
    editor.changes(script_json(script))
    assert parse_script(editor.text) == script and not editor.text.startswith("{")


def test_plan_is_there_before_any_run(editor: Editor) -> None:
    editor.page.page.wait_for_function("() => document.querySelector('.kvs-facts')?.textContent.includes('MB')")
    planned = plan_timeline(parse_script(FILM), NATIVE_LATENT_FRAMES, 2, 8.0, BLOCK_FRAMES)
    assert f"{planned.frames} frames" in editor.fact("Length")
    assert "blocks 0-7" in editor.fact("Sharing") and "of 20" in editor.fact("Sharing")
    assert "about" in editor.fact("Keys and values") and "at most" in editor.fact("Keys and values")
    assert "while a block shares" in editor.fact("Shared attention")
    editor.page.screenshot(f"timeline-{'nodes-2' if editor.root.evaluate(IN_VUE) else 'classic'}")


def test_other_nodes_change_the_plan(editor: Editor) -> None:
    changed = "text => document.querySelector('.kvs-plan').textContent.includes(text)"
    editor.page.set_widget("KSampler", "steps", 7)
    editor.page.page.evaluate("() => { window.app.canvas.emitBeforeChange(); window.app.canvas.emitAfterChange(); }")
    editor.page.page.wait_for_function(changed, arg="of 7")
    editor.page.set_widget("KSampler", "steps", 20)
    editor.page.set_widget("MaskGuidedKVShare", "subject", "fox")
    editor.page.page.evaluate("() => { window.app.canvas.emitBeforeChange(); window.app.canvas.emitAfterChange(); }")
    editor.page.page.wait_for_function(changed, arg="subject: it is 'fox'")
    editor.page.set_widget("MaskGuidedKVShare", "subject", "circle")


def test_timeline_stands_directly_under_the_prompts_and_uses_the_height_of_the_node(editor: Editor) -> None:
    texts = editor.page.page.evaluate(TEXT_FIELDS)
    (prompts,) = (place for place, value in texts if value == FILM)
    (negative,) = (place for place, value in texts if value == "" and place["top"] > prompts["top"])
    box = editor.root.bounding_box()
    assert box is not None
    assert 0 <= box["y"] - prompts["bottom"] < 40
    assert box["y"] + box["height"] <= negative["top"]
    plan = editor.root.locator(".kvs-plan").bounding_box()
    assert plan is not None
    assert box["y"] + box["height"] - plan["y"] - plan["height"] < 20
    editor.root.locator(".kvs-inspector details").evaluate("details => { details.open = false; }")
    height = editor.beats.nth(0).evaluate("beat => beat.offsetHeight")
    size = editor.page.page.evaluate(SIZE)
    editor.page.page.evaluate(RESIZE, [size[0], size[1] + 600])
    editor.page.page.wait_for_function(
        "height => document.querySelector('.kvs-timeline .kvs-beat').offsetHeight > height + 40", arg=height
    )
    editor.page.page.evaluate(RESIZE, size)


def test_saved_workflow_holds_the_film_and_nothing_of_the_editor(editor: Editor) -> None:
    saved = editor.page.saved_workflow()
    before = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    values = {node["id"]: node.get("widgets_values") for node in saved["nodes"]}
    for node in before["nodes"]:
        wanted: list[Any] = list(node["widgets_values"])
        if node["type"] == NODE:
            wanted[0] = FILM
        assert list(values[node["id"]] or [])[: len(wanted)] == wanted
    editor.page.drop_workflow(saved)
    editor.page.look_at(NODE)
    editor.shown(3)
    assert editor.text == FILM


def test_film_is_there_after_the_page_was_loaded_again(editor: Editor) -> None:
    editor.choose(2)
    editor.root.locator(".kvs-inspector textarea").fill("a circle kept for later")
    editor.press("Enter")
    text = editor.changes(FILM)
    editor.page.page.wait_for_function(
        """() => [...Object.values(localStorage), ...Object.values(sessionStorage)]
            .some((kept) => kept.includes("kept for later"))"""
    )
    editor.page.open()
    editor.page.page.wait_for_function("type => window.app.graph._nodes.some((node) => node.type === type)", arg=NODE)
    editor.page.look_at(NODE)
    editor.shown(3)
    assert editor.text == text


def test_film_runs(editor: Editor) -> None:
    page = editor.page.page
    editor.page.set_widget("KSampler", "steps", 1)
    # Otherwise the host would take what it made for the test before.
    editor.page.set_widget("KSampler", "seed", Random().randrange(2**32))
    editor.write("a circle moving right over night\na circle moving down over grass")
    page.evaluate(
        """() => {
            window.kvsSeen = {};
            for (const kind of ["progress", "execution_success", "execution_error"]) {
                window.app.api.addEventListener(kind, () => { window.kvsSeen[kind] = true; });
            }
        }"""
    )
    editor.page.run()
    page.wait_for_function("() => window.kvsSeen.execution_success || window.kvsSeen.execution_error")
    assert page.evaluate("() => window.kvsSeen") == {"progress": True, "execution_success": True}


def test_a_hundred_beats_follow_the_mouse(editor: Editor) -> None:
    page = editor.page.page
    editor.write("\n".join(f"[2s] a circle moving right over scene {number}" for number in range(MANY)))
    assert editor.beats.count() == MANY
    spent = page.evaluate(DRAG_TIMES)
    assert spent[len(spent) // 2] < FRAME_MILLISECONDS
    editor.root.get_by_role("button", name="Zoom in").click(click_count=3)
    editor.page.screenshot(f"timeline-{MANY}-beats")


@pytest.mark.parametrize(
    ("film", "beats", "length", "most"),
    [
        ("[3000s] a circle moving right over night", 1, "50:00", MOST_BLOCKED_MILLISECONDS),
        (
            "\n".join(f"[2s] a circle moving right over scene {number}" for number in range(1000)),
            1000,
            "33:",
            MOST_DRAWN,
        ),
    ],
    ids=["an hour", "a thousand beats"],
)
def test_a_long_film_is_planned_without_blocking_the_editor(
    editor: Editor, film: str, beats: int, length: str, most: int
) -> None:
    longest = editor.page.page.evaluate(
        """async (text) => {
            // The longest time between two frames of the page while the film is planned and drawn.
            let [last, longest, going] = [performance.now(), 0, true];
            const watch = () => {
                const now = performance.now();
                [longest, last] = [Math.max(longest, now - last), now];
                if (going) {
                    requestAnimationFrame(watch);
                }
            };
            requestAnimationFrame(watch);
            const node = window.app.graph._nodes.find((node) => node.type === "LongVideoSegmenter");
            const widget = node.widgets.find((widget) => widget.name === "prompts");
            widget.value = text;
            widget.callback?.(text);
            const editor = document.querySelector(".kvs-timeline");
            while (editor.getAttribute("aria-busy") !== "false") {
                await new Promise((resolve) => setTimeout(resolve, 20));
            }
            await new Promise(requestAnimationFrame);
            going = false;
            return longest;
        }""",
        film,
    )
    assert editor.beats.count() == beats and length in editor.fact("Length")
    assert longest < most


def test_finger_resizes_a_beat(browser: "Browser", server: Server) -> None:
    with comfy_page(browser, server, "nodes 2.0", size=(1000, 1400), touch=True) as page:
        page.drop_workflow(WORKFLOW)
        page.look_at(NODE)
        editor = Editor(page)
        editor.write(FILM)
        editor.beats.nth(0).tap()
        box = editor.beats.nth(0).bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] - 8, box["y"] + box["height"] / 2
        finger = page.page.context.new_cdp_session(page.page)
        for kind, right in (("touchStart", 0), ("touchMove", 30), ("touchMove", 90)):
            points = [{"x": x + right, "y": y}]
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        assert "[2s]" not in editor.changes(FILM)


@pytest.mark.parametrize("palette", ["dark", "light"])
def test_text_can_be_read_in_either_theme(browser: "Browser", server: Server, palette: Any) -> None:
    with comfy_page(browser, server, "classic", palette, size=(1400, 1400)) as page:
        page.drop_workflow(WORKFLOW)
        page.look_at(NODE)
        editor = Editor(page)
        editor.write(FILM)
        page.screenshot(f"timeline-{palette}")
        assert editor.root.evaluate(CONTRAST) > 4.5
