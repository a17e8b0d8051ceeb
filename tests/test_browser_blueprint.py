"""The host's frontend with the pack's subgraph: it reads it as it is meant."""

from typing import TYPE_CHECKING, Any

from devtools import client
from devtools.server import Server
from tests.comfy_page import comfy_page
from tests.test_blueprint import FILE, NODES, OUTSIDE, as_workflow

if TYPE_CHECKING:
    from playwright.sync_api import Browser


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
    # Some frontends put the number of the node inside before a name.
    assert {name.split(": ")[-1] for name in shown} >= {*OUTSIDE, "seed"}
    assert not complaints
