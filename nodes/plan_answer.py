"""The plan of a film for the timeline editor, from the user's graph."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from ..kvshare_core.config import KVShareConfig
from ..kvshare_core.families import UnsupportedModelError
from ..kvshare_core.host.editor.live_plan import Film, Surroundings, tell
from ..kvshare_core.host.editor.plan_request import RequestError, read_request
from ..kvshare_core.host.editor.widget_values import plain_number, widget_value
from ..kvshare_core.host.graph import Graph, GraphNode, is_link
from ..kvshare_core.host.loading.model_files import CHECKPOINT
from ..kvshare_core.host.loading.model_headers import facts_of
from ..kvshare_core.host.workers.settings import MOST_WORKERS
from ..kvshare_core.plan.forecast import ModelFacts
from .ditctrl_config import DiTCtrlConfig
from .kv_share_config import KVShareConfigNode
from .kv_share_mask_settings import KVShareMaskSettings
from .kv_share_memory_settings import KVShareMemorySettings
from .load_video_dit import LoadVideoDiT
from .long_video_segmenter import LongVideoSegmenter
from .mask_guided_kv_share import MaskGuidedKVShare

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

SEGMENTER, SHARER, WORKERS = "LongVideoSegmenter", "MaskGuidedKVShare", "KVShareWorkers"

NAMES = {
    node.define_schema().node_id: node.define_schema().display_name
    for node in (LongVideoSegmenter, MaskGuidedKVShare, LoadVideoDiT, *CONFIG_NODES.values())
} | {"UNETLoader": "Load Diffusion Model", "CheckpointLoaderSimple": "Load Checkpoint"}
"""What users know those nodes as."""

MAX_STEPS = 10_000
"""Most steps of the host's samplers."""
MAX_CFG = 1000.0


def answer_for(body: bytes, go_on: Callable[[], None]) -> dict[str, Any]:
    """The answer to a request of plan_request; go_on: as live_plan.tell calls it.

    Raises RequestError, a ValueError, for what is no such request, and for values that the nodes do not take.
    """
    graph, node = read_request(body)
    if node.kind != SEGMENTER:
        raise RequestError(f"node {node.id} is a {node.kind}, not a {SEGMENTER}.")
    go_on()
    film, assumed = _film(graph, node)
    if film is None:
        message = "prompts comes from another node: edit it there."
        return {"error": {"message": message, "at": None, "beat": None}, "problems": [], "warnings": [], "notes": []}
    around = _surroundings(graph, node, assumed)
    go_on()
    return tell(film, around, go_on)


def _film(graph: Graph, node: GraphNode) -> tuple[Film | None, tuple[str, ...]]:
    """The values of the node, and a note for each that another node computes; None if that is `prompts`."""
    values: dict[str, Any] = {}
    assumed: list[str] = []
    wanted = {field.name: field.default for field in fields(Film)}
    for widget in LongVideoSegmenter.define_schema().inputs:
        if widget.id not in wanted or widget.id not in node.inputs:
            continue
        if _is_computed(graph, node, widget.id):
            if widget.id == "prompts":
                return None, ()
            assumed.append(f"{widget.id} comes from another node; {wanted[widget.id]} is assumed here.")
            continue
        values[widget.id] = _checked(SEGMENTER, widget, _value(graph, node, widget.id))
    if "prompts" not in values:
        raise RequestError(f"{NAMES[SEGMENTER]}: prompts is missing.")
    return Film(**values), tuple(assumed)


def _checked(kind: str, widget: Any, value: Any) -> Any:
    try:
        return widget_value(widget, value)
    except ValueError as reason:
        raise RequestError(f"{NAMES[kind]}: {reason}") from reason


def _primitive(graph: Graph, node: GraphNode, name: str) -> GraphNode | None:
    """The node that outputs the value of its widget to an input."""
    source = graph.source(node, name)
    return source if source is not None and source.kind in PRIMITIVES else None


def _is_computed(graph: Graph, node: GraphNode, name: str) -> bool:
    """Whether a node has to run to compute the value of an input."""
    return is_link(node.inputs.get(name)) and not list(_given(_primitive(graph, node, name)))


