"""Cosmos 1: its order of attention calls, its compression, and learned positions."""

from typing import Any

import pytest
import torch

from kvshare_core.config import KVShareConfig
from kvshare_core.families.base import AttentionCall, CallSite, UnexpectedCallError
from kvshare_core.families.cosmos import CosmosFamily
from kvshare_core.host.loading.model_info import model_info
from tests.support.windows import share, tiny_timeline
from tests.tiny.cross_attention import COSMOS_CHANNELS, tiny_cosmos

LAYERS = 2
TOKENS = 27


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_cosmos(LAYERS)


def test_its_numbers_are_read_off_the_model(model: Any) -> None:
    _, info = model_info(model)
    assert (info.family, info.blocks, info.heads, info.head_dim) == ("cosmos", LAYERS, 4, 32)
    assert (info.patch, info.compression, info.latent_channels) == ((1, 2, 2), (8, 8, 8), COSMOS_CHANNELS)
    assert info.compression[0] * (info.native_frames - 1) + 1 == 121


def test_every_call_is_checked_by_its_own_shape(model: Any) -> None:
    diffusion_model = model.get_model_object("diffusion_model")

    def classify(number: int, query_tokens: int, key_tokens: int) -> CallSite:
        query, key = torch.zeros(1, 4, query_tokens, 32), torch.zeros(1, 4, key_tokens, 32)
        return CosmosFamily().classify(diffusion_model, number, AttentionCall(query, key, key), TOKENS, 6)

    for block in range(LAYERS):
        assert classify(2 * block, TOKENS, TOKENS) == CallSite(block, "self")
        assert classify(2 * block + 1, TOKENS, 6) == CallSite(block, "cross")
        for place, query_tokens, key_tokens in ((0, TOKENS, 6), (1, TOKENS, TOKENS), (0, 26, TOKENS), (1, 26, 6)):
            with pytest.raises(UnexpectedCallError):
                classify(2 * block + place, query_tokens, key_tokens)
    with pytest.raises(UnexpectedCallError):
        classify(2 * LAYERS, TOKENS, TOKENS)


def test_keys_cannot_be_moved(model: Any) -> None:
    for config in (KVShareConfig(position="matched"), KVShareConfig(position="gap", position_gap=3)):
        with pytest.raises(ValueError, match="choose centred, same or frame"):
            share(model, tiny_timeline(2), config)
