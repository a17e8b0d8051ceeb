"""The pack's subgraph in the host's frontend."""

import copy
from typing import TYPE_CHECKING, Any

import pytest

from devtools import client
from devtools.server import Server
from tests.support.blueprint import BLUEPRINTS, FILM, Blueprint
from tests.support.comfy_page import comfy_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser


WATCH_LINES = """() => {
    // What the editor inside has shown of the run after each event of it.
    const outer = window.app.graph._nodes.find((node) => node.subgraph);
    const film = outer.subgraph._nodes.find((node) => node.type === "LongVideoSegmenter");
    const editor = film.widgets.find((widget) => widget.name === "kvshare_timeline").element;
    window.kvsSeen = {lines: [], ended: null};
    window.app.api.addEventListener("kv_share.progress", () => {
        const run = editor.querySelector(".kvs-run");
        window.kvsSeen.lines.push(run.hidden ? "" : run.textContent);
    });
    for (const kind of ["execution_success", "execution_error"]) {
        window.app.api.addEventListener(kind, () => { window.kvsSeen.ended = kind; });
    }
}"""


def without_outside(blueprint: Blueprint, nodes: dict[str, Any]) -> dict[str, Any]:
    """Nodes in API format by their numbers in the subgraph, without links that come from outside it."""
    own = {str(number) for number in blueprint.nodes}
    found: dict[str, Any] = {}
    for name, node in nodes.items():
        inputs: dict[str, Any] = {}
        for key, value in node["inputs"].items():
            origin = str(value[0]).split(":")[-1] if isinstance(value, list) else None
            if origin is None or origin in own:
                inputs[key] = value if origin is None else [origin, value[1]]
        found[name.split(":")[-1]] = {"class_type": node["class_type"], "inputs": inputs}
    return {name: node for name, node in found.items() if name in own}


def blueprint_run(prompts: str) -> dict[str, Any]:
    """A workflow that runs the blueprint with the embedded model."""
    workflow = copy.deepcopy(FILM.content)
    (outer,) = workflow["nodes"]
    values = {
        **FILM.outside,
        "prompts": prompts,
        "subject": "circle",
        "width": 96,
        "height": 96,
        "fps": 8.0,
        "steps": 2,
    }
    outer["widgets_values"] = list(values.values())
    links = {"model": "MODEL", "clip": "CLIP", "vae": "VAE"}
    for number, name in enumerate(links):
        outer["inputs"][number]["link"] = number + 1
        workflow["links"].append([number + 1, 7, number, outer["id"], number, links[name]])
    outer["outputs"][0]["links"] = [4]
    workflow["links"].append([4, outer["id"], 0, 8, 0, "IMAGE"])
    made = [{"name": name, "type": kind, "links": [number + 1]} for number, (name, kind) in enumerate(links.items())]
    shared = {"flags": {}, "order": 0, "mode": 0, "properties": {}, "size": [300, 150]}
    files = ["embedded", "embedded", "embedded", "default"]
    taken = [{"name": "images", "type": "IMAGE", "link": 4}]
    workflow["nodes"] += [
        {
            **shared,
            "id": 7,
            "type": "LoadVideoDiT",
            "pos": [-200, 0],
            "inputs": [],
            "outputs": made,
            "widgets_values": files,
        },
        {
            **shared,
            "id": 8,
            "type": "PreviewImage",
            "pos": [800, 0],
            "inputs": taken,
            "outputs": [],
            "widgets_values": [],
        },
    ]
    return workflow | {"last_node_id": 8, "last_link_id": 4}


def test_the_editor_in_the_blueprint_shows_the_progress_of_a_run(browser: "Browser", server: Server) -> None:
    prompts = "a circle moving right over night\na circle moving down over grass"
    with comfy_page(browser, server, "classic") as page:
        page.drop_workflow(blueprint_run(prompts))
        page.page.evaluate(WATCH_LINES)
        page.run()
        page.page.wait_for_function("() => window.kvsSeen.ended")
        seen = page.page.evaluate("() => window.kvsSeen")
    assert seen["ended"] == "execution_success"
    assert seen["lines"][0].startswith("Step 1 of 2, segment 1 of 2: a circle moving right")
    assert seen["lines"][-1].startswith("Step 2 of 2, segment 2 of 2: a circle moving down")


@pytest.mark.parametrize("blueprint", BLUEPRINTS.values(), ids=BLUEPRINTS)
def test_the_frontend_makes_of_a_blueprint_what_is_meant(
    browser: "Browser", server: Server, blueprint: Blueprint
) -> None:
    with comfy_page(browser, server, "classic") as page:
        page.drop_workflow(blueprint.file)
        made = page.page.evaluate("async () => (await window.app.graphToPrompt()).output")
        shown = page.page.evaluate("() => window.app.graph._nodes[0].widgets.map((widget) => widget.name)")
        complaints = [error for error in page.errors if "lueprint" in error]
    inside = without_outside(blueprint, made)
    for node in inside.values():
        if node["class_type"] == "CreateVideo":
            # Newer hosts have it, with a default.
            node["inputs"].pop("bit_depth", None)
    wanted = blueprint.as_workflow(client.object_info(server.url), {})
    for node in wanted.values():
        # In the frontend nothing is connected outside; here the segmenter's latent stands for a film's.
        if node["class_type"] == "LongVideoRedoBeat":
            node["inputs"].pop("latent")
    assert inside == without_outside(blueprint, wanted)
    # Some frontends put the number of the node inside before a name.
    assert {name.split(": ")[-1] for name in shown} >= {*blueprint.outside, "seed"}
    assert not complaints
