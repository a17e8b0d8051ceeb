"""From an empty canvas to a film and a wrong word mended, as somebody does who opens the pack for the first time: by
mouse alone but for what is typed, and by keyboard alone. What it takes is counted and printed."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devtools.environment import ROOT
from devtools.server import Server
from tests.support.comfy_page import MODES, Mode, comfy_page
from tests.support.new_user import User

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FIRST_LIGHT = ROOT / "example_workflows" / "First light.json"
SIZE = (1900, 1300)
BEATS = ("a circle moving right over night", "a circle moving down over grass")
USUAL = ("KV Share film from a storyboard", "Mask-Guided KV Share", "Long Video Segmenter")
OTHER = "a circle moving left over sand"
WRONG = "circles moving down over grass"
LINKS = (
    (("LoadVideoDiT", "model"), ("LongVideoSegmenter", "model")),
    (("LoadVideoDiT", "clip"), ("LongVideoSegmenter", "clip")),
    (("LongVideoSegmenter", "positive"), ("KSampler", "positive")),
    (("LongVideoSegmenter", "negative"), ("KSampler", "negative")),
    (("LongVideoSegmenter", "latent"), ("KSampler", "latent_image")),
    (("KSampler", "LATENT"), ("VAEDecode", "samples")),
    (("LoadVideoDiT", "vae"), ("VAEDecode", "vae")),
    (("VAEDecode", "IMAGE"), ("AttentionMaskPreview", "images")),
)
MOST = {"mouse": {"clicks": 45, "drags": 10, "keys": 190}, "keyboard": {"clicks": 0, "drags": 0, "keys": 330}}
"""What a film may take."""

MOST_TABS = 150
BEAT = ".kvs-beats .kvs-control"
TIMELINE = ".kvs-timeline"
LENGTHENED = """() => window.app.graph._nodes.find((node) => node.type === "LongVideoSegmenter").widgets
    .find((widget) => widget.name === "prompts").value.includes("] a circle moving down")"""
VERSION = "() => window.__COMFYUI_FRONTEND_VERSION__"
PLANNED = f"() => document.querySelector('{TIMELINE}').getAttribute('aria-busy') === 'false'"


def seen(user: User, way: str) -> None:
    """Prints what it took, and checks that it is no more than planned."""
    told = user.told()
    print(f"\n{way}, {user.mode}: {json.dumps(told)}")
    assert {name: told[name] for name, most in MOST[way].items() if told[name] > most} == {}


def film_of(user: User) -> str:
    return user.page.widget_value("LongVideoSegmenter", "prompts")


@pytest.mark.parametrize("mode", MODES)
def test_a_film_by_mouse(browser: "Browser", server: Server, mode: Mode) -> None:
    with comfy_page(browser, server, mode, size=SIZE) as opened:
        page, user = opened.page, User(opened, mode)
        user.empty_canvas()
        user.add("load video dit", "Load Video DiT", "LoadVideoDiT", 220, 300)
        user.add("long video", "Long Video Segmenter", "LongVideoSegmenter", 560, 220)
        user.add("ksampler", "KSampler", "KSampler", 1300, 560)
        user.add("vae decode", "VAE Decode", "VAEDecode", 1300, 960)
        user.add("mask preview", "Attention Mask Preview", "AttentionMaskPreview", 1600, 300)
        for link in LINKS:
            user.connect(*link)
        user.click(user.text_field("LongVideoSegmenter"))
        user.type(BEATS[0])
        user.press("Enter")
        user.type(BEATS[1])
        user.click(page.get_by_role("button", name="Add Mask-Guided KV Share"))
        user.connect(("MaskGuidedKVShare", "record"), ("AttentionMaskPreview", "record"))
        user.click(page.get_by_role("button", name="Subject: circle"))
        user.set_number("LongVideoSegmenter", "width", 96)
        user.set_number("LongVideoSegmenter", "height", 96)
        # The first frontends that drew nodes as elements take no decimals there.
        rate = 24.0 if mode == "nodes 2.0" and page.evaluate(VERSION).startswith("1.32.") else 23.976
        user.set_number("LongVideoSegmenter", "fps", rate)
        user.set_number("KSampler", "steps", 2)
        assert opened.widget_value("LongVideoSegmenter", "fps") == rate
        page.wait_for_function(PLANNED)
        user.drag_edge(page.locator(".kvs-beat").nth(1), 40)
        page.wait_for_function(LENGTHENED)
        user.click(page.get_by_role("button", name="Run", exact=True).first)
        page.wait_for_selector(".kvs-viewer .kvs-screen:visible")
        user.click(page.get_by_role("button", name="Play (Space)"))
        user.click(page.locator(".kvs-beat").nth(1))
        user.click(page.locator(".kvs-inspector textarea"))
        user.press("Control+a")
        user.type(WRONG)
        user.press("Enter")
        user.click(page.get_by_role("button", name="Use 'circles' here"))
        page.wait_for_function("() => document.querySelectorAll('.kvs-problem').length === 0")
        film = film_of(user)
        assert film.splitlines()[0] == "subject: circle" and film.endswith(f"] {WRONG} | subject: circle = circles")
        opened.screenshot(f"new-user-mouse-{mode.replace(' ', '-')}")
        seen(user, "mouse")


def until_focus(user: User, selector: str, key: str = "Tab") -> None:
    """Goes on with a key until an element has the focus."""
    for _ in range(MOST_TABS):
        if user.page.page.evaluate("selector => document.activeElement?.matches(selector) ?? false", selector):
            return
        user.press(key)
    raise AssertionError(f"{selector} cannot be reached by {key}")


@pytest.mark.parametrize("mode", MODES)
def test_a_film_by_keyboard(browser: "Browser", server: Server, mode: Mode, tmp_path: Path) -> None:
    """The frontend draws links by mouse only, so the film begins with an example; the file chooser is the system's."""
    example = json.loads(FIRST_LIGHT.read_text(encoding="utf-8"))
    (sampler,) = (node for node in example["nodes"] if node["type"] == "KSampler")
    sampler["widgets_values"][2] = 2
    file = tmp_path / FIRST_LIGHT.name
    file.write_text(json.dumps(example), encoding="utf-8")
    with comfy_page(browser, server, mode, size=SIZE) as opened:
        page, user = opened.page, User(opened, mode)
        user.empty_canvas()
        user.open_file(file)
        page.wait_for_selector(f"{TIMELINE}[aria-busy='false'] .kvs-beat")
        until_focus(user, BEAT)
        user.press("Enter")
        user.press("Control+a")
        user.type(OTHER)
        user.press("Enter")
        page.wait_for_function(PLANNED)
        until_focus(user, BEAT, "Shift+Tab")
        user.press("ArrowRight", 2)
        user.press("Delete")
        page.wait_for_function("() => document.querySelectorAll('.kvs-beat').length === 2")
        page.wait_for_function(PLANNED)
        user.press("Shift+ArrowRight", 2)
        page.wait_for_function(LENGTHENED)
        user.press("Control+Enter")
        page.wait_for_selector(".kvs-viewer .kvs-screen", state="attached")
        page.wait_for_function("() => !document.querySelector('.kvs-viewer .kvs-screen').hidden")
        until_focus(user, ".kvs-viewer .kvs-scrub")
        user.press("ArrowRight", 3)
        until_focus(user, BEAT, "Shift+Tab")
        user.press("Enter")
        user.press("Control+a")
        user.type(WRONG)
        user.press("Enter")
        page.wait_for_selector(".kvs-problem")
        until_focus(user, BEAT, "Shift+Tab")
        user.press("Control+z")
        page.wait_for_function("() => document.querySelectorAll('.kvs-problem').length === 0")
        opened.screenshot(f"new-user-keyboard-{mode.replace(' ', '-')}")
        seen(user, "keyboard")


def test_search_finds_the_usual_nodes_before_rare_ones(browser: "Browser", server: Server) -> None:
    with comfy_page(browser, server, "classic", size=SIZE) as opened:
        user = User(opened, "classic")
        user.empty_canvas()
        for words in ("kv share", "storyboard", "story", "film"):
            found = user.found(words, 900, 700)
            usual = [place for place, text in enumerate(found) if any(name in text for name in USUAL)]
            rare = [place for place, text in enumerate(found) if "KV Sharing" in text]
            assert usual and usual[0] < min(rare, default=len(found)), f"{words}: {found}"
