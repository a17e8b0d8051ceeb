"""Graphs written in a few lines, turned into workflows as the browser saves them. Standard library only.

A graph is a list of `Node`s. A link is written as `node` or, for another output than the first, as `node.output`.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .node_shapes import SHAPES

Json = dict[str, Any]

LEFT, TOP = 40, 80
COLUMN_GAP, ROW_GAP = 50, 70
"""Pixels between nodes; a row's gap has room for the title above a node."""


class GraphError(ValueError):
    """A graph names what is not there; the message says which node and what."""


@dataclass(frozen=True)
class Node:
    """A node of a graph.

    key: its name within the graph. column: where it stands, from the left. values: those of its widgets, in order.
    links: for each input, what it is linked to.
    """

    key: str
    type: str
    column: int
    values: Sequence[Any] = ()
    links: Mapping[str, str] = field(default_factory=dict[str, str])
    title: str = ""


def saved(name: str, nodes: Sequence[Node]) -> Json:
    """The workflow of `nodes` in the browser's form 0.4; its id follows from `name`. Raises GraphError."""
    numbers = {node.key: number for number, node in enumerate(nodes, 1)}
    if len(numbers) != len(nodes):
        raise GraphError(f"{name} has two nodes of the same key")
    links: list[list[Any]] = []
    for node in nodes:
        types = [entry[0] for entry in SHAPES[node.type].inputs]
        for wanted in node.links:
            if wanted not in types:
                raise GraphError(f"{node.key} of {name} has no input {wanted}")
        for place, (slot, kind) in enumerate(SHAPES[node.type].inputs):
            if slot in node.links:
                origin, output = _origin(node, node.links[slot], nodes)
                links.append([len(links) + 1, numbers[origin], output, numbers[node.key], place, kind])
    positions = _positions(nodes)
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
        "revision": 0,
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": [_saved_node(node, numbers[node.key], positions[node.key], links) for node in nodes],
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def text_of(workflow: Json) -> str:
    """The file of a workflow: a line for every node and link."""
    lists = ("nodes", "links")
    lines = [f'"{key}": {_line(value)}' for key, value in workflow.items() if key not in lists]
    for key in lists:
        entries = ",\n  ".join(_line(entry) for entry in workflow[key])
        lines.append(f'"{key}": [\n  {entries}\n ]')
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _origin(node: Node, link: str, nodes: Sequence[Node]) -> tuple[str, int]:
    """Key and output of what a link comes from."""
    key, _, output = link.partition(".")
    found = [other for other in nodes if other.key == key]
    if not found:
        raise GraphError(f"{node.key} is linked to {key}, which is not there")
    names = [name for name, _ in SHAPES[found[0].type].outputs]
    if output and output not in names:
        raise GraphError(f"{node.key} is linked to {link}, but {key} gives {', '.join(names)}")
    return key, names.index(output) if output else 0


def _positions(nodes: Sequence[Node]) -> dict[str, tuple[int, int]]:
    """Left upper corners: columns as wide as their widest node, nodes below each other in the graph's order."""
    widths: dict[int, int] = {}
    for node in nodes:
        widths[node.column] = max(widths.get(node.column, 0), SHAPES[node.type].size[0])
    lefts: dict[int, int] = {}
    left = LEFT
    for column in sorted(widths):
        lefts[column] = left
        left += widths[column] + COLUMN_GAP
    tops = dict.fromkeys(widths, TOP)
    positions: dict[str, tuple[int, int]] = {}
    for node in nodes:
        positions[node.key] = (lefts[node.column], tops[node.column])
        tops[node.column] += SHAPES[node.type].size[1] + ROW_GAP
    return positions


def _saved_node(node: Node, number: int, position: tuple[int, int], links: Sequence[Sequence[Any]]) -> Json:
    shape = SHAPES[node.type]
    into = {place: link for link, _, _, target, place, _ in links if target == number}
    out_of = [[link for link, origin, slot, *_ in links if (origin, slot) == (number, output)] for output in range(9)]
    entry: Json = {
        "id": number,
        "type": node.type,
        "pos": list(position),
        "size": list(shape.size),
        "flags": {},
        "order": number - 1,
        "mode": 0,
        "inputs": [
            {"name": name, "type": kind, "link": into.get(place)} for place, (name, kind) in enumerate(shape.inputs)
        ],
        "outputs": [
            {"name": name, "type": kind, "links": out_of[output]} for output, (name, kind) in enumerate(shape.outputs)
        ],
        "properties": {"Node name for S&R": node.type},
        "widgets_values": list(node.values),
    }
    return {**entry, "title": node.title} if node.title else entry
