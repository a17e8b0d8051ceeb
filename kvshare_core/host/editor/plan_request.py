"""What an editor may ask for: a graph in JSON, of bounded size and depth, and one of its nodes. Pure Python."""

import json
import math
import re
from typing import Any, cast

from ..graph import Graph, GraphNode

MAX_BYTES = 4 << 20
"""Longest request: a large workflow has about a tenth of it."""
MAX_NODES = 5000
MAX_DEPTH = 32
"""How deep lists and objects may lie in each other; the graph itself has 5 levels."""

_STRING = rb'"(?:[^"\\]+|\\.?)*(?:"|\Z)'
_BRACKETS = rb"[\[\]{}]"


class RequestError(ValueError):
    """A request that is not answered; the message says what to send instead. status: of the answer in HTTP."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def read_request(body: bytes) -> tuple[Graph, GraphNode]:
    """The graph and the node of {"node": its id, "graph": the nodes around it in API format}.

    Raises RequestError for anything else: before it is parsed for one that is too long or nested too deeply.
    """
    if len(body) > MAX_BYTES:
        raise too_long()
    if _depth(body) > MAX_DEPTH:
        raise RequestError(f"the request has lists or objects more than {MAX_DEPTH} levels deep.")
    try:
        asked = json.loads(body.decode(), parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as reason:
        raise RequestError(f"the request is not JSON ({str(reason)[:200]}).") from reason
    wanted = cast("dict[str, Any]", asked) if isinstance(asked, dict) else {}
    node, nodes = wanted.get("node"), wanted.get("graph")
    if not isinstance(node, (str, int)) or not isinstance(nodes, dict):
        raise RequestError('the request must be {"node": an id, "graph": an object of nodes}.')
    if len(cast("dict[str, Any]", nodes)) > MAX_NODES:
        raise RequestError(f"the graph has more than {MAX_NODES} nodes.")
    try:
        graph = Graph(cast("dict[str, Any]", nodes))
        return graph, graph.node(str(node))
    except ValueError as reason:
        raise RequestError(str(reason)) from reason


def too_long() -> RequestError:
    """What to raise for a request of more than MAX_BYTES."""
    return RequestError(f"the request is larger than {MAX_BYTES >> 20} MiB.", 413)


def _depth(body: bytes) -> int:
    """How deep brackets outside of strings lie in each other; counted no further than MAX_DEPTH + 1."""
    depth = most = 0
    for bracket in re.findall(_BRACKETS, re.sub(_STRING, b"", body, flags=re.DOTALL)):
        depth += 1 if bracket in b"[{" else -1
        most = max(most, depth)
        if most > MAX_DEPTH:
            break
    return most


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large")
    return number
