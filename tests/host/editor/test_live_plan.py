"""The plan that the timeline editor shows before a run is the plan of the run."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from devtools import client
from devtools.environment import ROOT
from devtools.server import Server
from kvshare_core.config import KVShareConfig, MaskSettings
from kvshare_core.embedded.files import WEIGHTS
from kvshare_core.embedded.model import MODEL_FILES, EmbeddedKind, load_embedded
from kvshare_core.host.editor import live_plan
from kvshare_core.host.editor.live_plan import Film, Surroundings, tell
from kvshare_core.host.graph import Graph
from kvshare_core.host.loading.model_headers import facts_of, model_facts
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.script.film import Unit
from kvshare_core.script.text_form import script_text
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import TimelineError
from tests.support.present import known
from tests.support.random_scripts import random_script

SHORT: dict[Unit, float] = {"seconds": 20.0, "frames": 200.0, "latent frames": 50.0}
EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))
FIRST_LIGHT = ROOT / "example_workflows" / "First light.json"


def ask(server: Server, body: Any) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{server.url}/kv_share/plan", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        return json.load(answer)


@pytest.mark.parametrize("attention", MODEL_FILES)
def test_header_tells_what_the_loaded_model_is(attention: EmbeddedKind) -> None:
    facts = model_facts((str(WEIGHTS / MODEL_FILES[known(attention)][0]),))
    model = load_embedded(attention).model
    assert facts is not None
    assert facts.info == model_info(model)[1]
    assert facts.element_size == (model.model.manual_cast_dtype or model.model.get_dtype()).itemsize


def test_files_of_another_kind_are_unknown(tmp_path: Path) -> None:
    other, broken = tmp_path / "other.safetensors", tmp_path / "broken.safetensors"
    save_file({"weight": torch.zeros(2, 2)}, other)
    broken.write_bytes(b"\xff" * 64)
    assert model_facts((str(other),)) is None
    assert model_facts((str(broken),)) is None
    assert model_facts((str(tmp_path / "missing.safetensors"),)) is None
    assert facts_of("../../secret.safetensors") is None


def test_times_and_windows_are_those_of_the_plan() -> None:
    for number in range(300):
        random = Random(number)
        script = random_script(random, SHORT)
        film = Film(script_text(script), overlap_size=random.randrange(6), num_transition_blocks=random.randrange(3))
        told = tell(film, Surroundings())
        try:
            plan = plan_timeline(script, 21, film.overlap_size, 16.0, 4, film.num_transition_blocks)
        except TimelineError as reason:
            assert told["error"]["message"] == str(reason)
            assert "segments" not in told
            continue
        assert told["error"] is None
        assert [(beat["start"], beat["stop"]) for beat in told["beats"]] == [
            (beat.start, beat.stop) for beat in plan.beats
        ]
        assert [(segment["start"], segment["stop"]) for segment in told["segments"]] == [
            (segment.start, segment.stop) for segment in plan.segments
        ]
        assert told["frames"] == plan.frames


def test_error_has_its_place_in_utf_16_units() -> None:
    text = "a 🦊 runs\n\U0001f98a | strength: much"
    told = tell(Film(text), Surroundings())
    units = text.encode("utf-16-le")[2 * told["error"]["at"] :]
    assert units.decode("utf-16-le") == "much"


def test_what_the_run_would_refuse_is_a_problem() -> None:
    facts = facts_of("embedded (joint attention)")
    route = tell(Film("a fox\n[route]\na dog"), Surroundings(facts, KVShareConfig()))
    assert ["[route]" in problem["message"] for problem in route["problems"]] == [True]
    subject = tell(Film("a fox\na dog"), Surroundings(facts, KVShareConfig(), subject="fox"))
    (problem,) = subject["problems"]
    assert "'fox'" in problem["message"] and problem["beat"] == 1


def test_route_answers_for_the_graph(server: Server) -> None:
    saved = json.loads(FIRST_LIGHT.read_text(encoding="utf-8"))
    graph = client.to_api_format(saved, client.object_info(server.url))
    (node,) = (name for name, one in graph.items() if one["class_type"] == "LongVideoSegmenter")
    told = ask(server, {"graph": graph, "node": node})
    assert told["model_known"] and not told["problems"]
    assert told["sharing"]["blocks"] == "0-7" and told["sharing"]["all_steps"] == 20
    config = {"class_type": "KVShareConfig", "inputs": {"start_layer": 5}}
    (sharer,) = (one for one in graph.values() if one["class_type"] == "MaskGuidedKVShare")
    sharer["inputs"]["config"], graph["config"] = ["config", 0], config
    assert ask(server, {"graph": graph, "node": node})["sharing"]["blocks"] == "5-7"
    config["inputs"]["start_layer"] = 50
    assert "start_layer" in ask(server, {"graph": graph, "node": node})["problems"][0]["message"]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_route_answers_for_every_example(server: Server, file: Path) -> None:
    """Also where settings nodes follow each other, whose first input is a link and has no default."""
    info = client.object_info(server.url)
    saved = json.loads(file.read_text(encoding="utf-8"))
    if lacking := {node["type"] for node in saved["nodes"]} - info.keys() - {"MarkdownNote", "Note", "Reroute"}:
        pytest.skip(f"this ComfyUI lacks {', '.join(sorted(lacking))}")
    graph = client.to_api_format(saved, info)
    segmenters = [name for name, one in graph.items() if one["class_type"] == "LongVideoSegmenter"]
    answers = [ask(server, {"graph": graph, "node": node}) for node in segmenters]
    assert answers and all(answer["segments"] and not answer["problems"] for answer in answers)


def told(text: str, subject: str = "", **config: Any) -> dict[str, Any]:
    """The plan of a small film whose MaskGuidedKVShare is node 7."""
    film = Film(text, width=96, height=96)
    return tell(film, Surroundings(facts_of("embedded"), KVShareConfig(**config), subject, sharer="7"))


@pytest.mark.parametrize(
    ("text", "subject", "beat", "way"),
    [
        ("a fox\ntwo foxes", "fox", 1, {"kind": "widget", "node": "7", "name": "subject", "value": "foxes"}),
        ("subject: fox\na fox\ntwo foxes", "", 1, {"kind": "fields", "beat": 1, "values": ["fox = foxes"]}),
        ("subject: Foxes\na fox", "", 0, {"kind": "fields", "beat": 0, "values": ["Foxes = fox"]}),
        ("a red fox | subject: red foxx", "", 0, {"kind": "fields", "values": ["red foxx = red fox"]}),
        ("a fox and a dog | subject: dog | subject: foxs", "", 0, {"values": ["dog", "foxs = fox"]}),
    ],
)
def test_a_wrong_word_is_told_at_its_prompt_with_the_nearest_one(
    text: str, subject: str, beat: int, way: dict[str, Any]
) -> None:
    (problem,) = told(text, subject)["problems"]
    assert problem["beat"] == beat
    assert f"'{problem['ways'][0]['label'].split(chr(39))[1].split()[-1]}'" in problem["message"]
    assert problem["ways"][0].items() >= way.items()


def test_a_word_that_nothing_is_like_is_told_without_a_way_out() -> None:
    assert [(problem["beat"], problem["ways"]) for problem in told("a fox\na dog\na hut", "fox")["problems"]] == [
        (1, ()),
        (2, ()),
    ]


def test_the_way_out_is_a_film_that_can_be_planned() -> None:
    (problem,) = told("subject: fox\na fox\ntwo foxes")["problems"]
    (words,) = problem["ways"][0]["values"]
    assert not told(f"subject: fox\na fox\ntwo foxes | subject: {words}")["problems"]


def test_a_lora_without_a_file_is_told_before_the_run() -> None:
    (problem,) = told("a fox\na fox | lora: no_such.safetensors", "fox")["problems"]
    assert problem["beat"] == 1 and "no_such.safetensors" in problem["message"]


def test_sharing_everything_is_told_with_its_cost_and_words_to_name() -> None:
    everything, named = told("a red fox runs\nthe red fox sleeps"), told("a red fox runs\nthe red fox sleeps", "fox")
    (warning,) = everything["warnings"]
    assert f"+{everything['sharing']['extra']:.0%}".replace("%", " %") in warning["message"]
    assert [way["text"] for way in warning["ways"]] == ["subject: red", "subject: fox"]
    assert not named["warnings"]
    assert everything["sharing"]["extra"] > named["sharing"]["extra"]


def test_an_edit_that_keeps_everything_is_not_told_to_name_a_subject() -> None:
    text = "a red fox runs\n[cut]\na grey fox runs"
    assert not told(text, is_edit=True)["warnings"] and told(text)["warnings"]


@pytest.mark.parametrize(
    ("text", "config", "reason"),
    [
        ("a fox\na fox", {"mode": "off"}, "mode"),
        ("a fox\na fox", {"strength": 0.0}, "strength"),
        ("a fox", {}, "segment"),
        ("a fox\na fox | source: none", {}, "source"),
        ("a fox\na fox", {"step_idx": (999,)}, "step"),
        ("a fox\na fox", {}, None),
    ],
)
def test_sharing_that_is_off_has_a_reason(text: str, config: dict[str, Any], reason: str | None) -> None:
    film = Film(text, width=96, height=96)
    around = Surroundings(facts_of("embedded"), KVShareConfig(**config), "fox", steps=4)
    off = tell(film, around)["sharing"]["off"]
    assert off is None if reason is None else reason in off


def test_a_timeline_that_nothing_takes_is_told(server: Server) -> None:
    saved = json.loads(FIRST_LIGHT.read_text(encoding="utf-8"))
    graph = client.to_api_format(saved, client.object_info(server.url))
    (node,) = (name for name, one in graph.items() if one["class_type"] == "LongVideoSegmenter")
    assert not ask(server, {"graph": graph, "node": node})["warnings"]
    alone = {name: one for name, one in graph.items() if one["class_type"] != "MaskGuidedKVShare"}
    (warning,) = ask(server, {"graph": alone, "node": node})["warnings"]
    assert [way["kind"] for way in warning["ways"]] == ["sharer"]


def test_memory_is_told_as_expected_and_at_most_and_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    sharing = told("a fox\na fox\na fox", "fox")["sharing"]
    assert 0 < sharing["expected_bytes"] < 0.4 * sharing["bytes"]
    facts = facts_of("embedded")
    assert facts is not None and sharing["bits"] == 8 * facts.element_size
    monkeypatch.setattr(live_plan, "get_total_memory", lambda _: sharing["expected_bytes"] - 1)
    (warning,) = told("a fox\na fox\na fox", "fox")["warnings"]
    assert "GB" in warning["message"] and "fp8" in warning["message"]


@pytest.mark.parametrize(
    ("text", "beat"),
    [
        ("a fox\n[3s]\na dog", 1),
        ("[3s]", 0),
        ("subject: fox\n[3s]", 0),
        ("a fox |", 0),
        ("a fox\na dog\n  | strength: much", 1),
        ("# one\r\n\r\na\r\n[x] b", 1),
    ],
)
def test_an_error_of_reading_has_its_prompt(text: str, beat: int) -> None:
    assert told(text)["error"]["beat"] == beat


@pytest.mark.parametrize("body", [{}, {"node": "1", "graph": {}}, {"node": "1", "graph": {"1": 3}}, 7])
def test_route_refuses_what_is_no_graph(server: Server, body: Any) -> None:
    with pytest.raises(urllib.error.HTTPError, match="400"):
        ask(server, body)


def test_circular_links_are_followed_once() -> None:
    graph = Graph(
        {
            "1": {"class_type": "Reroute", "inputs": {"": ["2", 0]}},
            "2": {"class_type": "Reroute", "inputs": {"": ["1", 0]}},
            "3": {"class_type": "LoraLoader", "inputs": {"model": ["4", 0]}},
            "4": {"class_type": "LoraLoader", "inputs": {"model": ["3", 0]}},
            "5": {"class_type": "X", "inputs": {"model": ["3", 0], "other": ["1", 0]}},
        }
    )
    assert [node.id for node in graph.chain(graph.node("5"), "model")] == ["3", "4"]
    assert graph.source(graph.node("5"), "other") is not None


def test_sharing_costs_more_with_more_of_the_picture_and_nothing_when_off() -> None:
    told = tell(
        Film("a fox\na fox\na fox", width=96, height=96), Surroundings(facts_of("embedded"), KVShareConfig(), "fox")
    )
    assert 0 < told["sharing"]["extra"] < told["sharing"]["most_extra"]
    off = tell(Film("a fox\na fox"), Surroundings(facts_of("embedded"), KVShareConfig(mode="off"), "fox"))
    assert (off["sharing"]["block_count"], off["sharing"]["bytes"], off["sharing"]["extra"]) == (0, 0, 0.0)


@pytest.mark.parametrize(("guided", "steps"), [(True, 10), (False, 4)])
def test_finding_the_subject_by_word_effects_costs_one_evaluation(guided: bool, steps: int) -> None:
    film = Film("a fox\na fox\na fox", width=96, height=96)

    def sharing(**changes: Any) -> dict[str, Any]:
        values = {
            "config": KVShareConfig(step_idx=(999,)),
            "subject": "fox",
            "steps": steps,
            "guided": guided,
            **changes,
        }
        return tell(film, Surroundings(facts_of("embedded"), **values))["sharing"]

    found = sharing()
    assert found["extra"] == pytest.approx(1 / 3 / (steps * (2 if guided else 1)))
    assert found["finding"] == sharing(steps=None)["finding"] == 1
    without: list[dict[str, Any]] = [
        {"masked": True, "subject": ""},
        {"subject": ""},
        {"config": KVShareConfig(step_idx=(999,), masks=MaskSettings(start="maps"))},
        # Without sharing, the subject is only shown, which its attention maps are good enough for.
        {"config": KVShareConfig(mode="off")},
        {"config": KVShareConfig(strength=0.0)},
    ]
    for changes in without:
        assert [sharing(**changes)[name] for name in ("extra", "finding")] == [0, 0]


@pytest.mark.parametrize(("sources", "again"), [("first", 1), ("previous", 2)])
def test_sources_that_come_first_cost_one_more_evaluation_of_each(sources: Any, again: int) -> None:
    film = Film("a fox\na fox\na fox", width=96, height=96)

    def told(order: Any) -> dict[str, Any]:
        config = KVShareConfig(order=order, sources=sources)
        return tell(film, Surroundings(facts_of("embedded"), config, "fox", steps=10))["sharing"]

    beside, before = told("lockstep"), told("sources_first")
    assert before["extra"] - beside["extra"] >= again / 3 - 1e-9
    assert before["extra"] - beside["extra"] < again / 3 * 1.3
    assert before["bytes"] == beside["bytes"] * again
