"""Cosmos Predict2: its order of attention calls, and positions scaled differently along each axis."""

from typing import Any

import pytest
import torch
from comfy.patcher_extension import WrappersMP

from kvshare_core.attention.rope import grid_positions, rotate
from kvshare_core.config import KVShareConfig
from kvshare_core.families.base import AttentionCall, CallSite, UnexpectedCallError
from kvshare_core.families.cosmos_predict2 import CosmosPredict2Family
from kvshare_core.host.loading.model_info import model_info
from tests.support.family_cases import CASES
from tests.support.windows import share, tiny_timeline
from tests.tiny.cross_attention import COSMOS_CHANNELS, PREDICT2_TEXT_WIDTH, tiny_predict2
from tests.tiny.models import Sampling

CASE = CASES["cosmos predict2"]
LAYERS = 2
GRID = (4, 3, 5)
TOKENS = 60


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_predict2(LAYERS)


def test_its_numbers_are_read_off_the_model(model: Any) -> None:
    _, info = model_info(model)
    assert (info.family, info.blocks, info.heads, info.head_dim) == ("cosmos_predict2", LAYERS, 16, 16)
    assert (info.patch, info.compression, info.latent_channels) == ((1, 2, 2), (4, 8, 8), COSMOS_CHANNELS)
    assert info.grid(4, 5, 10) == GRID
    assert info.compression[0] * (info.native_frames - 1) + 1 == 93


def test_every_call_is_checked_by_its_own_shape(model: Any) -> None:
    diffusion_model = model.get_model_object("diffusion_model")

    def classify(number: int, query_tokens: int, key_tokens: int) -> CallSite:
        query, key = torch.zeros(1, 16, query_tokens, 16), torch.zeros(1, 16, key_tokens, 16)
        return CosmosPredict2Family().classify(diffusion_model, number, AttentionCall(query, key, key), TOKENS, 7)

    for block in range(LAYERS):
        assert classify(2 * block, TOKENS, TOKENS) == CallSite(block, "self")
        assert classify(2 * block + 1, TOKENS, 7) == CallSite(block, "cross")
        for place, query_tokens, key_tokens in ((0, TOKENS, 7), (1, TOKENS, TOKENS), (0, 59, TOKENS), (1, 59, 7)):
            with pytest.raises(UnexpectedCallError):
                classify(2 * block + place, query_tokens, key_tokens)
    with pytest.raises(UnexpectedCallError):
        classify(2 * LAYERS, TOKENS, TOKENS)


class KeysSeenError(Exception):
    """Ends a forward as soon as the wanted keys have been seen."""


def keys_of_a_forward(model: Any, offset: tuple[int, int, int]) -> torch.Tensor:
    """Keys of the first self-attention, computed by the model with all positions moved by `offset`."""
    diffusion_model = model.get_model_object("diffusion_model")
    embedder = diffusion_model.pos_embedder
    larger = tuple(size + step for size, step in zip(GRID, offset, strict=True))
    positions = grid_positions(torch.arange(TOKENS), GRID) + torch.tensor(offset)
    moved = (positions * torch.tensor([larger[1] * larger[2], larger[2], 1])).sum(-1)
    original = embedder.generate_embeddings
    seen: list[torch.Tensor] = []

    def embeddings(shape: torch.Size, **options: Any) -> torch.Tensor:
        assert tuple(shape[1:4]) == GRID
        return original(torch.Size((shape[0], *larger, shape[4])), **options)[moved]

    def look(attention: Any, query: Any, key: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        assert kwargs["skip_reshape"]
        seen.append(key.clone())
        raise KeysSeenError

    generator = torch.Generator().manual_seed(3)
    latent = torch.randn(1, COSMOS_CHANNELS + 1, GRID[0], 2 * GRID[1], 2 * GRID[2], generator=generator)
    text = torch.randn(1, 7, PREDICT2_TEXT_WIDTH, generator=generator)
    embedder.generate_embeddings = embeddings
    try:
        with torch.inference_mode(), pytest.raises(KeysSeenError):
            options = {"optimized_attention_override": look}
            diffusion_model(latent, torch.tensor([0.5]), text, transformer_options=options)
    finally:
        del embedder.generate_embeddings
    return seen[0]


@pytest.mark.parametrize("offset", [(1, 0, 0), (0, 3, 0), (0, 0, 2), (9, 2, 4)])
def test_rotated_keys_equal_those_of_a_forward_at_the_new_place(model: Any, offset: tuple[int, int, int]) -> None:
    scheme = CosmosPredict2Family().rope_scheme(model.get_model_object("diffusion_model"), {})
    assert scheme is not None and 2 * scheme.pairs == 16
    assert scheme.frequencies[0] != scheme.frequencies[1] and scheme.layout == "halves"
    cached, expected = keys_of_a_forward(model, (0, 0, 0)), keys_of_a_forward(model, offset)
    assert (expected - cached).abs().max() > 0.1
    torch.testing.assert_close(rotate(cached, scheme, torch.tensor(offset)), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["enable_fps_modulation", "extra_per_block_abs_pos_emb"])
def test_positions_that_no_rotation_moves_are_left_alone(name: str) -> None:
    diffusion_model = tiny_predict2(1).get_model_object("diffusion_model")
    setattr(diffusion_model.pos_embedder if name.startswith("enable") else diffusion_model, name, True)
    assert CosmosPredict2Family().rope_scheme(diffusion_model, {}) is None


def test_keys_moved_across_a_gap_change_the_video(model: Any) -> None:
    timeline = tiny_timeline(2)
    same, moved = (
        Sampling().run(share(model, timeline, config)[0], CASE.positive(timeline), CASE.negative(timeline), shape)
        for shape in [CASE.shape(timeline)]
        for config in (
            KVShareConfig(share_background=True),
            KVShareConfig(share_background=True, position="gap", position_gap=5),
        )
    )
    assert torch.isfinite(moved).all() and not torch.equal(same, moved)


def test_a_start_frame_belongs_to_the_first_segment(model: Any) -> None:
    """Its noise mask reaches the model twice: as a channel of the latent and as the noise left in every frame."""
    timeline = tiny_timeline(2, overlap=0)
    noise_mask = torch.ones(1, 1, timeline.latent_frames, 6, 6)
    noise_mask[:, :, 0] = 0
    seen: list[tuple[list[float], list[float]]] = []

    def spy(executor: Any, *args: Any, **kwargs: Any) -> Any:
        channel, noise = args[2][0, -1, :, 0, 0].tolist(), kwargs["denoise_mask"][0, 0, :, 0, 0].tolist()
        seen.append((channel, noise))
        return executor(*args, **kwargs)

    patched, _ = share(model, timeline, KVShareConfig(share_background=True), subject="")
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "spy", spy)
    positive, negative = CASE.positive(timeline), CASE.negative(timeline)
    output = Sampling().run(patched, positive, negative, CASE.shape(timeline), noise_mask=noise_mask)
    assert torch.isfinite(output).all()
    assert seen[:2] == [([1.0, 0.0, 0.0], [0.0, 1.0, 1.0]), ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0])]
