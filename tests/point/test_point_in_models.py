"""Attention of a chosen point in all embedded models, through the nodes."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from kv_share.nodes.attention_mask_preview import AttentionMaskPreview
from kvshare_core.embedded.model import CROSS_ATTENTION, IMAGE_TO_VIDEO, MODEL_FILES, VIT3D, load_embedded
from kvshare_core.host.files.viewer import PREFIX
from kvshare_core.timeline.timeline import Timeline
from tests.support.node_calls import run_node, segmenter_inputs
from tests.support.present import known
from tests.tiny.models import Sampling

FILM = "a red circle moving right over night\n{how}a blue square moving down over grass"


@pytest.fixture(scope="module", params=MODEL_FILES)
def embedded(request: pytest.FixtureRequest) -> tuple[bool, Any]:
    return request.param not in (CROSS_ATTENTION, IMAGE_TO_VIDEO, VIT3D), load_embedded(known(request.param))


def point_told(embedded: Any, frame_of: Callable[[Timeline], int], how: str = "") -> dict[str, Any]:
    """What the viewer is told after one step of a point in the middle of a latent frame's first picture."""
    inputs = {**segmenter_inputs(embedded.model, embedded.clip), "prompts": FILM.format(how=how)}
    timeline, positive, negative, latent, _ = run_node("LongVideoSegmenter", **inputs)
    look_at = f"0.5, 0.5, {timeline.picture_range(frame_of(timeline), timeline.latent_frames)[0]}"
    patched, record = run_node(
        "MaskGuidedKVShare", model=embedded.model, timeline=timeline, subject="", look_at=look_at
    )
    Sampling(1).run(patched, positive, negative, tuple(latent["samples"].shape))
    images = torch.rand(timeline.frames, 48, 48, 3)
    (told,) = AttentionMaskPreview.execute(record, images, 0.5, show="look_at").ui[PREFIX]
    return json.loads(json.dumps(told, allow_nan=False))["point"]


def test_a_point_has_shares_of_frames_and_of_its_prompts_words(embedded: tuple[bool, Any]) -> None:
    joint, model = embedded
    told = point_told(model, lambda timeline: 1)
    assert sum(told["frames"]) == pytest.approx(1, abs=1e-4) and min(told["frames"]) >= 0
    (text,) = told["texts"]
    assert text["words"] == "a red circle moving right over night".split() and text["beat"] == 0
    assert len(text["looks"]) == 7 and min(text["looks"]) > 0
    if joint:
        assert 0 < sum(text["looks"]) < 1
        assert [sum(row) for row in text["between"]] == pytest.approx([1] * 7, abs=1e-4)
    else:
        assert sum(text["looks"]) == pytest.approx(1, abs=1e-4) and text["between"] is None


def within_transition(timeline: Timeline) -> int:
    (segment,) = (one for one in timeline.segments if one.next_beat is not None)
    return (segment.shown_start + segment.shown_stop) // 2


def within_route(timeline: Timeline) -> int:
    """A latent frame that looks at two texts."""
    segment = next(one for one in timeline.segments if one.texts)
    place = next(place for place, weight in enumerate(segment.texts[0].weights) if 0 < weight < 1)
    return timeline.frames_of(segment)[place]


def test_a_point_in_a_transition_has_the_words_of_both_prompts(embedded: tuple[bool, Any]) -> None:
    _, model = embedded
    told = point_told(model, within_transition, "[segments 1]\n")
    mixed = [text for text in told["texts"] if text["weight"] == 0.5]
    assert [text["beat"] for text in mixed] == [0, 1]
    assert mixed[1]["words"] == "a blue square moving down over grass".split()


def test_a_routed_point_has_the_texts_that_its_frame_weighs() -> None:
    told = point_told(load_embedded(CROSS_ATTENTION), within_route, "[route 1s]\n")
    assert told["texts"]
    for segment in {text["segment"] for text in told["texts"]}:
        own = [text for text in told["texts"] if text["segment"] == segment]
        assert sum(text["weight"] for text in own) == pytest.approx(1)
        assert sum(sum(text["looks"]) for text in own) == pytest.approx(1, abs=1e-4)
    assert any(0 < text["weight"] < 1 for text in told["texts"])
