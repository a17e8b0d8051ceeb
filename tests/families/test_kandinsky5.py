"""Kandinsky 5: attention calls of the text alone, scaled positions, images in place of the first frames."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from comfy.patcher_extension import WrappersMP

from kvshare_core.attention.rope import rotate
from kvshare_core.config import KVShareConfig
from kvshare_core.families.base import AttentionCall, CallSite, UnexpectedCallError
from kvshare_core.families.kandinsky5 import Kandinsky5Family
from kvshare_core.host.loading.model_info import model_info
from tests.support.family_cases import CASES, model_of
from tests.support.present import present
from tests.support.windows import share, tiny_timeline
from tests.tiny.cross_attention import KANDINSKY5_TEXT_WIDTH
from tests.tiny.models import Sampling

CASE = CASES["kandinsky 5"]
TEXT_LAYERS = 2
LAYERS = 2
GRID = (4, 3, 5)
TOKENS = 60


@pytest.fixture(scope="module")
def model() -> Any:
    return model_of(present(CASE.name).name)


@pytest.fixture
def diffusion_model(model: Any) -> Iterator[Any]:
    """The model's own module, whose settings a test may change."""
    module = model.get_model_object("diffusion_model")
    before = (module.model_dim, module.rope_scale_factor, module.visual_embed_dim)
    yield module
    module.model_dim, module.rope_scale_factor, module.visual_embed_dim = before


def test_its_numbers_are_read_off_the_model(model: Any) -> None:
    _, info = model_info(model)
    assert (info.family, info.blocks, info.heads, info.head_dim) == ("kandinsky5", LAYERS, 2, 64)
    assert (info.patch, info.compression, info.latent_channels) == ((1, 2, 2), (4, 8, 8), 16)
    assert info.compression[0] * (info.native_frames - 1) + 1 == 121


def test_models_for_pictures_are_not_of_the_family(diffusion_model: Any) -> None:
    diffusion_model.visual_embed_dim = 64
    assert Kandinsky5Family().describe(diffusion_model, 16) is None


@pytest.mark.parametrize("text_tokens", [7, TOKENS], ids=["short text", "as many text tokens as video tokens"])
def test_every_call_is_checked_by_its_own_shape(diffusion_model: Any, text_tokens: int) -> None:
    def classify(number: int, query_tokens: int, key_tokens: int) -> CallSite:
        call = AttentionCall(*(torch.zeros(1, 2, tokens, 64) for tokens in (query_tokens, key_tokens, key_tokens)))
        return Kandinsky5Family().classify(diffusion_model, number, call, TOKENS, text_tokens)

    for number in range(TEXT_LAYERS):
        assert classify(number, text_tokens, text_tokens) == CallSite(0, "other")
        for query_tokens, key_tokens in ((59, text_tokens), (text_tokens, 59)):
            with pytest.raises(UnexpectedCallError):
                classify(number, query_tokens, key_tokens)
    for block in range(LAYERS):
        number = TEXT_LAYERS + 2 * block
        assert classify(number, TOKENS, TOKENS) == CallSite(block, "self")
        assert classify(number + 1, TOKENS, text_tokens) == CallSite(block, "cross")
        for place, query_tokens, key_tokens in ((0, TOKENS, 59), (0, 59, TOKENS), (1, TOKENS, 59), (1, 59, 7)):
            with pytest.raises(UnexpectedCallError):
                classify(number + place, query_tokens, key_tokens)
    with pytest.raises(UnexpectedCallError):
        classify(TEXT_LAYERS + 2 * LAYERS, TOKENS, TOKENS)


class KeysSeenError(Exception):
    """Ends a forward as soon as the wanted keys have been seen."""


def keys_of_a_forward(diffusion_model: Any, offset: tuple[int, int, int], options: dict[str, float]) -> torch.Tensor:
    """Keys of the first self-attention over the video, by the model itself with positions moved by `offset`.

    `options` are those of the host's node that scales positions; its shifts move them.
    """

    def look(attention: Any, query: Any, key: torch.Tensor, value: Any, *args: Any, **kwargs: Any) -> Any:
        if key.shape[2] == TOKENS:
            seen.append(key.clone())
            raise KeysSeenError
        return attention(query, key, value, *args, **kwargs)

    seen: list[torch.Tensor] = []
    generator = torch.Generator().manual_seed(3)
    latent = torch.randn(1, 33, GRID[0], 2 * GRID[1], 2 * GRID[2], generator=generator)
    text = torch.randn(1, 7, KANDINSKY5_TEXT_WIDTH, generator=generator)
    pooled = torch.randn(1, 768, generator=generator)
    names = ("t", "y", "x")
    shifts = {f"shift_{name}": step * options[f"scale_{name}"] for name, step in zip(names, offset, strict=True)}
    transformer_options = {"optimized_attention_override": look, "rope_options": {**options, **shifts}}
    with torch.inference_mode(), pytest.raises(KeysSeenError):
        diffusion_model(latent, torch.tensor([0.5]), text, pooled, transformer_options=transformer_options)
    return seen[0]


