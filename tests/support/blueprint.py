"""The subgraph that the pack offers in ComfyUI's node library, read from its file."""

import json
from collections.abc import Mapping
from typing import Any

from devtools import client
from devtools.environment import ROOT

(FILE,) = (ROOT / "subgraphs").glob("*.json")
BLUEPRINT = json.loads(FILE.read_text(encoding="utf-8"))
(OUTER,) = BLUEPRINT["nodes"]
(SUBGRAPH,) = BLUEPRINT["definitions"]["subgraphs"]
NODES = {node["id"]: node for node in SUBGRAPH["nodes"]}
PROMOTED = OUTER["properties"]["proxyWidgets"]
OUTSIDE = dict(zip((name for _, name in PROMOTED), OUTER["widgets_values"], strict=False))
"""Widgets of the node on the outside, as far as it has values of its own for them."""
INPUT_SIDE, OUTPUT_SIDE = SUBGRAPH["inputNode"]["id"], SUBGRAPH["outputNode"]["id"]


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
