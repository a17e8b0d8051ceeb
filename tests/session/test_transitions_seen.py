"""Transitions in videos of the embedded model: how the background changes from sand to night."""

from typing import Any

import pytest
import torch

from kvshare_core.config import KVShareConfig
from kvshare_core.embedded.detector import background_colours, detect
from kvshare_core.embedded.scenes import BACKGROUND_VALUES, FPS, FRAME_SIDE
from kvshare_core.embedded.vocabulary import BACKGROUNDS
from kvshare_core.host.conditioning.encoding import empty_latent, encode_timeline
from kvshare_core.host.loading.loading import EMBEDDED, load_video_model
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.host.sampling.patch import apply
from kvshare_core.plan.making import make_plan
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.tiny.models import Sampling

SAND, NIGHT = (BACKGROUND_VALUES[BACKGROUNDS.index(word)] for word in ("sand", "night"))
TRANSITIONS = ("[cut]", "[cut gap 8f]", "[blend 8f]", "[segments 1]", "[route 8f]")


@pytest.fixture(scope="module")
def films() -> dict[str, tuple[Timeline, torch.Tensor]]:
    """A film with each transition, from the same noise."""
    model, clip, vae = load_video_model(EMBEDDED, EMBEDDED, EMBEDDED, "default")
    _, info = model_info(model)
    made: dict[str, tuple[Timeline, torch.Tensor]] = {}
    for transition in TRANSITIONS:
        text = f"[5l] a red square moving right over sand\n{transition}\n[5l] a red square moving left over night"
        timeline = plan_timeline(parse_script(text), info.native_frames, 2, FPS, info.compression[0])
        timeline, positive, negative = encode_timeline(clip, timeline, "")
        patched, _ = apply(model, make_plan(timeline, KVShareConfig(start_layer=3), "square", None))
        samples = empty_latent(info, timeline, FRAME_SIDE, FRAME_SIDE, 1)
        noise = torch.randn(samples.shape, generator=torch.Generator().manual_seed(3))
        sampled = Sampling(8, 4.0).run(patched, positive, negative, tuple(samples.shape), noise=noise)
        with torch.inference_mode():
            made[transition] = timeline, vae.decode(sampled)[0].float().movedim(-1, 1)
    return made


def way_to_night(frames: torch.Tensor) -> torch.Tensor:
    """How far each picture's background is on the way from sand (0) to night (1)."""
    way = NIGHT - SAND
    return ((background_colours(frames) - SAND) @ way) / (way @ way)


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_both_prompts_are_obeyed_away_from_the_seam(films: Any, transition: str) -> None:
    timeline, frames = films[transition]
    assert len(frames) == timeline.frames
    first, last = detect(frames[:9]), detect(frames[-9:])
    assert (first.background, last.background) == ("sand", "night")
    assert (first.shape, last.shape) == ("square", "square")


@pytest.mark.parametrize("transition", ["[cut]", "[cut gap 8f]"])
def test_a_cut_changes_the_scene_at_once(films: Any, transition: str) -> None:
    timeline, frames = films[transition]
    way = way_to_night(frames)
    seam = timeline.picture_range(0, timeline.beats[1].start)[1]
    assert float(way[:seam].max()) < 0.2 and float(way[seam + 1 :].min()) > 0.8
    assert float(way.diff().abs().max()) > 0.5


@pytest.mark.parametrize("transition", ["[blend 8f]", "[route 8f]"])
def test_a_blend_and_a_route_change_it_over_their_frames(films: Any, transition: str) -> None:
    timeline, frames = films[transition]
    way = way_to_night(frames)
    assert bool(((way > 0.2) & (way < 0.8)).any())
    assert float(way.diff().abs().max()) < 0.9 * float(way_to_night(films["[cut]"][1]).diff().abs().max())
    assert timeline.frames == films["[cut]"][0].frames


def test_a_segment_between_shows_a_scene_between(films: Any) -> None:
    timeline, frames = films["[segments 1]"]
    between = timeline.segments[1]
    assert between.mix == 0.5
    assert timeline.latent_frames == films["[cut]"][0].latent_frames + timeline.window - timeline.overlap
    start, stop = timeline.picture_range(timeline.beats[0].stop, timeline.beats[1].start)
    way = way_to_night(frames)
    assert float(way[:9].mean()) < float(way[start:stop].mean()) < float(way[-9:].mean())


def test_a_gap_changes_only_what_comes_after_the_cut(films: Any) -> None:
    (timeline, plain), (_, gapped) = films["[cut]"], films["[cut gap 8f]"]
    seam = timeline.picture_range(0, timeline.beats[1].start)[1]
    assert torch.equal(plain[:seam], gapped[:seam])
    assert not torch.equal(plain[seam:], gapped[seam:])
