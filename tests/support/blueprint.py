"""The subgraphs that the pack offers in ComfyUI's node library, read from their files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from devtools import client
from devtools.environment import ROOT

LOADER, PICTURES = 100, 101
"""Numbers of the nodes that stand for what is connected outside."""


@dataclass(frozen=True)
class Blueprint:
    """A subgraph of the pack."""

    file: Path

    @cached_property
    def content(self) -> dict[str, Any]:
        """The whole file."""
        return json.loads(self.file.read_text(encoding="utf-8"))

    @property
    def outer(self) -> dict[str, Any]:
        """The one node on the outside."""
        (found,) = self.content["nodes"]
        return found

    @property
    def subgraph(self) -> dict[str, Any]:
        """What is in it."""
        (found,) = self.content["definitions"]["subgraphs"]
        return found

    @cached_property
    def nodes(self) -> dict[int, dict[str, Any]]:
        """Its nodes by their numbers."""
        return {node["id"]: node for node in self.subgraph["nodes"]}

    @property
    def promoted(self) -> list[list[str]]:
        """Widgets on the outside: the node inside, -1 for an input of its own, and the name."""
        return self.outer["properties"]["proxyWidgets"]

    @property
    def outside(self) -> dict[str, Any]:
        """Widgets of the node on the outside, as far as it has values of its own for them."""
        return dict(zip((name for _, name in self.promoted), self.outer["widgets_values"], strict=False))

    def slots(self, node: int, side: str) -> list[dict[str, Any]]:
        """What a link can be tied to at one of its ends: `outputs` where it begins, `inputs` where it ends."""
        ends = {self.subgraph["inputNode"]["id"]: "inputs", self.subgraph["outputNode"]["id"]: "outputs"}
        return self.subgraph[ends[node]] if node in ends else self.nodes[node][side]

    def as_workflow(
        self, info: Mapping[str, Any], values: Mapping[str, Any], model: str = "embedded", pictures: int = 1
    ) -> dict[str, Any]:
        """The nodes inside in API format, `values` for the widgets on the outside. Connected are the embedded model,
        so many grey pictures, and for a latent the segmenter's."""
        segmenter = next(number for number, node in self.nodes.items() if node["type"] == "LongVideoSegmenter")
        sources = {"model": (LOADER, 0), "clip": (LOADER, 1), "vae": (LOADER, 2), "latent": (segmenter, 3)}
        sources |= dict.fromkeys(("images", "start_image"), (PICTURES, 0))
        given = [
            {"id": LOADER, "type": "LoadVideoDiT", "widgets_values": [model, "embedded", "embedded", "default"]},
            {"id": PICTURES, "type": "EmptyImage", "widgets_values": [96, 96, pictures, 8421504]},
        ]
        inside = json.loads(json.dumps(self.subgraph))
        for link in inside["links"]:
            if link["origin_id"] == self.subgraph["inputNode"]["id"]:
                name = self.subgraph["inputs"][link["origin_slot"]]["name"]
                slot = inside["nodes"][[*self.nodes].index(link["target_id"])]["inputs"][link["target_slot"]]
                if name in sources:
                    link["origin_id"], link["origin_slot"] = sources[name]
                else:
                    slot["link"] = None
        workflow = client.to_api_format({"nodes": [*given, *inside["nodes"]], "links": inside["links"]}, info)
        for place, item in enumerate(self.subgraph["inputs"]):
            for link in self.subgraph["links"]:
                ends = (link["origin_id"], link["origin_slot"])
                if item["name"] in values and ends == (self.subgraph["inputNode"]["id"], place):
                    target = self.slots(link["target_id"], "inputs")[link["target_slot"]]["name"]
                    workflow[str(link["target_id"])]["inputs"][target] = values[item["name"]]
        return workflow


BLUEPRINTS = {path.stem: Blueprint(path) for path in sorted((ROOT / "subgraphs").glob("*.json"))}
FILM = BLUEPRINTS["KV Share film from a storyboard"]
