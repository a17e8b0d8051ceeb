"""Helpers for workflows that a running ComfyUI executes."""

from typing import Any

from kvshare_core.embedded.latents import BLOCK_FRAMES, NATIVE_LATENT_FRAMES
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline

FRAMES = "frames"


def planned_frames(workflow: dict[str, Any], decoder: str) -> int:
    """Pictures of the plan whose latent a decoder gets."""
    sampler = workflow[workflow[decoder]["inputs"]["samples"][0]]["inputs"]
    inputs = workflow[sampler["positive"][0]]["inputs"]
    script = parse_script(inputs["prompts"])
    return plan_timeline(script, NATIVE_LATENT_FRAMES, inputs["overlap_size"], inputs["fps"], BLOCK_FRAMES).frames
