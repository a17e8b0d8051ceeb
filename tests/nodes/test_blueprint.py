"""The subgraph that the pack offers in the node library is valid, and a running host lists and executes it."""

import json
import urllib.request
from typing import Any

from devtools import client
from devtools.server import PACK_FOLDER, Server
from devtools.workflows import WIDGET_TYPES, widget_slots
from kvshare_core.script.parsing import parse_script
from tests.support.blueprint import (
    BLUEPRINT,
    FILE,
    NODES,
    OUTER,
    OUTSIDE,
    PROMOTED,
    SUBGRAPH,
    as_workflow,
    slots,
)
from tests.support.workflow_runs import FRAMES, planned_frames


def answer(url: str) -> Any:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60) as response:
        return json.load(response)


def test_links_tie_what_is_there_and_both_ends_know_them() -> None:
    links = {link["id"]: link for link in SUBGRAPH["links"]}
    assert len(links) == len(SUBGRAPH["links"]) == SUBGRAPH["state"]["lastLinkId"]
    for link in links.values():
        start = slots(link["origin_id"], "outputs")[link["origin_slot"]]
        end = slots(link["target_id"], "inputs")[link["target_slot"]]
        assert start["type"] == end["type"] == link["type"]
        assert link["id"] in (start.get("linkIds") or start.get("links"))
        assert link["id"] in end.get("linkIds", [end.get("link")])
    ends = [slot["link"] for node in NODES.values() for slot in node["inputs"] if slot["link"] is not None]
    ends += [number for item in SUBGRAPH["outputs"] for number in item["linkIds"]]
    assert sorted(ends) == sorted(links)


def test_the_outside_shows_what_the_inside_asks_for() -> None:
    assert OUTER["type"] == SUBGRAPH["id"]
    for side in ("inputs", "outputs"):
        assert [(item["name"], item["type"]) for item in OUTER[side]] == [
            (item["name"], item["type"]) for item in SUBGRAPH[side]
        ]
    widgets = [item["name"] for item in OUTER["inputs"] if "widget" in item]
    assert widgets == [item["name"] for item in SUBGRAPH["inputs"] if item["type"] in WIDGET_TYPES]
    assert [name for node, name in PROMOTED if node == "-1"] == widgets
    assert len(OUTER["widgets_values"]) == len(widgets)


def test_the_prompts_that_it_begins_with_name_its_subject() -> None:
    beats = parse_script(OUTSIDE["prompts"]).beats
    assert len(beats) > 1 and all(OUTSIDE["subject"] in beat.prompt.split() for beat in beats)


def test_the_nodes_inside_are_those_of_the_host(server: Server) -> None:
    info = client.object_info(server.url)
    for node in NODES.values():
        known = info[node["type"]]
        declared = {name: kind for group in known["input"].values() for name, (kind, *_) in group.items()}
        for slot in node["inputs"]:
            assert slot["type"] == declared[slot["name"]]
        assert [slot["type"] for slot in node["outputs"]] == known["output"]
        names = widget_slots(known, node["widgets_values"])
        # Create Video has one widget more on newer hosts.
        assert 0 <= len(names) - len(node["widgets_values"]) <= (node["type"] == "CreateVideo")
        for widget in (slot["widget"]["name"] for slot in node["inputs"] if "widget" in slot):
            assert widget in names
    of_nodes = {name: NODES[int(node)]["type"] for node, name in PROMOTED if node != "-1"}
    assert of_nodes == {"seed": "KSampler", "control_after_generate": "KSampler"}


def test_a_widget_shows_the_same_value_outside_and_inside(server: Server) -> None:
    info = client.object_info(server.url)
    assert as_workflow(info, {}) == as_workflow(info, OUTSIDE)


def test_the_host_lists_it_and_hands_it_out(server: Server) -> None:
    listed = answer(f"{server.url}/global_subgraphs")
    own = {key: entry for key, entry in listed.items() if entry["info"]["node_pack"].endswith(PACK_FOLDER)}
    ((key, entry),) = own.items()
    assert entry["name"] == FILE.stem == SUBGRAPH["name"]
    assert json.loads(answer(f"{server.url}/global_subgraphs/{key}")["data"]) == BLUEPRINT


def test_it_makes_the_video_that_it_plans(server: Server) -> None:
    prompts = "a circle moving right over night\na circle moving down over grass"
    values = {"prompts": prompts, "subject": "circle", "width": 96, "height": 96, "fps": 8.0, "steps": 2}
    workflow = as_workflow(client.object_info(server.url), values)
    (decode,) = (name for name, node in workflow.items() if node["class_type"] == "VAEDecode")
    workflow[FRAMES] = {"class_type": "SaveImage", "inputs": {"images": [decode, 0], "filename_prefix": "blueprint"}}
    entry = client.run(server.url, workflow)
    assert len(client.output_files(entry)) == planned_frames(workflow, decode)