def _value(graph: Graph, node: GraphNode, name: str) -> Any:
    """The value of an input; None where a node has to run to compute it."""
    value = node.inputs.get(name)
    return next(_given(_primitive(graph, node, name)), None) if is_link(value) else value


def _given(primitive: GraphNode | None) -> Iterator[Any]:
    return (value for value in ({} if primitive is None else primitive.inputs).values() if not is_link(value))


def _surroundings(graph: Graph, node: GraphNode, assumed: tuple[str, ...]) -> Surroundings:
    problems: list[str] = []
    notes = list(assumed)
    model = _model(graph, node, problems)
    sharer = next((found for found in graph.of_kind(SHARER) if graph.source(found, "timeline") == node), None)
    if sharer is None:
        alone = all(graph.source(found, "timeline") != node for found in graph.with_input("timeline"))
        return Surroundings(model, alone=alone, problems=tuple(problems), notes=assumed)
    sampled = graph.patched(sharer, "model")
    steps = _first(graph, sampled, "steps", 1, MAX_STEPS)
    subject = next(widget for widget in MaskGuidedKVShare.define_schema().inputs if widget.id == "subject")
    return Surroundings(
        model,
        _config(graph, sharer, problems, notes),
        _checked(SHARER, subject, _value(graph, sharer, "subject") or ""),
        graph.source(sharer, "mask") is not None,
        sharer.id,
        None if steps is None else int(steps),
        _first(graph, sampled, "cfg", 0.0, MAX_CFG) != 1.0,
        problems=tuple(problems),
        notes=tuple(notes),
        workers=_workers(graph, sampled),
    )


def _workers(graph: Graph, sampled: list[GraphNode]) -> int | None:
    """The number of workers; None without their node, and for a number that is none."""
    node = next((found for found in sampled if found.kind == WORKERS), None)
    count = None if node is None else plain_number(_value(graph, node, "workers"), 0, MOST_WORKERS)
    return None if count is None else int(count)


def _model(graph: Graph, node: GraphNode, problems: list[str]) -> ModelFacts | None:
    """What is known of the model that is connected to the node, through any patches."""
    loader = next((found for found in graph.chain(node, "model") if found.kind in LOADERS), None)
    if loader is None:
        return None
    name, before = LOADERS[loader.kind]
    value = _value(graph, loader, name)
    try:
        return facts_of(before + value) if isinstance(value, str) else None
    except UnsupportedModelError as reason:
        problems.append(f"{NAMES[loader.kind]}: {reason}")
        return None


def _config(graph: Graph, sharer: GraphNode, problems: list[str], notes: list[str]) -> KVShareConfig | None:
    """The configuration of MaskGuidedKVShare, built by the nodes before it; None when one of them rejects its values.
    Nodes that are not in CONFIG_NODES are skipped; what other nodes compute has its default."""
    nodes = [sharer, *graph.chain(sharer, "config")]
    config = KVShareConfig()
    for node in reversed(nodes[1:]):
        maker = CONFIG_NODES.get(node.kind)
        if maker is None:
            continue
        widgets = {widget.id: widget for widget in maker.define_schema().inputs}
        given: dict[str, Any] = {"config": config} if "config" in widgets else {}
        try:
            for name in (widgets.keys() & node.inputs.keys()) - given.keys():
                if _is_computed(graph, node, name):
                    notes.append(
                        f"{NAMES[node.kind]}: {name} comes from another node; {widgets[name].default} is assumed here."
                    )
                else:
                    given[name] = _checked(node.kind, widgets[name], _value(graph, node, name))
            left = {name: widgets[name].default for name in widgets.keys() - given.keys() if not widgets[name].optional}
            config = maker.execute(**given, **left)[0]
        except ValueError as reason:
            problems.append(str(reason))
            return None
    return config


def _first(graph: Graph, nodes: list[GraphNode], name: str, lowest: float, highest: float) -> float | None:
    """The value of an input in the first of the nodes that has it as a number in that range; None where none has."""
    values = (plain_number(_value(graph, node, name), lowest, highest) for node in nodes if name in node.inputs)
    return next((value for value in values if value is not None), None)
