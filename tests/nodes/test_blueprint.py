"""The subgraph that the pack offers in the node library: whole in itself, and known to a running host."""

import json
import urllib.request
from collections.abc import Mapping
from typing import Any

from devtools import client
from devtools.environment import ROOT
from devtools.server import PACK_FOLDER, Server
from devtools.workflows import WIDGET_TYPES, widget_slots
from kvshare_core.script.parsing import parse_script
from tests.nodes.test_example_workflows import FRAMES, planned_frames

(FILE,) = (ROOT / "subgraphs").glob("*.json")
BLUEPRINT = json.loads(FILE.read_text(encoding="utf-8"))
(OUTER,) = BLUEPRINT["nodes"]
(SUBGRAPH,) = BLUEPRINT["definitions"]["subgraphs"]
NODES = {node["id"]: node for node in SUBGRAPH["nodes"]}
PROMOTED = OUTER["properties"]["proxyWidgets"]
OUTSIDE = dict(zip((name for _, name in PROMOTED), OUTER["widgets_values"], strict=False))
"""Widgets of the node on the outside, as far as it has values of its own for them."""
INPUT_SIDE, OUTPUT_SIDE = SUBGRAPH["inputNode"]["id"], SUBGRAPH["outputNode"]["id"]


def answer(url: str) -> Any:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60) as response:
        return json.load(response)


def slots(node: int, side: str) -> list[dict[str, Any]]:
    """What a link can be tied to at one of its ends: `outputs` where it begins, `inputs` where it ends."""
    if node in (INPUT_SIDE, OUTPUT_SIDE):
        return SUBGRAPH["inputs" if node == INPUT_SIDE else "outputs"]
    return NODES[node][side]


def as_workflow(info: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The nodes inside in API format, their loader the embedded model, `values` for the widgets on the outside."""
    loader = {"id": 100, "type": "LoadVideoDiT", "widgets_values": ["embedded", "embedded", "embedded", "default"]}
    places = {"model": 0, "clip": 1, "vae": 2}
    inside = json.loads(json.dumps(SUBGRAPH))
    for link in inside["links"]:
        if link["origin_id"] == INPUT_SIDE:
            name = SUBGRAPH["inputs"][link["origin_slot"]]["name"]
            slot = inside["nodes"][[*NODES].index(link["target_id"])]["inputs"][link["target_slot"]]
            if name in places:
                link.update(origin_id=100, origin_slot=places[name])
            else:
                slot["link"] = None
    workflow = client.to_api_format({"nodes": [loader, *inside["nodes"]], "links": inside["links"]}, info)
    for place, item in enumerate(SUBGRAPH["inputs"]):
        for link in SUBGRAPH["links"]:
            if item["name"] in values and (link["origin_id"], link["origin_slot"]) == (INPUT_SIDE, place):
                target = slots(link["target_id"], "inputs")[link["target_slot"]]["name"]
                workflow[str(link["target_id"])]["inputs"][target] = values[item["name"]]
    return workflow


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
        assert len(node["widgets_values"]) == len(names)
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
