"""Turns a workflow as the browser saves it into the form that ComfyUI's /prompt takes. Standard library only."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

WIDGET_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR"})
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
"""A combo whose choice brings inputs of its own, named behind a dot; newer hosts have them."""
SEED_NAMES = frozenset({"seed", "noise_seed"})
COMMENT_NODES = frozenset({"Note", "MarkdownNote"})
REROUTE = "Reroute"
ALWAYS = 0

Json = dict[str, Any]
Links = Mapping[int, tuple[str, int]]


class ConversionError(ValueError):
    """The workflow does not fit the nodes of the host; the message names the node."""


def to_api_format(workflow: Mapping[str, Any], object_info: Mapping[str, Any]) -> dict[str, Json]:
    """The API form {node id: {class_type, inputs}} of a workflow saved by the browser (litegraph, 0.4 or 1.0).

    `object_info` is the host's /object_info. Comments are left out and reroutes followed, as the browser does.
    Raises ConversionError for unknown node types, muted or bypassed nodes and values that do not fit the inputs.
    """
    nodes = {str(node["id"]): cast(Json, node) for node in workflow["nodes"]}
    links = dict(_read_link(link) for link in workflow["links"])
    prompt: dict[str, Json] = {}
    for node_id, node in nodes.items():
        if node["type"] in COMMENT_NODES or node["type"] == REROUTE:
            continue
        if node.get("mode", ALWAYS) != ALWAYS:
            raise ConversionError(f"{_label(node)} is muted or bypassed; only active nodes can be converted")
        if node["type"] not in object_info:
            raise ConversionError(f"{_label(node)} is of a type that this ComfyUI lacks")
        inputs = dict(_widget_inputs(node, object_info[node["type"]]))
        inputs.update(_linked_inputs(node, nodes, links))
        prompt[node_id] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def widget_slots(info: Mapping[str, Any], values: Sequence[Any] = ()) -> list[str | None]:
    """What each entry of `widgets_values` belongs to, in order: an input's name, or None for a helper widget.

    Helpers are the `control_after_generate` of a seed, and that plus a filter for a combo that asks for it. Which
    inputs a dynamic combo brings depends on its value, hence `values`.
    """
    slots: list[str | None] = []
    _add_slots(slots, info, values, "")
    return slots


def _add_slots(slots: list[str | None], info: Mapping[str, Any], values: Sequence[Any], prefix: str) -> None:
    for name, kind, options in _inputs(info):
        if options.get("forceInput") or options.get("hidden"):
            continue
        if kind == DYNAMIC_COMBO:
            place = len(slots)
            slots.append(prefix + name)
            for option in options["options"]:
                if place < len(values) and option["key"] == values[place]:
                    _add_slots(slots, {"input": option["inputs"]}, values, f"{prefix}{name}.")
            continue
        if kind not in WIDGET_TYPES:
            continue
        slots.append(prefix + name)
        controlled = options.get("control_after_generate")
        if controlled is None:
            controlled = kind == "INT" and name in SEED_NAMES
        if controlled:
            slots.extend([None, None] if kind == "COMBO" else [None])


def _inputs(info: Mapping[str, Any]) -> Iterator[tuple[str, str, Json]]:
    """Name, type and options of every input, required ones first."""
    for group in ("required", "optional"):
        declared = cast(Json, info["input"].get(group, {}))
        for name in info.get("input_order", {}).get(group, declared):
            kind, *rest = declared[name]
            options: Json = rest[0] if rest else {}
            # An input of several types has the widget of one of them.
            yield name, "COMBO" if isinstance(kind, list) else str(options.get("widgetType", kind)), options


def _widget_inputs(node: Json, info: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    values = cast("Sequence[Any] | Mapping[str, Any]", node.get("widgets_values") or [])
    slots = widget_slots(info, () if isinstance(values, Mapping) else values)
    if isinstance(values, Mapping):
        named = {name: values[name] for name in slots if name is not None and name in values}
    else:
        uploads = sum(any(key.endswith("_upload") for key in options) for _, _, options in _inputs(info))
        surplus = [value for value in values[len(slots) :] if value is not None]
        if len(surplus) > uploads:
            raise ConversionError(f"{_label(node)} has {len(values)} widget values, its inputs take {len(slots)}")
        named = {name: value for name, value in zip(slots, values, strict=False) if name is not None}
    for name, value in named.items():
        yield name, _without_list(value)


def _without_list(value: object) -> object:
    """The form in which the host takes a list as a value: a plain one would be read as a link."""
    return cast(object, {"__value__": value}) if isinstance(value, list) else value


def _linked_inputs(node: Json, nodes: Mapping[str, Json], links: Links) -> Iterator[tuple[str, Any]]:
    for slot in node.get("inputs") or []:
        origin = _follow_reroutes(slot.get("link"), node, nodes, links)
        if origin is not None:
            yield slot["name"], [origin[0], origin[1]]


def _follow_reroutes(link: int | None, node: Json, nodes: Mapping[str, Json], links: Links) -> tuple[str, int] | None:
    """Node id and output that feed `link`."""
    while link is not None:
        if link not in links or links[link][0] not in nodes:
            raise ConversionError(f"{_label(node)} has an input whose link {link} leads nowhere")
        source, output = links[link]
        if nodes[source]["type"] != REROUTE:
            return source, output
        link = nodes[source]["inputs"][0].get("link")
    return None


def _read_link(link: Sequence[Any] | Mapping[str, Any]) -> tuple[int, tuple[str, int]]:
    if isinstance(link, Mapping):
        return link["id"], (str(link["origin_id"]), link["origin_slot"])
    return link[0], (str(link[1]), link[2])


def _label(node: Json) -> str:
    return f"node {node['id']} ({node['type']})"
