"""Helpers for workflows that a running ComfyUI executes."""

from typing import Any

from kvshare_core.embedded.latents import BLOCK_FRAMES, NATIVE_LATENT_FRAMES
from kvshare_core.host.loading.model_files import EMBEDDED_VIT3D
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline

FRAMES = "frames"
VIT3D_FRAMES = 8
"""The length that the embedded ViT3D was trained on."""


def planned_frames(workflow: dict[str, Any], decoder: str) -> int:
    """Pictures of the plan whose latent a decoder gets, or of one prompt where it is cut out of it."""
    node = workflow[workflow[decoder]["inputs"]["samples"][0]]
    cut = node["inputs"] if node["class_type"] == "LatentCut" else None
    sampler = node["inputs"] if cut is None else workflow[cut["samples"][0]]["inputs"]
    inputs = workflow[sampler["positive"][0]]["inputs"]
    pixels = workflow[inputs["model"][0]]["inputs"].get("diffusion_model") == EMBEDDED_VIT3D
    native, block = (VIT3D_FRAMES, 1) if pixels else (NATIVE_LATENT_FRAMES, BLOCK_FRAMES)
    plan = plan_timeline(parse_script(inputs["prompts"]), native, inputs["overlap_size"], inputs["fps"], block)
    if cut is None:
        return plan.frames
    assert (cut["index"], cut["index"] + cut["amount"]) in [(beat.start, beat.stop) for beat in plan.beats]
    return plan.picture_range(0, cut["amount"])[1]
