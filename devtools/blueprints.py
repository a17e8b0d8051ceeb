"""The subgraphs that the pack offers in ComfyUI's node library beside the first, which they are made from:
`python3 -m devtools.blueprints` writes them to subgraphs/. Standard library only.
"""

import json
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .environment import ROOT
from .saved_graphs import Json

FOLDER = ROOT / "subgraphs"
BASE = FOLDER / "KV Share film from a storyboard.json"
SEGMENTER, SAMPLER, DECODER, VIDEO, ADDED = 1, 4, 5, 7, 8
"""Numbers of nodes in the first subgraph, and of the one that is added to it."""
OUTSIDE = -10
"""The number of what comes from outside."""
LATENT = 6
"""The link from the segmenter's latent to the sampler."""
ROOM = 380
"""Pixels for a node in front of the sampler."""

Slot = tuple[int, str]
"""The number of a node, and the name of one of its inputs or outputs."""


class Blueprint:
    """A copy of the first subgraph, to be changed: `file` is the whole, `graph` the definition, `outer` its node."""

    def __init__(self, name: str, description: str, aliases: Sequence[str]):
        self.name = name
        self.file: Json = json.loads(BASE.read_text(encoding="utf-8"))
        self.graph: Json = self.file["definitions"]["subgraphs"][0]
        self.outer: Json = self.file["nodes"][0]
        self.file["id"] = _made("file", name)
        self.graph["id"] = self.outer["type"] = _made("graph", name)
        self.graph |= {"name": name, "description": description}
        self.file["extra"] = {"BlueprintDescription": description, "BlueprintSearchAliases": list(aliases)}
        for side in ("inputs", "outputs"):
            for item in self.graph[side]:
                item["id"] = _made(side, f"{name} {item['name']}")

    def node(self, number: int) -> Json:
        """A node inside."""
        return next(node for node in self.graph["nodes"] if node["id"] == number)

    def link(self, origin: Slot, target: Slot, number: int | None = None) -> None:
        """Links an output to an input, both inside; `number` is that of an existing link to use."""
        node, output = origin[0], _place(self.node(origin[0])["outputs"], origin[1])
        self.node(node)["outputs"][output]["links"].append(self._into(target, node, output, number))

    def put_before_sampler(self) -> None:
        """Gives the added node the timeline, and the sampler its latent in place of the segmenter's."""
        self.link((SEGMENTER, "timeline"), (ADDED, "timeline"))
        outputs = self.node(SEGMENTER)["outputs"]
        outputs[_place(outputs, "latent")]["links"].remove(LATENT)
        self.link((ADDED, "latent"), (SAMPLER, "latent_image"), LATENT)

    def add(self, kind: str, shape: Json, values: Sequence[Any]) -> None:
        """Puts a node in front of the sampler; `shape` has its inputs and outputs, names to types."""
        for number in (SAMPLER, DECODER, VIDEO):
            self.node(number)["pos"][0] += ROOM
        self.graph["outputNode"]["bounding"][0] += ROOM
        for item in self.graph["outputs"]:
            item["pos"][0] += ROOM
        self.graph["nodes"].append(
            {
                "id": ADDED,
                "type": kind,
                "pos": [960, 60],
                "size": [320, 220],
                "flags": {},
                "order": len(self.graph["nodes"]),
                "mode": 0,
                "inputs": [{"name": name, "type": of, "link": None} for name, of in shape["inputs"].items()],
                "outputs": [{"name": name, "type": of, "links": []} for name, of in shape["outputs"].items()],
                "properties": {"Node name for S&R": kind},
                "widgets_values": list(values),
            }
        )
        self.graph["state"]["lastNodeId"] = ADDED
        self.file["last_node_id"] = ADDED

    def ask(self, name: str, kind: str, targets: Sequence[Slot], value: Any = None) -> None:
        """An input outside; `value` is what a widget begins with, which is left out for a socket."""
        place = len(self.graph["inputs"])
        links = [self._into(target, OUTSIDE, place) for target in targets]
        above = self.graph["inputs"][-1]["pos"]
        self.graph["inputs"].append(
            {
                "id": _made("inputs", f"{self.name} {name}"),
                "name": name,
                "type": kind,
                "linkIds": links,
                "pos": [above[0], above[1] + 20],
            }
        )
        slot: Json = {"name": name, "type": kind, "link": None}
        if value is not None:
            slot["widget"] = {"name": name}
            promoted = self.outer["properties"]["proxyWidgets"]
            promoted.insert(len(self.outer["widgets_values"]), ["-1", name])
            self.outer["widgets_values"].append(value)
        self.outer["inputs"].append(slot)

    def share(self, name: str, target: Slot) -> None:
        """Links an input outside that is there to one more input inside."""
        place = _place(self.graph["inputs"], name)
        self.graph["inputs"][place]["linkIds"].append(self._into(target, OUTSIDE, place))

    def _into(self, target: Slot, origin: int, output: int, number: int | None = None) -> int:
        """A link into an input inside; its number."""
        inputs = self.node(target[0])["inputs"]
        place = _place(inputs, target[1])
        links = self.graph["links"]
        entry = {
            "id": number or len(links) + 1,
            "origin_id": origin,
            "origin_slot": output,
            "target_id": target[0],
            "target_slot": place,
            "type": inputs[place]["type"],
        }
        if number is None:
            links.append(entry)
            self.graph["state"]["lastLinkId"] = len(links)
        else:
            links[number - 1] = entry
        inputs[place]["link"] = entry["id"]
        return int(entry["id"])


