"""The map of one chosen point is the row of the model's own attention that belongs to it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from kvshare_core.config import KVShareConfig
from kvshare_core.host.patch import apply
from kvshare_core.host.plan import make_plan
from kvshare_core.plan import LookPoint
from kvshare_core.record import RecordedPoint
from tests.test_hunyuan_contracts import positive
from tests.tiny_models import Sampling, joint_text, one_prompt, tiny_hunyuan, tiny_wan
from tests.windows import beat_prompts, latent_shape, tiny_timeline


@pytest.fixture(scope="module", params=["wan", "hunyuan"])
def family(request: pytest.FixtureRequest) -> Iterator[tuple[str, Any]]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield request.param, tiny_wan() if request.param == "wan" else tiny_hunyuan()
    torch.set_num_threads(before)


def look(family: tuple[str, Any], point: LookPoint, spy: Any = None, batch: int = 1) -> RecordedPoint | None:
    """One step over two segments without sharing, with `spy` behind the pack's own attention."""
    name, model = family
    timeline = tiny_timeline(2, overlap=0)
    model = model.clone()
    if spy is not None:
        model.model_options["transformer_options"]["optimized_attention_override"] = spy
    plan = replace(make_plan(timeline, KVShareConfig(mode="off"), "", None), look=point)
    patched, record = apply(model, plan)
    tensor, extra = joint_text(99, 7)
    conditioning = positive(timeline) if name == "hunyuan" else beat_prompts(timeline)
    negative = [[tensor, dict(extra)]] if name == "hunyuan" else one_prompt()
    Sampling(steps=1).run(patched, conditioning, negative, latent_shape(timeline, batch))
    return record.latest_point()


def test_the_map_is_the_row_of_the_attention(family: tuple[str, Any]) -> None:
    """Picture 13 is latent frame 4, the second of segment 1; (0.5, 0.9) is the token in row 2, column 1 of 3 x 3."""
    maps: list[torch.Tensor] = []
    blocks = getattr(family[1].model.diffusion_model, "double_blocks", None)
    text_first = blocks is not None and not getattr(blocks[0], "flipped_img_txt", False)

    def spy(function: Any, *args: Any, **kwargs: Any) -> Any:
        query, key = args[:2]
        options = kwargs["transformer_options"]
        if not kwargs.get("skip_reshape"):
            heads = kwargs["heads"]
            query, key = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key))
        tokens = query.shape[2]
        if options["context_window"].segment.index == 1 and tokens == key.shape[2] and tokens >= 27:
            start = tokens - 27 if text_first else 0
            row = options["cond_or_uncond"].index(0)
            point = query[row, :, start + 1 * 9 + 2 * 3 + 1].double()
            scores = key[row, :, start : start + 27].double() @ point[..., None] * query.shape[-1] ** -0.5
            maps.append(scores.squeeze(-1).softmax(-1).mean(0))
        return function(*args, **kwargs)

    found = look(family, LookPoint(0.5, 0.9, 13), spy)
    assert found is not None
    expected = torch.stack(maps).mean(0).reshape(3, 3, 3)
    torch.testing.assert_close(found.heat[0, 3:].double(), expected / expected.max(), rtol=0, atol=1e-5)
    assert (found.heat[0, :3] == 0).all()


def test_a_point_outside_the_video_or_no_point_records_nothing(family: tuple[str, Any]) -> None:
    assert look(family, LookPoint(0.5, 0.5, 999)) is None


def test_every_latent_of_a_batch_has_its_map(family: tuple[str, Any]) -> None:
    found = look(family, LookPoint(0.1, 0.1, 0), batch=2)
    assert found is not None and found.heat.shape == (2, 6, 3, 3)
    assert not torch.equal(found.heat[0], found.heat[1])
