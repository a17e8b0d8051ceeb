"""The HTTP route that gives the timeline editor the plan of a film while the user edits it."""

import asyncio
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from aiohttp import web

from ..kvshare_core.config import KVShareConfig
from ..kvshare_core.families import UnsupportedModelError
from ..kvshare_core.host.editor.live_plan import Film, Surroundings, tell
from ..kvshare_core.host.graph import Graph, GraphNode, is_link
from ..kvshare_core.host.loading.model_files import CHECKPOINT
from ..kvshare_core.host.loading.model_headers import facts_of
from ..kvshare_core.host.server import running_server
from ..kvshare_core.plan.forecast import ModelFacts
from .ditctrl_config import DiTCtrlConfig
from .kv_share_config import KVShareConfigNode
from .kv_share_mask_settings import KVShareMaskSettings
from .kv_share_memory_settings import KVShareMemorySettings

ROUTE = "/kv_share/plan"

LOADERS = {
    "LoadVideoDiT": ("diffusion_model", ""),
    "UNETLoader": ("unet_name", ""),
    "CheckpointLoaderSimple": ("ckpt_name", CHECKPOINT),
}
"""Nodes that load a model from a file: the input that names the file, and the prefix of that name in our own list."""

PRIMITIVES = frozenset(
    {"PrimitiveNode", "PrimitiveInt", "PrimitiveFloat", "PrimitiveString", "PrimitiveStringMultiline"}
)
"""Nodes that output the value of their widget."""

CONFIG_NODES: Mapping[str, Any] = {
    "KVShareConfig": KVShareConfigNode,
    "DiTCtrlConfig": DiTCtrlConfig,
    "KVShareMaskSettings": KVShareMaskSettings,
    "KVShareMemorySettings": KVShareMemorySettings,
}
"""Nodes whose configuration depends on their input values alone."""


def has_route() -> bool:
    """Whether the running server has the route already, from another copy of the pack."""
    server = running_server()
    return server is not None and any(getattr(route, "path", None) == ROUTE for route in server.routes)


def add_route() -> None:
    """Adds the route to the running server; does nothing if the nodes are used without one."""
    server = running_server()
    if server is None:
        return

    @server.routes.post(ROUTE)
    async def plan(request: web.Request) -> web.Response:  # pyright: ignore[reportUnusedFunction]
        try:
            asked = await request.json()
            answer = await asyncio.to_thread(answer_for, asked)
        except (ValueError, TypeError, KeyError) as reason:
            return web.json_response({"error": {"message": f"{ROUTE}: {reason}", "at": None}}, status=400)
        return web.json_response(answer)


def answer_for(asked: Any) -> dict[str, Any]:
    """The answer to {"node": id of the LongVideoSegmenter, "graph": the nodes around it in API format}.

    Raises ValueError, TypeError or KeyError for anything else.
    """
    graph = Graph(asked["graph"])
    node = graph.node(str(asked["node"]))
    film, assumed = _film(graph, node)
    if film is None:
        message = "prompts comes from another node: edit it there."
        return {"error": {"message": message, "at": None}, "problems": [], "notes": []}
    return tell(film, _surroundings(graph, node, assumed))


def _film(graph: Graph, node: GraphNode) -> tuple[Film | None, tuple[str, ...]]:
    """The values of the node, and a note for each that another node computes; None if that is `prompts`."""
    values: dict[str, Any] = {}
    assumed: list[str] = []
    for field in fields(Film):
        if field.name not in node.inputs:
            continue
        value = _value(graph, node, field.name)
        if value is not None:
            values[field.name] = field.type(value)  # pyright: ignore[reportCallIssue]
        elif field.name == "prompts":
            return None, ()
        else:
            assumed.append(f"{field.name} comes from another node; {field.default} is assumed here.")
    return Film(**values), tuple(assumed)


def _value(graph: Graph, node: GraphNode, name: str) -> Any:
    """The value of an input; None where a node has to run to compute it."""
    value = node.inputs.get(name)
    if not is_link(value):
        return value
    source = graph.source(node, name)
    if source is None or source.kind not in PRIMITIVES:
        return None
    return next((given for given in source.inputs.values() if not is_link(given)), None)


def _surroundings(graph: Graph, node: GraphNode, assumed: tuple[str, ...]) -> Surroundings:
    problems: list[str] = []
    model = _model(graph, node, problems)
    sharer = next(
        (found for found in graph.of_kind("MaskGuidedKVShare") if graph.source(found, "timeline") == node), None
    )
    if sharer is None:
        return Surroundings(model, problems=tuple(problems), notes=assumed)
    sampled = [found for found in graph.with_input("model") if sharer in graph.chain(found, "model")]
    return Surroundings(
        model,
        _config(graph, sharer, problems),
        str(_value(graph, sharer, "subject") or ""),
        graph.source(sharer, "mask") is not None,
        _first(graph, sampled, "steps", int),
        _first(graph, sampled, "cfg", float) != 1.0,
        tuple(problems),
        assumed,
    )


def _model(graph: Graph, node: GraphNode, problems: list[str]) -> ModelFacts | None:
    """What is known of the model that is connected to the node, through any patches."""
    loader = next((found for found in graph.chain(node, "model") if found.kind in LOADERS), None)
    if loader is None:
        return None
    name, before = LOADERS[loader.kind]
    value = _value(graph, loader, name)
    try:
        return None if value is None else facts_of(before + str(value))
    except UnsupportedModelError as reason:
        problems.append(f"{loader.kind}: {reason}")
        return None


def _config(graph: Graph, sharer: GraphNode, problems: list[str]) -> KVShareConfig | None:
    """The configuration of MaskGuidedKVShare, built by the nodes before it; None when one of them rejects its values.
    Nodes that are not in CONFIG_NODES are skipped."""
    nodes = [sharer, *graph.chain(sharer, "config")]
    config = KVShareConfig()
    for node in reversed(nodes[1:]):
        maker = CONFIG_NODES.get(node.kind)
        if maker is None:
            continue
        names = [item.id for item in maker.define_schema().inputs if item.id in node.inputs]
        given = {name: _value(graph, node, name) for name in names}
        if "config" in given:
            given["config"] = config
        try:
            config = maker.execute(**{name: value for name, value in given.items() if value is not None})[0]
        except ValueError as reason:
            problems.append(str(reason))
            return None
    return config


def _first(graph: Graph, nodes: list[GraphNode], name: str, kind: Any) -> Any:
    """The value of an input in the first of the nodes that has it; None where none has."""
    values = (_value(graph, node, name) for node in nodes if name in node.inputs)
    return next((kind(value) for value in values if value is not None), None)
