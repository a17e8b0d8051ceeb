"""The subgraphs that the pack offers in the node library are valid, and a running host lists and executes them."""

import json
import urllib.request
from typing import Any

import pytest

from devtools import client
from devtools.blueprints import MADE, text_of
from devtools.server import PACK_FOLDER, Server
from devtools.workflows import WIDGET_TYPES, widget_slots
from kvshare_core.script.parsing import parse_script
from tests.support.blueprint import BLUEPRINTS, FILM, Blueprint
from tests.support.workflow_runs import FRAMES, planned_frames

each = pytest.mark.parametrize("blueprint", BLUEPRINTS.values(), ids=BLUEPRINTS)
MODELS = {"KV Share film from an image": "embedded (image)"}
"""Embedded models that a blueprint is for, where it is not the first."""


def answer(url: str) -> Any:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60) as response:
        return json.load(response)


def test_the_files_are_what_is_made_of_the_first() -> None:
    made = {blueprint.name: text_of(blueprint) for blueprint in (make() for make in MADE)}
    found = {name: blueprint.file.read_text(encoding="utf-8") for name, blueprint in BLUEPRINTS.items()}
    assert found == made | {FILM.file.stem: found[FILM.file.stem]}


def test_no_two_blueprints_have_an_id_in_common() -> None:
    ids = [blueprint.content["id"] for blueprint in BLUEPRINTS.values()]
    ids += [blueprint.subgraph["id"] for blueprint in BLUEPRINTS.values()]
    assert len(set(ids)) == 2 * len(BLUEPRINTS) == 8


@each
def test_links_tie_what_is_there_and_both_ends_know_them(blueprint: Blueprint) -> None:
    subgraph, nodes = blueprint.subgraph, blueprint.nodes
    links = {link["id"]: link for link in subgraph["links"]}
    assert len(links) == len(subgraph["links"]) == subgraph["state"]["lastLinkId"]
    for link in links.values():
        start = blueprint.slots(link["origin_id"], "outputs")[link["origin_slot"]]
        end = blueprint.slots(link["target_id"], "inputs")[link["target_slot"]]
        assert start["type"] == end["type"] == link["type"]
        assert link["id"] in (start.get("linkIds") or start.get("links"))
        assert link["id"] in end.get("linkIds", [end.get("link")])
    ends = [slot["link"] for node in nodes.values() for slot in node["inputs"] if slot["link"] is not None]
    ends += [number for item in subgraph["outputs"] for number in item["linkIds"]]
    assert sorted(ends) == sorted(links)
    starts = [number for node in nodes.values() for slot in node["outputs"] for number in slot["links"]]
    starts += [number for item in subgraph["inputs"] for number in item["linkIds"]]
    assert sorted(starts) == sorted(links)


@each
def test_the_outside_shows_what_the_inside_asks_for(blueprint: Blueprint) -> None:
    outer, subgraph = blueprint.outer, blueprint.subgraph
    assert outer["type"] == subgraph["id"]
    for side in ("inputs", "outputs"):
        assert [(item["name"], item["type"]) for item in outer[side]] == [
            (item["name"], item["type"]) for item in subgraph[side]
        ]
    widgets = [item["name"] for item in outer["inputs"] if "widget" in item]
    assert widgets == [item["name"] for item in subgraph["inputs"] if item["type"] in WIDGET_TYPES]
    assert [name for node, name in blueprint.promoted if node == "-1"] == widgets
    assert len(outer["widgets_values"]) == len(widgets)


@each
def test_the_prompts_that_it_begins_with_name_its_subject(blueprint: Blueprint) -> None:
    beats = parse_script(blueprint.outside["prompts"]).beats
    assert len(beats) > 1 and all(blueprint.outside["subject"] in beat.prompt.split() for beat in beats)


@each
def test_the_nodes_inside_are_those_of_the_host(server: Server, blueprint: Blueprint) -> None:
    info = client.object_info(server.url)
    for node in blueprint.nodes.values():
        known = info[node["type"]]
        declared = {name: kind for group in known["input"].values() for name, (kind, *_) in group.items()}
        for slot in node["inputs"]:
            assert slot["type"] == declared[slot["name"]]
        assert [slot["type"] for slot in node["outputs"]] == known["output"]
        names = widget_slots(known, node["widgets_values"])
        # Create Video has one widget more on newer hosts.
        assert 0 <= len(names) - len(node["widgets_values"]) <= (node["type"] == "CreateVideo")
        for widget in (slot["widget"]["name"] for slot in node["inputs"] if "widget" in slot):
            assert widget in names
    of_nodes = {name: blueprint.nodes[int(node)]["type"] for node, name in blueprint.promoted if node != "-1"}
    assert of_nodes == {"seed": "KSampler", "control_after_generate": "KSampler"}


@each
def test_a_widget_shows_the_same_value_outside_and_inside(server: Server, blueprint: Blueprint) -> None:
    info = client.object_info(server.url)
    assert blueprint.as_workflow(info, {}) == blueprint.as_workflow(info, blueprint.outside)


def test_the_host_lists_them_and_hands_them_out(server: Server) -> None:
    listed = answer(f"{server.url}/global_subgraphs")
    own = {key: entry for key, entry in listed.items() if entry["info"]["node_pack"].endswith(PACK_FOLDER)}
    assert {entry["name"] for entry in own.values()} == set(BLUEPRINTS)
    for key, entry in own.items():
        blueprint = BLUEPRINTS[entry["name"]]
        assert entry["name"] == blueprint.subgraph["name"]
        assert json.loads(answer(f"{server.url}/global_subgraphs/{key}")["data"]) == blueprint.content


@each
def test_it_makes_the_video_that_it_plans(server: Server, blueprint: Blueprint) -> None:
    prompts = "a circle moving right over night\na circle moving down over grass"
    values = {"prompts": prompts, "subject": "circle", "width": 96, "height": 96, "fps": 8.0, "steps": 2}
    name = blueprint.file.stem
    pictures = 9 if "continue" in name else 1
    workflow = blueprint.as_workflow(
        client.object_info(server.url), values, MODELS.get(name, "embedded"), pictures=pictures
    )
    (decode,) = (name for name, node in workflow.items() if node["class_type"] == "VAEDecode")
    workflow[FRAMES] = {"class_type": "SaveImage", "inputs": {"images": [decode, 0], "filename_prefix": "blueprint"}}
    entry = client.run(server.url, workflow)
    assert len(client.output_files(entry)) == planned_frames(workflow, decode)
