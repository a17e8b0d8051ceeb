"""What the pack refuses before a run: films, settings and models, with the lines of the source that refuse them."""

import ast
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from traceback import walk_tb
from typing import Any

import torch
from comfy_api.latest import io

from devtools.environment import ROOT
from kvshare_core.config import KVShareConfig, MapSettings, MaskSettings, MeasuredModel, MemorySettings, parse_indices
from kvshare_core.families import find_family
from kvshare_core.families.minimax_h3 import CYCLE
from kvshare_core.host.editor.plan_request import MAX_BYTES, MAX_NODES, read_request
from kvshare_core.host.editor.widget_values import LONGEST_QUOTE, widget_value
from kvshare_core.host.loading.model_headers import facts_of
from kvshare_core.plan.making import make_plan
from kvshare_core.plan.model_fit import fit_plan
from kvshare_core.prompt_words import MOST_SUBJECT_WORDS, find_words
from kvshare_core.script.editor_places import read_film
from kvshare_core.script.film import ScriptBeat
from kvshare_core.timeline import limits
from kvshare_core.timeline.frame_cycle import FrameCycle
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.tiny.unets import tiny_svd, tiny_unet

CORE = ROOT / "kvshare_core"

UNREADABLE = [
    "",
    "a fox | strength: much",
    "a fox | strength: 99",
    "a fox | strength:",
    "a fox | seed: 1 | seed: 2",
    "a fox | seed: 0.5",
    "a fox | source: later",
    "a fox | source: beat 3",
    "a fox | lora: 0.5",
    "a fox | weight: fox",
    "a fox | weight: fox 11",
    "a fox | weight: fox 1 | weight: fox 2",
    "a fox | colour: red",
    "a fox |",
    "a fox | loop: yes",
    "| seed: 1",
    "[0s] a fox",
    "[banana] a fox",
    "[2.5f] a fox",
    "[3s a fox",
    "[3s]",
    "[cut]",
    "a fox\n[cut]",
    "a fox\n[cut]\n[cut]\na dog",
    "a fox\n[cut] a dog",
    "a fox\n[cut 5]\na dog",
    "a fox\n[segments]\na dog",
    "a fox\n[segments 99]\na dog",
    "a fox\nseed: 5",
    "a fox\nloop: yes",
    "loop: maybe\na fox",
    "subject: =\na fox",
    "1. a fox\n2. a dog",
    "Scene 1: a fox",
    "Scene 1\na fox",
    "negative prompt: blurry\na fox",
    "a fox \uff5c seed: 1",
    "a fox\n[cut gap soon]\na dog",
    "a fox\ud800",
    "```\na fox",
    "a fox\n{",
    "[\na fox",
    "positive prompt: a fox",
    "a fox\nSteps: 20, Sampler: Euler",
    '"prompt": "a fox",',
    "prompt: a fox",
    "negative: blurry | seed: 1\na fox",
    "[0:03] a fox",
    "a fox\n[0:03-0:06] a dog",
    "[3s] a fox\n[0:05-0:06] a dog",
    "a fox | red} b",
    "a fox | subject: none | subject: fox",
    "common: grey until 20\na fox",
    "common: until 20%\na fox",
    "a fox\na dog | source: first and first",
    "subject: fox from beat 1\na fox\na dog",
    "subject: a = fox\nsubject: a = dog\na fox",
    "a fox | subject: none = dog",
]
"""Texts that are no film."""


def _json(**entries: Any) -> str:
    return json.dumps({"version": 1, "beats": [{"prompt": "a fox"}]} | entries)


def _json_beat(**entries: Any) -> str:
    return _json(beats=[{"prompt": "a fox"}, {"prompt": "a dog"} | entries])


UNREADABLE_JSON = [
    '{"version": 1,}',
    '{"version"}',
    '{"version": }',
    '{"version": 1} x',
    '{"version',
    '{"a\tb": 1}',
    '{"a\\x": 1}',
    '{"a\\u12": 1}',
    "{red|blue} fox",
    '{"a": ' + 100_000 * "[",
    '{"version": 1' + 5000 * "0" + "}",
    '{"version": 1, "version": 1}',
    '{"version": NaN}',
    "{}",
    _json(version=2),
    _json(version="1"),
    _json(colour="red"),
    _json(loop="yes"),
    _json(prompt=5),
    _json(negative=" grey \ud800"),
    _json(common_until=0.5),
    _json(common_until=10**400),
    _json(beats={}),
    _json(beats=[]),
    _json(beats=["a fox"]),
    _json(beats=[{}]),
    _json(beats=[{"prompt": ""}]),
    _json(beats=[{"prompt": "a fox", "transition": {"kind": "cut"}}]),
    _json_beat(strength="much"),
    _json_beat(strength=99),
    _json_beat(duration={"hours": 3}),
    _json_beat(duration={}),
    _json_beat(transition={"kind": "fade"}),
    _json_beat(transition={"kind": "cut", "duration": {"seconds": 1}}),
    _json_beat(transition={"kind": "blend", "gap": {"frames": 5}}),
    _json_beat(transition={"kind": "cut", "segments": 2}),
    _json_beat(subjects=[{}]),
    _json_beat(subjects=[{"name": "a\nb"}]),
    _json_beat(sources=["later"]),
    _json_beat(loras=[{}]),
    _json_beat(weights=[{}]),
]
"""Texts in the JSON form that are no film."""

