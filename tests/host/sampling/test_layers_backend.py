"""Layers that name an attention function of their own, as newer hosts let a checkpoint do, keep it behind the pack's.

No host with such layers runs here: attributes of the host's name stand in for them.
"""

from types import SimpleNamespace
from typing import Any

import comfy.ldm.modules.attention as host_attention
import pytest
import torch

from kvshare_core.config import KVShareConfig
from kvshare_core.host.sampling.attention_override import layers_backend
from tests.support.family_cases import CASES
from tests.support.family_contracts import sample
from tests.support.windows import share, tiny_timeline
from tests.tiny.models import tiny_wan

CASE = CASES["wan t2v"]
CONFIG = KVShareConfig(layer_idx=(1,))


class OwnBackend:
    """The host's ordinary attention, counted by number of keys."""

    def __init__(self) -> None:
        self.keys: list[int] = []

    def __call__(self, query: torch.Tensor, key: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.keys.append(key.shape[2 if kwargs.get("skip_reshape") else 1])
        return host_attention.attention_pytorch(query, key, *args, **kwargs)


@pytest.fixture
def newer_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_attention, "ComfyAttention", SimpleNamespace, raising=False)


def naming(*functions: Any) -> Any:
    """A model of three blocks whose self-attention and cross-attention name these functions, one for each block."""
    model = tiny_wan()
    for block, function in zip(model.get_model_object("diffusion_model").blocks, functions, strict=True):
        for layer in (block.self_attn, block.cross_attn):
            layer.comfy_attention = SimpleNamespace(function=function)
    return model


def test_calls_that_are_passed_on_reach_the_layers_own_backend(newer_host: None) -> None:
    own, timeline = OwnBackend(), tiny_timeline(2)
    found = sample(CASE, share(naming(own, own, own), timeline, CONFIG, subject="")[0], timeline, steps=1)
    # Two segments of three blocks, each with 27 video tokens and 6 of text; one attends to another 27.
    assert sorted(own.keys) == [6] * 6 + [27] * 5 + [54]
    torch.testing.assert_close(
        found, sample(CASE, share(tiny_wan(), timeline, CONFIG, subject="")[0], timeline, steps=1), rtol=1e-4, atol=1e-5
    )


def test_an_override_of_the_user_comes_first(newer_host: None) -> None:
    own, timeline, calls = OwnBackend(), tiny_timeline(2), []
    model = naming(own, own, own)

    def override(function: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return function(*args, **kwargs)

    model.model_options["transformer_options"]["optimized_attention_override"] = override
    sample(CASE, share(model, timeline, CONFIG, subject="")[0], timeline, steps=1)
    assert len(calls) == 12 and not own.keys


def test_layers_that_differ_are_left_to_the_host(newer_host: None) -> None:
    one, other = OwnBackend(), OwnBackend()
    for functions in ((one, one, other), (one, one, None), (None, None, None)):
        assert layers_backend(naming(*functions).get_model_object("diffusion_model")) is None
    assert layers_backend(naming(one, one, one).get_model_object("diffusion_model")) is one


def test_hosts_without_such_layers_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(host_attention, "ComfyAttention", raising=False)
    own = OwnBackend()
    assert layers_backend(naming(own, own, own).get_model_object("diffusion_model")) is None
