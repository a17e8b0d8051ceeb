"""The part of the noise schedule that shares, under a schedule that a node has put on the model."""

from typing import Any

import torch
from comfy_extras.nodes_model_advanced import ModelSamplingSD3

from kvshare_core.config import KVShareConfig
from tests.support.windows import beat_prompts, latent_shape, share, tiny_timeline
from tests.tiny.models import Sampling, one_prompt, tiny_wan

CONFIG = KVShareConfig(mode="extend", strength=1.0, end_percent=0.5)


def film(model: Any) -> torch.Tensor:
    timeline = tiny_timeline(2)
    patched = share(model, timeline, CONFIG, subject="")[0]
    return Sampling(steps=8).run(patched, beat_prompts(timeline), one_prompt(), latent_shape(timeline))


def test_a_first_run_shares_in_the_steps_of_the_models_own_shift() -> None:
    """Another model sampled in between changes nothing either."""
    plain = tiny_wan()
    (shifted,) = ModelSamplingSD3().patch(plain, shift=2.0)
    first, second = film(shifted), film(shifted)
    assert torch.equal(first, second)
    film(plain)
    assert torch.equal(film(shifted), first)