@pytest.mark.parametrize("offset", [(1, 0, 0), (0, 3, 0), (0, 0, 2), (-9, 2, 4)])
def test_rotated_keys_equal_those_of_a_forward_at_the_new_place(
    diffusion_model: Any, offset: tuple[int, int, int]
) -> None:
    options = {"scale_t": 0.75, "scale_y": 0.5, "scale_x": 2.0}
    scheme = Kandinsky5Family().rope_scheme(diffusion_model, options)
    assert scheme is not None and 2 * scheme.pairs == 64
    cached = keys_of_a_forward(diffusion_model, (0, 0, 0), options)
    expected = keys_of_a_forward(diffusion_model, offset, options)
    assert (expected - cached).abs().max() > 0.1
    torch.testing.assert_close(rotate(cached, scheme, torch.tensor(offset)), expected, rtol=0, atol=5e-5)


def test_the_models_own_spread_is_part_of_the_scheme(diffusion_model: Any) -> None:
    """Its positions without options are those with options of the inverse factors."""
    assert diffusion_model.rope_scale_factor == (1.0, 2.0, 2.0)
    own = Kandinsky5Family().rope_scheme(diffusion_model, {})
    assert own == Kandinsky5Family().rope_scheme(diffusion_model, {"scale_y": 0.5, "scale_x": 0.5})
    options = {"rope_options": {"scale_y": 0.5, "scale_x": 0.5}}
    plain, spread = (
        diffusion_model.rope_encode_3d(GRID[0], 2 * GRID[1], 2 * GRID[2], transformer_options=chosen)
        for chosen in ({}, options)
    )
    assert torch.equal(plain, spread)


def test_positions_that_depend_on_the_pictures_size_are_left_alone(diffusion_model: Any) -> None:
    diffusion_model.model_dim = 4096
    assert Kandinsky5Family().rope_scheme(diffusion_model, {}) is None
    assert Kandinsky5Family().rope_scheme(diffusion_model, {"scale_t": 2.0}) is not None


@pytest.mark.parametrize("frames", [1, 4])
def test_pictures_to_start_from_reach_only_the_segments_they_lie_in(model: Any, frames: int) -> None:
    timeline = tiny_timeline(2, overlap=0)
    start = torch.arange(1.0, frames + 1)[None, None, :, None, None].expand(1, 16, -1, 6, 6)
    noise_mask = torch.ones(1, 1, timeline.latent_frames, 6, 6)
    noise_mask[:, :, :frames] = 0
    scale = float(model.get_model_object("latent_format").scale_factor)
    seen: list[tuple[list[float], list[float]]] = []

    def spy(executor: Any, *args: Any, **kwargs: Any) -> Any:
        replaced = kwargs.get("time_dim_replace")
        values = [] if replaced is None else (replaced[0, 0, :, 0, 0] / scale).round().tolist()
        seen.append((values, args[2][0, -1, :, 0, 0].tolist()))
        return executor(*args, **kwargs)

    patched, _ = share(model, timeline, KVShareConfig(share_background=True), subject="")
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "spy", spy)
    extra = {"time_dim_replace": start, "concat_mask": noise_mask}
    positive = [[text, {**rest, **extra}] for text, rest in CASE.positive(timeline)]
    negative = [[text, {**rest, **extra}] for text, rest in CASE.negative(timeline)]
    output = Sampling().run(patched, positive, negative, CASE.shape(timeline))
    assert torch.isfinite(output).all()
    expected = {1: [([1.0], [1.0, 0.0, 0.0]), ([], [0.0] * 3)], 4: [([1.0, 2.0, 3.0], [1.0] * 3), ([4.0], [1, 0, 0])]}
    assert seen[:2] == expected[frames]
