"""Every widget of every node with values that no browser sends, through the API of a real server: the host refuses them
before a run, or the node says what is wrong, and the server goes on."""

from collections.abc import Iterator
from typing import Any

import pytest

from devtools import client
from devtools.server import Server
from tests.support.node_calls import NODES, shown_name

ODD: tuple[Any, ...] = (
    -1,
    10**9,
    10**30,
    -(2**63),
    0.5,
    1e308,
    "",
    " ",
    "-1",
    "0-999999999",
    "9" * 5000,
    "a\0b",
    "\ud83d",
    "../../x",
    "/etc/passwd",
    "C:\\x",
    "a" * 100_000,
    "a\u0301" + "\u0301" * 5000,
    None,
    True,
    [],
    {},
    [["1", 0]],
    {"a": {"b": []}},
)
HELD = ("LoadVideoDiT", "LongVideoSegmenter", "KVShareConfig", "KVShareMaskSettings", "KVShareMemorySettings")
SAVING = ("LongVideoSave", "LongVideoRedoBeat", "LongVideoContinue", "LongVideoLoad", "KVShareLoadPreset")
LINKS = {
    "model": ["load", 0],
    "clip": ["load", 1],
    "timeline": ["LongVideoSegmenter", 0],
    "latent": ["LongVideoSegmenter", 3],
}


def defaults(name: str) -> dict[str, Any]:
    """The inputs of a node as a new one has them."""
    inputs: dict[str, Any] = {}
    for item in NODES[name].GET_SCHEMA().inputs:
        if hasattr(item, "options"):
            inputs[item.id] = item.default or (item.options or [""])[0]
        elif hasattr(item, "default"):
            inputs[item.id] = item.default
    return inputs


def graph_with(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """A small graph in which a node has these inputs, down to a node that outputs something."""
    graph: dict[str, Any] = {}

    def add(kind: str, key: str, **inputs: Any) -> None:
        changed = changes if kind == name else {}
        graph[key] = {"class_type": kind, "inputs": {**defaults(kind), **inputs, **changed}}

    add("LoadVideoDiT", "load", diffusion_model="embedded", text_encoder="embedded", vae="embedded")
    film = {"prompts": "a circle\na square", "width": 32, "height": 32, "sampling_num_frames": 3, "overlap_size": 1}
    add("LongVideoSegmenter", "LongVideoSegmenter", model=LINKS["model"], clip=LINKS["clip"], **film)
    add("DiTCtrlConfig" if name == "DiTCtrlConfig" else "KVShareConfig", "config")
    add("KVShareMaskSettings", "masks", config=["config", 0])
    add("KVShareMemorySettings", "memory", config=["masks", 0])
    sharer = {"model": LINKS["model"], "timeline": LINKS["timeline"], "config": ["memory", 0], "subject": ""}
    add("MaskGuidedKVShare", "share", **sharer)
    graph["out"] = {"class_type": "PreviewAny", "inputs": {"source": ["share", 0]}}
    if name in SAVING:
        inputs = {one.id: LINKS[one.id] for one in NODES[name].GET_SCHEMA().inputs if one.id in LINKS}
        more = {"existing": LINKS["latent"]} if name == "LongVideoContinue" else {}
        add(name, "tried", **inputs, **more, **({"config": ["config", 0]} if name == "KVShareLoadPreset" else {}))
        graph["shown"] = {"class_type": "PreviewAny", "inputs": {"source": ["tried", 0]}}
    return graph


def tried() -> Iterator[tuple[str, str]]:
    for name in (*HELD, "DiTCtrlConfig", "MaskGuidedKVShare", *SAVING):
        for item in NODES[name].GET_SCHEMA().inputs:
            if hasattr(item, "default") and not item.get_io_type().startswith("KVSHARE"):
                yield name, item.id


@pytest.mark.parametrize(("name", "widget"), tried())
def test_no_value_of_a_widget_is_an_unclear_error(server: Server, name: str, widget: str) -> None:
    # Three of the values for each widget, all of them over all widgets.
    first = sum(map(ord, name + widget))
    for value in (ODD[(first + 8 * step) % len(ODD)] for step in range(3)):
        try:
            client.run(server.url, graph_with(name, {widget: value}))
        except client.WorkflowError as error:
            if "Error: " in error.message:
                kind, _, message = error.message.partition(": ")
                shown = error.node_type and shown_name(error.node_type)
                assert message.startswith(f"{shown}: "), error
                assert not kind.endswith(("TypeError", "KeyError", "IndexError", "AttributeError", "RuntimeError")), (
                    error
                )
                assert len(message) < 3000
    client.run(server.url, graph_with(name, {}) if name in HELD else graph_with("LoadVideoDiT", {}))
