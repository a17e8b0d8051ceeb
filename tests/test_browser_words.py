"""The host's frontend with the pack's words and subgraph: it reads both as they are meant."""

from typing import TYPE_CHECKING, Any

from devtools import client
from devtools.server import Server
from devtools.words import read_words
from tests.comfy_page import change_settings, comfy_page
from tests.test_blueprint import FILE, NODES, OUTSIDE, as_workflow

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LANGUAGE = "Comfy.Locale"


def without_outside(nodes: dict[str, Any]) -> dict[str, Any]:
    """Nodes in API format by their numbers in the subgraph, without links that come from outside it."""
    own = {str(number) for number in NODES}
    found: dict[str, Any] = {}
    for name, node in nodes.items():
        inputs: dict[str, Any] = {}
        for key, value in node["inputs"].items():
            origin = str(value[0]).split(":")[-1] if isinstance(value, list) else None
            if origin is None or origin in own:
                inputs[key] = value if origin is None else [origin, value[1]]
        found[name.split(":")[-1]] = {"class_type": node["class_type"], "inputs": inputs}
    return {name: node for name, node in found.items() if name in own}


def test_the_frontend_makes_of_the_blueprint_what_is_meant(browser: "Browser", server: Server) -> None:
    with comfy_page(browser, server, "classic") as page:
        page.drop_workflow(FILE)
        made = page.page.evaluate("async () => (await window.app.graphToPrompt()).output")
        shown = page.page.evaluate("() => window.app.graph._nodes[0].widgets.map((widget) => widget.name)")
        complaints = [error for error in page.errors if "lueprint" in error]
    assert without_outside(made) == without_outside(as_workflow(client.object_info(server.url), {}))
    assert set(shown) >= {*OUTSIDE, "seed"}
    assert not complaints


def test_nodes_are_in_the_language_of_the_user(browser: "Browser", server: Server) -> None:
    words = read_words("zh")["KVShareConfig"]
    with comfy_page(browser, server, "classic") as page:
        try:
            change_settings(server, {LANGUAGE: "zh"})
            page.open()
            shown = page.page.evaluate(
                """() => {
                    const node = window.LiteGraph.createNode("KVShareConfig");
                    const labels = node.widgets.map((widget) => [widget.name, widget.label ?? widget.name]);
                    return [node.title, Object.fromEntries(labels), node.outputs.map((slot) => slot.label)];
                }"""
            )
        finally:
            change_settings(server, {LANGUAGE: "en"})
    title, labels, outputs = shown
    assert title == words["display_name"]
    assert labels == {name: item["name"] for name, item in words["inputs"].items()}
    assert outputs == [item["name"] for item in words["outputs"].values()]
