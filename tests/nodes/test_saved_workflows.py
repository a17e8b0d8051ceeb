"""Workflows that users saved with earlier states of the nodes keep loading, with the same values in the same inputs.

The files in golden_workflows hold example workflows as they were at the commit that their name ends with: `workflow` as
a browser saved them, `api` as the nodes of that commit were queued. A new state of the nodes' inputs gets a new file;
an old one never changes.
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from devtools import client
from devtools.server import Server
from tests.support.node_calls import NODES

GOLDEN = sorted(Path(__file__).with_name("golden_workflows").glob("*.json"))
RUN_HERE = ("first_light", "edit_a_word", "continue_video", "redo_beat", "two_subjects", "image_film")
"""Those on embedded models, which need no files."""
FILES = frozenset({"diffusion_model", "text_encoder", "text_encoder_2", "vae", "weight_dtype", "file", "image"})
"""Inputs whose choices are what lies in the user's folders."""


def loaded(path: Path, server: Server) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What the file holds, and what the host knows; skipped where the host lacks a node."""
    saved, info = json.loads(path.read_text(encoding="utf-8")), client.object_info(server.url)
    missing = {node["class_type"] for node in saved["api"].values()} - info.keys()
    if missing:
        assert missing.isdisjoint(NODES)
        pytest.skip(f"this ComfyUI has no {', '.join(sorted(missing))}")
    return saved["workflow"], saved["api"], info


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_saved_workflow_has_its_values_where_they_were(server: Server, path: Path) -> None:
    workflow, before, info = loaded(path, server)
    now = client.to_api_format(workflow, info)
    ours = {name: node for name, node in before.items() if node["class_type"] in NODES}
    assert ours
    for name, node in ours.items():
        assert now[name]["class_type"] == node["class_type"]
        assert {key: now[name]["inputs"].get(key) for key in node["inputs"]} == node["inputs"]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_script_that_queued_it_still_can(server: Server, path: Path) -> None:
    """Inputs that came later are optional, and no choice is gone."""
    _, api, info = loaded(path, server)
    for node in (node for node in api.values() if node["class_type"] in NODES):
        known = info[node["class_type"]]["input"]
        assert set(known["required"]) <= set(node["inputs"]), node["class_type"]
        for name, value in node["inputs"].items():
            kind, *options = {**known["required"], **known.get("optional", {})}[name]
            choices = kind if isinstance(kind, list) else options[0].get("options") if kind == "COMBO" else None
            assert not choices or name in FILES or value in choices, (node["class_type"], name, value)


@pytest.mark.parametrize(
    "path", [path for path in GOLDEN if path.stem.startswith(RUN_HERE)], ids=lambda path: path.stem
)
def test_it_runs_as_it_was_queued(server: Server, path: Path) -> None:
    _, api, _ = loaded(path, server)
    workflow = copy.deepcopy(api)
    for node in workflow.values():
        if "steps" in node["inputs"] and node["class_type"] == "KSampler":
            node["inputs"]["steps"] = 1
    assert client.run(server.url, workflow)["status"]["status_str"] == "success"
