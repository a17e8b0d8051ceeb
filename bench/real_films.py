"""Films of storyboards on a user's own ComfyUI: one workflow in API format, changed into each way to compare."""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from devtools import client
from kvshare_core.timeline.frame_cycle import FrameCycle
from kvshare_core.timeline.timeline import FRAME_DIM

from .graphs import Workflow, fetch_frames, node_of, nodes_of, only, with_inputs, with_pictures
from .methods import PAPER
from .real_boards import Board

Way = Literal["isolated", "core_windows", "windows", "ditctrl", "kvshare"]
WAYS: tuple[Way, ...] = get_args(Way)

SEGMENTER, SHARER, WINDOWS = "LongVideoSegmenter", "MaskGuidedKVShare", "ContextWindowsManual"
FRAMES, MASKS = "kv_share_bench_frames", "kv_share_bench_masks"
"""Nodes that save what is looked at, and the beginning of their files' names."""
SETTINGS, SHOWN, PICTURED = "kv_share_bench_settings", "kv_share_bench_shown", "kv_share_bench_pictured"
PICTURE_SINKS = ("CreateVideo", "SaveAnimatedWEBP", "SaveAnimatedPNG", "SaveWEBM", "SaveImage", "VHS_VideoCombine")
SEEDS = ("seed", "noise_seed")
PAPER_STEPS = 50
"""Steps of DiTCtrl's released configuration, which its start_step and end_step count."""

Json = dict[str, Any]


class WayMissingError(Exception):
    """A ComfyUI or a model cannot make a film in one of the ways; says why."""


@dataclass(frozen=True)
class Facts:
    """What the plan says of the template's model: latent frames of a segment and of an overlap, the sampler's steps and
    the transformer blocks. None where it does not know the model."""

    window: int | None
    overlap: int
    steps: int | None
    blocks: int | None


@dataclass(frozen=True)
class RealFilm:
    """One film. frames [f, 3, h, w] and the subject's masks [f, h, w] in 0..1, None where no subject was followed;
    spans: the pictures [first, last) of each beat; seconds: from queueing to the end."""

    board: Board
    frames: torch.Tensor
    masks: torch.Tensor | None
    spans: tuple[tuple[int, int], ...]
    seconds: float


