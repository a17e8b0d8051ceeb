"""The user's graph, from a workflow in API format, and how its nodes are linked. Pure Python."""

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

REROUTE = "Reroute"

LONGEST_NAME = 60
"""Characters of an id that messages show."""


@dataclass(frozen=True)
class GraphNode:
    """inputs: values of widgets, and for linked inputs a list of a node's id and the number of its output."""

    id: str
    kind: str
    inputs: Mapping[str, Any]


class Graph:
    """Nodes by their ids, in ComfyUI's API format. Raises ValueError for anything else."""

    def __init__(self, nodes: object) -> None:
        self._nodes: dict[str, GraphNode] = {}
        self._signatures: dict[str, str] = {}
        if not isinstance(nodes, Mapping):
            raise ValueError("the graph must be an object of nodes.")
        for name, node in cast("Mapping[object, object]", nodes).items():
            entries = cast("Mapping[str, Any]", node) if isinstance(node, Mapping) else {}
            kind, inputs = entries.get("class_type"), entries.get("inputs")
            if not isinstance(kind, str) or not isinstance(inputs, Mapping):
                raise ValueError(f"node {str(name)[:LONGEST_NAME]} of the graph must have a class_type and inputs.")
            self._nodes[str(name)] = GraphNode(str(name), kind, cast("Mapping[str, Any]", inputs))

    def node(self, name: str) -> GraphNode:
        """The node with that id. Raises ValueError when there is none."""
        if name not in self._nodes:
            raise ValueError(f"the graph has no node {name[:LONGEST_NAME]}.")
        return self._nodes[name]

    def of_kind(self, kind: str) -> Iterator[GraphNode]:
        """All nodes of a class."""
        return (node for node in self._nodes.values() if node.kind == kind)

    def with_input(self, name: str) -> Iterator[GraphNode]:
        """All nodes that have an input of that name."""
        return (node for node in self._nodes.values() if name in node.inputs)

    def source(self, node: GraphNode, name: str) -> GraphNode | None:
        """The node that an input is linked to, skipping reroutes; None for an unlinked input."""
        seen: set[str] = set()
        found = self._linked(node.inputs.get(name))
        while found is not None and found.kind == REROUTE and found.id not in seen:
            seen.add(found.id)
            found = next((self._linked(value) for value in found.inputs.values() if is_link(value)), None)
        return found

    def above(self, node: GraphNode) -> list[GraphNode]:
        """All nodes that one depends on, each once, the nearest first."""
        found = {node.id: node}
        waiting = deque([node])
        while waiting:
            for value in waiting.popleft().inputs.values():
                linked = self._linked(value)
                if linked is not None and linked.id not in found:
                    found[linked.id] = linked
                    waiting.append(linked)
        del found[node.id]
        return list(found.values())

    def signature(self, node: GraphNode) -> str:
        """A text that is the same for nodes of one class with the same values and, where they are linked, the same
        nodes before them, whatever their ids."""
        waiting = [node]
        while waiting:
            one = waiting[-1]
            linked = (self._linked(value) for value in one.inputs.values())
            missing = [other for other in linked if other is not None and other.id not in self._signatures]
            if one.id in self._signatures or not missing:
                waiting.pop()
                self._signatures[one.id] = self._signed(one)
            elif len(waiting) > len(self._nodes):
                raise ValueError("the nodes of the graph depend on themselves.")
            else:
                waiting.append(missing[0])
        return self._signatures[node.id]

    def _signed(self, node: GraphNode) -> str:
        """The signature of a node whose linked nodes have theirs."""
        values: dict[str, Any] = {}
        for name, value in node.inputs.items():
            linked = self._linked(value)
            values[name] = value if linked is None else [self._signatures[linked.id], value[1]]
        text = json.dumps([node.kind, values], sort_keys=True, default=str)
        return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()

    def chain(self, node: GraphNode, name: str) -> Iterator[GraphNode]:
        """The nodes reached from `node` by following inputs called `name`, the nearest first: the patches and the
        loader of a model."""
        seen: set[str] = set()
        found = self.source(node, name)
        while found is not None and found.id not in seen:
            seen.add(found.id)
            yield found
            found = self.source(found, name)

    def patched(self, node: GraphNode, name: str) -> list[GraphNode]:
        """All nodes whose chain of inputs called `name` contains `node`: those that get what it outputs."""
        known = {node.id: True}
        for start in self.with_input(name):
            passed: list[str] = []
            found: GraphNode | None = start
            while found is not None and found.id not in known:
                known[found.id] = False
                passed.append(found.id)
                found = self.source(found, name)
            if found is not None and known[found.id]:
                known |= dict.fromkeys(passed, True)
        return [self._nodes[name] for name, behind in known.items() if behind and name != node.id]

    def is_taken(self, node: GraphNode, output: int) -> bool:
        """Whether any input is linked to that output of a node."""
        values = (value for other in self._nodes.values() for value in other.inputs.values() if is_link(value))
        return any((str(name), place) == (node.id, output) for name, place in values)

    def _linked(self, value: object) -> GraphNode | None:
        return self._nodes.get(str(cast("Sequence[object]", value)[0])) if is_link(value) else None


def is_link(value: object) -> bool:
    """Whether an input is linked to a node."""
    return isinstance(value, list) and len(cast("list[object]", value)) == 2