TWO = "subject: fox\nsubject: dog\na fox, a dog\na fox, a dog"
DITCTRL: dict[str, Any] = {"order": "ditctrl", "mode": "replace"}


@dataclass(frozen=True)
class Refusal:
    """A message, and where it comes from: files with the numbers of their lines."""

    message: str
    places: frozenset[tuple[Path, int]]


def refusal_of(wrong: Callable[[], object]) -> Refusal:
    """What `wrong` is refused with. Raises AssertionError if it is not."""
    try:
        wrong()
    except ValueError as reason:
        errors: list[BaseException] = [reason]
        while errors[-1].__context__ is not None:
            errors.append(errors[-1].__context__)
        frames = ((frame, line) for error in errors for frame, line in walk_tb(error.__traceback__))
        places = {(Path(frame.f_code.co_filename), line) for frame, line in frames}
        return Refusal(str(reason), frozenset(places))
    raise AssertionError("nothing was refused")


def refusals() -> Iterator[Refusal]:
    """All of them."""
    wrong = (
        *_wrong_films(),
        *_wrong_timelines(),
        *_wrong_settings(),
        *_wrong_values(),
        *_wrong_plans(),
        *_wrong_models(),
        *_wrong_requests(),
    )
    return map(refusal_of, wrong)


def refusing_lines(file: str) -> Iterator[range]:
    """The lines of every statement of a file of the core that raises a new error."""
    tree = ast.parse((CORE / file).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _wrong_films() -> Iterator[Callable[[], object]]:
    yield from (lambda text=text: read_film(text) for text in (*UNREADABLE, *UNREADABLE_JSON))
    for text in (" a fox", "a\rfox"):
        yield lambda text=text: ScriptBeat(text)


def _timeline(text: str, window: int = 21, overlap: int = 2, cycle: FrameCycle | None = None, **more: int) -> Timeline:
    """The timeline of a film, every word of which is one token."""
    fps = more.pop("fps", 16)
    timeline = plan_timeline(read_film(text)[0], window, overlap, fps, 4, frame_cycle=cycle, **more)
    beats = (replace(beat, words=find_words((one, (0,)) for one in beat.prompt)) for beat in timeline.beats)
    return replace(timeline, beats=tuple(beats))


def _wrong_timelines() -> Iterator[Callable[[], object]]:
    yield lambda: _timeline("a fox", 0)
    yield lambda: _timeline("a fox", 5, 9)
    yield lambda: _timeline("a fox", fps=0)
    yield lambda: _timeline("a fox", num_transition_blocks=-1)
    yield lambda: _timeline("loop: yes\na fox\na dog", 7, 1, CYCLE)
    yield lambda: _timeline("a fox", 8, 1, CYCLE)
    yield lambda: _timeline("a fox", 7, 5, CYCLE)
    yield lambda: _timeline("a fox\n[blend 30l]\na dog")
    yield lambda: _timeline("[2l] a fox\n[blend 5l]\na dog")
    yield lambda: limits.check_inputs(limits.MAX_BEATS + 1, 21, 16, 0)
    yield lambda: limits.check_inputs(1, limits.MAX_WINDOW + 1, 16, 0)
    yield lambda: limits.check_inputs(1, 21, limits.MAX_FPS + 1, 0)
    yield lambda: limits.check_inputs(1, 21, 16, limits.MAX_FILM_SEGMENTS + 1)
    yield lambda: limits.check_frames(limits.MAX_LATENT_FRAMES + 1, 5)
    yield lambda: limits.check_segments(limits.MAX_FILM_SEGMENTS + 1)
    yield lambda: limits.check_subjects(limits.MAX_SUBJECTS + 1)
    yield lambda: limits.check_routed(limits.MAX_ROUTED_WEIGHTS + 1)


def _wrong_settings() -> Iterator[Callable[[], object]]:
    configs: Sequence[dict[str, Any]] = (
        {"mode": "on"},
        {"strength": 99.0},
        {"start_percent": 0.5, "end_percent": 0.5},
        {"drift_control": 0.5, "order": "chain"},
        {"token_dropout": 1.0},
        {"start_step": -1},
        {"start_step": 5, "end_step": 5},
        {"start_layer": 5, "end_layer": 4},
        {"layer_idx": (-1,)},
        {"share_text": True},
        {"share_subject": False},
        {"is_edit": True, "order": "ditctrl"},
        {"reweight_form": "both"},
        {"reweight_scale": 99.0},
        {"reweight_token_idx": (-1,)},
        {"key_contrast": 2.5},
    )
    yield from (lambda one=one: KVShareConfig(**one) for one in configs)
    maps: Sequence[dict[str, Any]] = ({"keep": "some"}, {"step_idx": (-1,)})
    yield from (lambda one=one: MapSettings(**one) for one in maps)
    yield lambda: MaskSettings(rim=-1)
    yield lambda: MaskSettings(ref_token_idx=(1,))
    yield lambda: MemorySettings(budget_mib=-1)
    yield from (lambda text=text: parse_indices(text, "layer_idx") for text in ("2, five", "99999999", "9-2"))


def _wrong_values() -> Iterator[Callable[[], object]]:
    number = io.Int.Input("width", min=16, max=64)
    part = io.Float.Input("opacity", min=0.0, max=1.0)
    text, flag = io.String.Input("prompts"), io.Boolean.Input("clean")
    choice = io.Combo.Input("mode", options=["extend", "swap"])
    for widget, value in (
        (number, 8),
        (number, "wide"),
        (number, [16]),
        (number, 10 ** (LONGEST_QUOTE + 1)),
        (part, "high"),
        (part, "inf"),
        (text, 5),
        (flag, 5),
        (choice, "mask"),
    ):
        yield lambda widget=widget, value=value: widget_value(widget, value)


def _wrong_plans() -> Iterator[Callable[[], object]]:
    two, one = _timeline(TWO), _timeline("a fox runs\na fox sits")
    own = _timeline("a fox runs\na fox sits | source: beat 1")
    none = _timeline("a fox runs | subject: none")
    at_tokens = KVShareConfig(masks=MaskSettings(ref_token_idx=(1,), cur_token_idx=(1,)))
    many = " ".join(["fox"] * (MOST_SUBJECT_WORDS + 1))
    yield lambda: make_plan(two, KVShareConfig(**DITCTRL), "", None)
    yield lambda: make_plan(own, KVShareConfig(**DITCTRL), "", None)
    yield lambda: make_plan(two, at_tokens, "", None)
    yield lambda: make_plan(two, KVShareConfig(), "cat", None)
    yield lambda: make_plan(none, KVShareConfig(), "fox", None)
    yield lambda: make_plan(one, KVShareConfig(), many, None)
    yield lambda: make_plan(one, KVShareConfig(), ",", None)
    yield lambda: make_plan(one, KVShareConfig(), "cat", None)
    weighed = _timeline("a fox runs | weight: fox 2")
    of_token = KVShareConfig(reweight_token_idx=(0,), reweight_scale=2.0)
    yield lambda: make_plan(weighed, of_token, "", None)
    facts = facts_of("embedded")
    assert facts is not None
    closed = replace(facts.info, routes_text=False)
    routed = make_plan(_timeline("a fox\n[route]\na dog"), KVShareConfig(), "", None)
    yield lambda: fit_plan(routed, closed)
    for config in (
        KVShareConfig(measured_on=MeasuredModel("wan", 30)),
        KVShareConfig(layer_preset="custom", layer_idx=(90,)),
        KVShareConfig(layer_preset="custom", start_layer=90),
    ):
        plan = make_plan(one, config, "", None)
        yield lambda plan=plan: fit_plan(plan, facts.info)


def _wrong_models() -> Iterator[Callable[[], object]]:
    for kind in ("CausalWanModel", "SCAILWanModel", "WanAnimate2Model", "WanDancerModel", "Flux"):
        model = type(kind, (torch.nn.Module,), {})()
        yield lambda model=model: find_family(model, 16)
    animating = tiny_svd().model.diffusion_model
    yield lambda: find_family(animating, 4)
    textless = tiny_unet(transformer_depth=[0, 0], transformer_depth_output=[0] * 4, transformer_depth_middle=-1)
    yield lambda: find_family(textless.model.diffusion_model, 4)


def _wrong_requests() -> Iterator[Callable[[], object]]:
    """Those of users whose workflows are too large."""
    nodes = dict.fromkeys(map(str, range(MAX_NODES + 1)))
    for body in (b" " * (MAX_BYTES + 1), json.dumps({"node": 1, "graph": nodes}).encode()):
        yield lambda body=body: read_request(body)