class Studio:
    """A running ComfyUI and the workflow that it makes films with."""

    def __init__(self, url: str, template: Workflow, frames: str | None = None):
        """frames: the id of the node whose first output is the film's pictures; None finds it. Raises ValueError for a
        workflow without what a film needs."""
        self.url = url
        self.template = template
        self.nodes = client.object_info(url)
        self.pictures = [frames, 0] if frames is not None else pictures_of(template)
        self.segmenter = node_of(template, SEGMENTER)
        if not nodes_of(template, SHARER):
            raise ValueError(f"the workflow needs a {SHARER} behind its {SEGMENTER}")
        self.facts = self._facts()

    def make(self, board: Board, way: Way, seed: int) -> RealFilm:
        """Queues a film, waits and fetches its pictures. Raises WayMissingError, and as client.run does."""
        workflow = self.workflow(board, way, seed)
        start = time.monotonic()
        entry = client.run(self.url, workflow)
        seconds = time.monotonic() - start
        frames = fetch_frames(self.url, entry, FRAMES)
        masks = fetch_frames(self.url, entry, MASKS)[:, 0] if MASKS in workflow else None
        return RealFilm(board, frames, masks, self._spans(board, way), seconds)

    def workflow(self, board: Board, way: Way, seed: int) -> Workflow:
        """The template as a film of `board`, saving its pictures and, where it follows a subject, the masks."""
        changed = seeded(with_inputs(self.template, self.segmenter, **self._script(board, way)), seed)
        sharers = nodes_of(changed, SHARER)
        for sharer in sharers:
            changed = with_inputs(changed, sharer, subject="")
        if way == "core_windows":
            changed = self._with_core_windows(changed, sharers)
        elif way != "kvshare":
            changed[SETTINGS] = self._settings(way)
            for sharer in sharers:
                changed = with_inputs(changed, sharer, config=[SETTINGS, 0])
        changed = with_pictures(changed, FRAMES, self.pictures)
        if way == "core_windows" or not board.script.subjects:
            return only(changed, FRAMES)
        taken = [node["inputs"].get("earlier_record", [None])[0] for node in changed.values()]
        record = next(sharer for sharer in sharers if sharer not in taken)
        shown = {**self._defaults("AttentionMaskPreview"), "record": [record, 1], "images": self.pictures}
        changed[SHOWN] = {"class_type": "AttentionMaskPreview", "inputs": shown}
        changed[PICTURED] = {"class_type": "MaskToImage", "inputs": {"mask": [SHOWN, 1]}}
        return only(with_pictures(changed, MASKS, [PICTURED, 0]), FRAMES, MASKS)

    def _script(self, board: Board, way: Way) -> Json:
        return {"prompts": board.apart().text, "overlap_size": 0} if way == "isolated" else {"prompts": board.text}

    def _settings(self, way: Way) -> Json:
        if way != "ditctrl":
            return {"class_type": "KVShareConfig", "inputs": {**self._defaults("KVShareConfig"), "mode": "off"}}
        if self.facts.blocks is None or self.facts.steps is None:
            raise WayMissingError("the plan does not know the model's blocks or the sampler's steps")
        blocks, steps = self.facts.blocks, self.facts.steps
        scaled = {
            "start_step": round(PAPER.start_percent * steps),
            "end_step": round(PAPER.end_percent * steps),
            "start_layer": blocks - max(1, round(blocks / 6)),
            "end_layer": blocks,
        }
        return {"class_type": "DiTCtrlConfig", "inputs": {**self._defaults("DiTCtrlConfig"), **scaled}}

    def _with_core_windows(self, workflow: Workflow, sharers: Sequence[str]) -> Workflow:
        """The workflow with ComfyUI's own context windows in place of the pack's segments."""
        known = self.nodes.get(WINDOWS, {"input": {}})["input"]
        names = {**known.get("required", {}), **known.get("optional", {})}
        if "split_conds_to_windows" not in names:
            raise WayMissingError("this ComfyUI's context windows take no prompt of their own")
        if self.facts.window is None:
            raise WayMissingError("the plan does not know how many latent frames the model was trained on")
        windows = {
            **self._defaults(WINDOWS),
            "context_length": self.facts.window,
            "context_overlap": self.facts.overlap,
            "context_schedule": "standard_static",
            "dim": FRAME_DIM,
            "split_conds_to_windows": True,
        }
        changed = copy.deepcopy(workflow)
        for sharer in sharers:
            model = changed[sharer]["inputs"]["model"]
            changed[sharer] = {"class_type": WINDOWS, "inputs": {**windows, "model": model}}
        return changed

    def _defaults(self, class_type: str) -> Json:
        """The values that a node begins with. Raises WayMissingError where the ComfyUI lacks it."""
        if class_type not in self.nodes:
            raise WayMissingError(f"this ComfyUI lacks the node {class_type}")
        inputs = self.nodes[class_type]["input"]
        found: Json = {}
        for name, declared in {**inputs.get("required", {}), **inputs.get("optional", {})}.items():
            kind, options = declared[0], (declared[1] if len(declared) > 1 else {})
            choices = kind if isinstance(kind, list) else options.get("options")
            if "default" in options:
                found[name] = options["default"]
            elif choices:
                found[name] = choices[0]
        return found

    def _facts(self) -> Facts:
        """Asks the plan of the template with sharing in all blocks."""
        asked = copy.deepcopy(self.template)
        whole = {**self._defaults("KVShareConfig"), "mode": "extend", "layer_preset": "custom", "end_percent": 1.0}
        asked[SETTINGS] = {"class_type": "KVShareConfig", "inputs": whole}
        for sharer in nodes_of(asked, SHARER):
            asked[sharer]["inputs"] |= {"config": [SETTINGS, 0], "subject": ""}
        asked[self.segmenter]["inputs"]["prompts"] = "one\ntwo"
        plan = self._plan(asked)
        sharing = plan.get("sharing") or {}
        overlap = self.template[self.segmenter]["inputs"].get("overlap_size", 0)
        return Facts(
            plan["window"] if plan["model_known"] else None,
            overlap,
            sharing.get("all_steps"),
            sharing.get("block_count"),
        )

    def _spans(self, board: Board, way: Way) -> tuple[tuple[int, int], ...]:
        """The pictures of each beat, as the plan of the film has them."""
        plan = self._plan(with_inputs(self.template, self.segmenter, **self._script(board, way)))
        cycle = None if plan["cycle"] is None else FrameCycle(tuple(plan["cycle"]))

        def before(latent: int) -> int:
            if cycle is not None:
                return cycle.before(latent)
            return 0 if latent == 0 else plan["scale"] * (latent - 1) + 1

        return tuple((before(beat["start"]), before(beat["stop"])) for beat in plan["beats"])

    def _plan(self, workflow: Workflow) -> Json:
        """The editor's plan of a workflow. Raises ValueError with what is wrong with its film."""
        plan = client.ask(self.url, "/kv_share/plan", {"node": self.segmenter, "graph": workflow})
        if plan.get("error"):
            raise ValueError(plan["error"]["message"])
        return plan


def pictures_of(workflow: Workflow) -> list[Any]:
    """The output that a workflow's film is saved from: what its video or pictures are made of, without the masks over
    them. Raises ValueError when there is none, or more than one."""
    found = {tuple(_without_masks(workflow, link)) for link in _shown(workflow)}
    if len(found) != 1:
        named = ", ".join(sorted(str(node_id) for node_id, _ in found)) or "none"
        raise ValueError(f"the film's pictures come from one node, this workflow has {named}; name it with --frames")
    return list(found.pop())


def seeded(workflow: Workflow, seed: int) -> Workflow:
    """The workflow with that seed wherever one is typed in."""
    changed = copy.deepcopy(workflow)
    for node in changed.values():
        node["inputs"] |= {name: seed for name in SEEDS if isinstance(node["inputs"].get(name), int)}
    return changed


def _shown(workflow: Workflow) -> list[list[Any]]:
    links = [node["inputs"].get("images") for node in workflow.values() if node["class_type"] in PICTURE_SINKS]
    return [link for link in links if isinstance(link, list)]


def _without_masks(workflow: Mapping[str, Json], link: list[Any]) -> list[Any]:
    while workflow[link[0]]["class_type"] == "AttentionMaskPreview":
        link = workflow[link[0]]["inputs"]["images"]
    return link