def from_an_image() -> Blueprint:
    """A film that begins with an image."""
    made = Blueprint(
        "KV Share film from an image",
        "One long video from an image and several prompts, for image-to-video models. Prompt 1 begins with the image, "
        "and the later ones go on from the frames before them. Connect a loader, and video to Save Video.",
        ("image to video film", "i2v film", "animate image", "kv share"),
    )
    made.ask("start_image", "IMAGE", [(SEGMENTER, "start_image")])
    made.share("vae", (SEGMENTER, "vae"))
    return made


def continue_a_video() -> Blueprint:
    """A film that begins with a video."""
    made = Blueprint(
        "KV Share continue a video",
        "Goes on from an existing video, which stays as it is. Prompt 1 describes it, and the next ones say what "
        "follows. Connect its frames to images, a loader, and video to Save Video.",
        ("extend video", "longer video", "continue clip", "kv share"),
    )
    made.add(
        "LongVideoContinue",
        {
            "inputs": {
                "timeline": "KVSHARE_TIMELINE",
                "latent": "LATENT",
                "existing": "LATENT",
                "images": "IMAGE",
                "vae": "VAE",
            },
            "outputs": {"latent": "LATENT"},
        },
        ("start", 1, 0),
    )
    made.put_before_sampler()
    made.link((SEGMENTER, "latent"), (ADDED, "latent"))
    made.ask("images", "IMAGE", [(ADDED, "images")])
    made.share("vae", (ADDED, "vae"))
    return made


def redo_a_beat() -> Blueprint:
    """A finished film with one prompt sampled again."""
    made = Blueprint(
        "KV Share redo a beat",
        "Samples one prompt of a finished film again and keeps the others. beat is the number of the prompt. Use the "
        "prompts of the film, whose durations must stay. Connect its latent, a loader, and video to Save Video.",
        ("retake", "regenerate scene", "redo shot", "kv share"),
    )
    made.add(
        "LongVideoRedoBeat",
        {
            "inputs": {"timeline": "KVSHARE_TIMELINE", "latent": "LATENT", "beat": "INT"},
            "outputs": {"latent": "LATENT"},
        },
        (2,),
    )
    made.node(ADDED)["inputs"][2]["widget"] = {"name": "beat"}
    made.put_before_sampler()
    made.ask("latent", "LATENT", [(ADDED, "latent")])
    made.ask("beat", "INT", [(ADDED, "beat")], 2)
    return made


MADE: tuple[Callable[[], Blueprint], ...] = (from_an_image, continue_a_video, redo_a_beat)


def text_of(blueprint: Blueprint) -> str:
    """The file of a blueprint."""
    return json.dumps(blueprint.file, indent=1, ensure_ascii=False) + "\n"


def _place(slots: Sequence[Json], name: str) -> int:
    return [slot["name"] for slot in slots].index(name)


def _made(kind: str, name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"kv-share {kind} {name}"))


def main() -> int:
    """Writes the files."""
    for make in MADE:
        blueprint = make()
        Path(FOLDER, f"{blueprint.name}.json").write_text(text_of(blueprint), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
