"""The nodes' part of editing and of weighing words."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from kvshare_core.config import DITCTRL, KVShareConfig
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.support.node_calls import NODES, run_node

CHANNELS, SIDE = 16, 6


def film(prompts: str = "[3l] a fox\n[cut]\n[3l] a dog") -> tuple[Timeline, dict[str, Any]]:
    timeline = plan_timeline(parse_script(prompts), 3, 0, 8, 4)
    return timeline, {"samples": torch.zeros(1, CHANNELS, timeline.latent_frames, SIDE, SIDE)}


def defaults(name: str) -> Iterator[tuple[str, Any]]:
    """What a node's widgets begin with, without those that may be left out."""
    for item in NODES[name].GET_SCHEMA().inputs:
        if hasattr(item, "default") and not item.optional:
            yield item.id, item.default


def config_of(name: str, **changes: Any) -> KVShareConfig:
    (config,) = run_node(name, **{**dict(defaults(name)), **changes})
    return config


def test_the_papers_edit_pairs_each_prompt_with_the_first() -> None:
    assert config_of("DiTCtrlConfig") == DITCTRL
    assert config_of("DiTCtrlConfig", is_edit=True) == replace(DITCTRL, is_edit=True, order="lockstep")


def test_the_papers_names_weigh_tokens() -> None:
    config = config_of("DiTCtrlConfig", reweight_token_idx="5, 7-8", reweight_scale=0.5)
    assert config == replace(DITCTRL, reweight_token_idx=(5, 7, 8), reweight_scale=0.5)
    assert config.reweight_form == "paper"


def test_what_is_shared_of_an_edit_and_how_words_are_weighed_is_said_in_the_config() -> None:
    assert config_of("KVShareConfig") == KVShareConfig()
    changes = {"share_background": True, "share_subject": False, "is_edit": True, "reweight_form": "paper"}
    assert config_of("KVShareConfig", **changes) == KVShareConfig(**changes)


def continued(**inputs: Any) -> dict[str, Any]:
    timeline, latent = film()
    settings = {"hold": "edit", "beat": 1, "soft_frames": 0}
    (result,) = run_node("LongVideoContinue", timeline=timeline, latent=latent, **{**settings, **inputs})
    return result


def test_a_video_is_edited_where_the_mask_is_white() -> None:
    video = torch.randn(1, CHANNELS, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 48, 48)
    mask[:, :, 24:] = 1
    whole, part = (continued(existing={"samples": video}, **given) for given in ({}, {"mask": mask}))
    for result in (whole, part):
        assert torch.equal(result["samples"], torch.cat([video, video], 2))
        assert result["noise_mask"][:, :, :3].eq(0).all()
    assert whole["noise_mask"][:, :, 3:].eq(1).all()
    assert part["noise_mask"][:, :, 3:, :, 3:].eq(1).all() and part["noise_mask"][:, :, 3:, :, :3].eq(0).all()


def test_a_mask_is_for_edits_alone() -> None:
    video = {"samples": torch.zeros(1, CHANNELS, 3, SIDE, SIDE)}
    with pytest.raises(ValueError, match="Long Video Continue: mask: it is for hold 'edit' alone"):
        continued(hold="start", existing=video, mask=torch.ones(1, 48, 48))
