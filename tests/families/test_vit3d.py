"""ViT3D: its numbers, its order of attention calls, and frames as rows."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from kvshare_core.config import KVShareConfig
from kvshare_core.families.base import AttentionCall, BlockName, CallSite, UnexpectedCallError
from kvshare_core.families.vit3d import ViT3DFamily
from kvshare_core.host.loading.model_info import model_info
from tests.support.windows import share, tiny_timeline
from tests.tiny.vit3d import TINY, tiny_vit3d

GRID = (3, 4, 4)
"""Patches of three frames."""


@pytest.fixture(scope="module", params=[True, False], ids=["patches", "global"])
def model(request: pytest.FixtureRequest) -> Any:
    return tiny_vit3d(replace(TINY, patch_features=request.param))


def test_its_numbers_are_read_off_the_model(model: Any) -> None:
    _, info = model_info(model)
    assert (info.family, info.blocks, info.heads, info.head_dim) == ("vit3d", 4, 2, 8)
    assert (info.patch, info.compression, info.latent_channels) == ((1, 4, 4), (1, 1, 1), 3)
    assert info.native_frames == 3 and info.frames_as_rows and info.grid(3, 16, 16) == GRID


def classify(model: Any, number: int, queries: int, keys: int) -> CallSite:
    query, key = torch.zeros(1, 2, queries, 8), torch.zeros(1, 2, keys, 8)
    call = AttentionCall(query, key, key, grid=GRID)
    return ViT3DFamily().classify(model.get_model_object("diffusion_model"), number, call, 48, 6)


def test_every_call_is_what_the_model_makes_and_is_checked_by_its_shape(model: Any) -> None:
    patches = bool(model.get_model_object("diffusion_model").patch_features)
    read = (GRID, 48) if patches else ((3, 1, 1), 3)
    for mixer in (0, 1):
        first = 4 * mixer
        for layer in (0, 1):
            site = CallSite(2 * mixer + layer, "self", 1, grid=GRID, frames_as_rows=True)
            assert classify(model, first + layer, 17, 17) == site
        assert classify(model, first + 2, 3, 3).kind == "other"
        assert classify(model, first + 3, read[1], 6) == CallSite(2 * mixer + 1, "cross", grid=read[0])
        for place, queries, keys in ((0, 16, 17), (0, 17, 6), (2, 3, 6), (2, 17, 17), (3, 17, 6), (3, read[1], 7)):
            with pytest.raises(UnexpectedCallError):
                classify(model, first + place, queries, keys)
    with pytest.raises(UnexpectedCallError):
        classify(model, 8, 17, 17)


def test_blocks_and_mixers_are_told_by_the_model_itself(model: Any) -> None:
    family, diffusion_model = ViT3DFamily(), model.get_model_object("diffusion_model")
    call = AttentionCall(*[torch.zeros(1, 2, 1, 8)] * 3)
    layers = [family.calls_of_block(diffusion_model, call, BlockName(block, "spatial")) for block in range(5)]
    assert [list(numbers) for numbers in layers] == [[0], [1], [4], [5], []]
    mixers = [family.calls_of_block(diffusion_model, call, BlockName(mixer, "mixer")) for mixer in range(3)]
    assert [list(numbers) for numbers in mixers] == [[2, 3], [6, 7], []]


def test_a_model_without_text_has_one_call_less_in_each_mixer() -> None:
    silent = tiny_vit3d(replace(TINY, text_dim=None))
    assert classify(silent, 3, 17, 17) == CallSite(2, "self", 1, grid=GRID, frames_as_rows=True)


def test_keys_cannot_be_moved(model: Any) -> None:
    for config in (KVShareConfig(position="matched"), KVShareConfig(position="gap", position_gap=3)):
        with pytest.raises(ValueError, match="choose centred, same or frame"):
            share(model, tiny_timeline(2), config)
