"""The node that the host runs now, in the graph that was queued."""

from collections.abc import Iterator

from comfy_execution.utils import get_executing_context

from ..record.record import Findings, KVShareRecord
from .graph import Graph, GraphNode
from .server import running_server

SHARER, RECORD_OUTPUT = "MaskGuidedKVShare", 1
"""The id of the node that shares, and the number of its output with the record."""


def running_node() -> tuple[Graph, GraphNode] | None:
    """The queued graph and its running node; None without a server, and for a node that another node created while it
    ran."""
    server, context = running_server(), get_executing_context()
    if server is None or context is None:
        return None
    running, _ = server.prompt_queue.get_current_queue_volatile()
    for _, prompt_id, workflow, *_ in running:
        if prompt_id == context.prompt_id and context.node_id in workflow:
            graph = Graph(workflow)
            return graph, graph.node(context.node_id)
    return None


def signature_of_running() -> str:
    """The signature of the running node, the same whenever it would run with the same inputs; empty when unknown."""
    found = running_node()
    return "" if found is None else found[0].signature(found[1])


def signatures_above(name: str | None = None) -> Iterator[str]:
    """Signatures of the nodes that the running one depends on, the nearest first; name: of its input, where only what
    comes through that counts. Nothing when they are unknown."""
    found = running_node()
    if found is None:
        return
    graph, node = found
    first = None if name is None else graph.source(node, name)
    if first is not None:
        yield graph.signature(first)
    if first is not None or name is None:
        yield from (graph.signature(other) for other in graph.above(first or node))


def record_is_read() -> bool:
    """Whether a node takes the record of a MaskGuidedKVShare that the running node depends on; true where that is
    unknown."""
    found = running_node()
    sharers = [] if found is None else [node for node in found[0].above(found[1]) if node.kind == SHARER]
    return found is None or not sharers or any(found[0].is_taken(node, RECORD_OUTPUT) for node in sharers)


def findings_above(record: KVShareRecord, name: str) -> Findings:
    """What the run found from which the running node gets its input `name`."""
    return record.findings(None, signatures_above(name))
