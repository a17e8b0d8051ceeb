"""The workflows for released models in the host's own frontend: it queues what they say, and nodes stand apart."""

import json
from itertools import combinations
from typing import TYPE_CHECKING

from devtools import client
from devtools.released_workflows import FOLDER, RELEASED
from devtools.server import Server
from tests.support.comfy_page import comfy_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

QUEUED = "async () => (await window.app.graphToPrompt()).output"
BOXES = "() => window.app.graph._nodes.map((node) => [...node.getBounding()])"
"""Left, top, width and height of every node with its title, as drawn."""


def test_the_frontend_queues_what_the_files_say(browser: "Browser", server: Server) -> None:
    info = client.object_info(server.url)
    checked = 0
    with comfy_page(browser, server, "classic") as page:
        for workflow in RELEASED:
            file = FOLDER / f"{workflow.name}.json"
            saved = json.loads(file.read_text(encoding="utf-8"))
            if not {node["type"] for node in saved["nodes"]} - {"MarkdownNote"} <= set(info):
                continue
            checked += 1
            page.page.evaluate("() => window.app.graph.clear()")
            page.drop_workflow(file)
            queued = page.page.evaluate(QUEUED)
            ours = client.to_api_format(saved, info)
            assert set(queued) == set(ours)
            for name, node in ours.items():
                assert queued[name]["class_type"] == node["class_type"]
                # The host may have inputs that the file leaves at their defaults.
                assert queued[name]["inputs"].items() >= node["inputs"].items(), f"{workflow.name}, node {name}"
            for one, other in combinations(page.page.evaluate(BOXES), 2):
                assert any(
                    one[axis] + one[axis + 2] <= other[axis] or other[axis] + other[axis + 2] <= one[axis]
                    for axis in (0, 1)
                ), f"{workflow.name}: {one} and {other}"
    assert checked
