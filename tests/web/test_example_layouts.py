"""Example workflows as they look when they are dropped on an empty canvas: no node lies on another, in both node
renderers and in every language of the pack."""

import json
from typing import TYPE_CHECKING

import pytest

from devtools.environment import ROOT
from devtools.server import Server
from tests.support.comfy_page import MODES, ComfyPage, Mode, change_settings, comfy_page
from tests.support.languages import SCRIPTS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))
SMALLEST_OVERLAP = 4
"""Pixels by which shadows and rounded corners may lie on each other."""

BOXES = """() => {
    const {graph, canvas} = window.app;
    const {scale, offset} = canvas.ds;
    const page = canvas.canvas.getBoundingClientRect();
    return graph._nodes.map((node) => {
        const drawn = document.querySelector(`[data-node-id="${node.id}"]`);
        if (drawn) {
            const box = drawn.getBoundingClientRect();
            const place = [(box.x - page.x) / scale - offset[0], (box.y - page.y) / scale - offset[1]];
            return [`${node.type} ${node.id}`, ...place, box.width / scale, box.height / scale];
        }
        const [x, y, width, height] = node.boundingRect;
        return [`${node.type} ${node.id}`, x, y, width, height];
    });
}"""


def overlaps(page: ComfyPage) -> list[str]:
    """Pairs of nodes that lie on each other."""
    boxes = page.page.evaluate(BOXES)
    found: list[str] = []
    for number, (name, x, y, width, height) in enumerate(boxes):
        for other, left, top, wide, high in boxes[number + 1 :]:
            across = min(x + width, left + wide) - max(x, left)
            down = min(y + height, top + high) - max(y, top)
            if min(across, down) > SMALLEST_OVERLAP:
                found.append(f"{name} lies on {other} by {across:.0f} x {down:.0f}")
    return found


@pytest.mark.parametrize(("mode", "language"), [*((mode, "en") for mode in MODES), *zip(MODES, SCRIPTS, strict=True)])
def test_no_node_of_an_example_lies_on_another(browser: "Browser", server: Server, mode: Mode, language: str) -> None:
    change_settings(server, {"Comfy.Locale": language})
    try:
        found = overlaps_of_examples(browser, server, mode)
    finally:
        change_settings(server, {"Comfy.Locale": "en"})
    assert not found, json.dumps(found, indent=1)


def overlaps_of_examples(browser: "Browser", server: Server, mode: Mode) -> dict[str, list[str]]:
    """Of each example with nodes that lie on each other, which."""
    found: dict[str, list[str]] = {}
    with comfy_page(browser, server, mode, size=(1400, 1000)) as page:
        known = set(page.page.evaluate("() => Object.keys(window.LiteGraph.registered_node_types)"))
        for example in EXAMPLES:
            workflow = json.loads(example.read_text(encoding="utf-8"))
            if {node["type"] for node in workflow["nodes"]} <= known | {"MarkdownNote", "Note", "Reroute"}:
                page.drop_workflow(example)
                # Nodes of the page are drawn, and grow to what they hold, when they come into sight.
                page.page.evaluate("() => { window.app.canvas.fitViewToSelectionAnimated?.(); }")
                page.page.wait_for_timeout(700)
                found |= {example.stem: lying} if (lying := overlaps(page)) else {}
    return found
