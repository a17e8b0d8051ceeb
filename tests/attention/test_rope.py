"""Re-rotated keys equal the keys the host computes at the new position; tokens are matched by similarity."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

import comfy.ops
import comfy.sd
import pytest
import torch
from comfy.ldm.flux.math import apply_rope1
from comfy.ldm.hunyuan_video.model import HunyuanVideo, HunyuanVideoParams
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from kvshare_core import devices
from kvshare_core.attention import rope
from kvshare_core.attention.rope import (
    RopeScheme,
    centred_offsets,
    embed_nd_scheme,
    grid_positions,
    match_tokens,
    matched_offsets,
    rotate,
)
from tests.oracles.rope_reference import rotated_reference
from tests.support.pretend_cuda import CUDA, pretending
from tests.tiny.models import CHANNELS, random_text, seeded_state_dict, tiny_wan

GRID = (4, 3, 5)
TOKENS = 60
HEAD_DIM = 128
ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 2e-2}


def random_keys(seed: int, dtype: torch.dtype = torch.float32, shape: tuple[int, ...] | None = None) -> torch.Tensor:
    """Seeded normal keys [rows, heads, tokens, head_dim]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape or (2, 2, TOKENS, HEAD_DIM), generator=generator, dtype=torch.float64).to(dtype)


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal within the rounding of `found`'s dtype, relative to the largest expected value."""
    assert found.shape == expected.shape
    error = (found.double() - expected.double()).abs().max() / expected.double().abs().max()
    assert error <= ROUNDING[found.dtype], f"relative error {error:.2e} in {found.dtype}"


@dataclass(frozen=True)
class HostFamily:
    """One model family's own way from a latent to rotated keys.

    grid_embedding: what the model's code gives for the token grid (frames, height, width), moved by an offset.
    video_keys: keys of the first attention to the video [rows, heads, tokens, head_dim], computed by a whole forward
        of the model with all its positions moved by an offset.
    """

    embedder: Any
    head_axis: int
    grid_embedding: Callable[[torch.Tensor], torch.Tensor]
    video_keys: Callable[[torch.Tensor], torch.Tensor]

    @property
    def scheme(self) -> RopeScheme:
        return embed_nd_scheme(self.embedder.axes_dim, self.embedder.theta)

    def embedding(self, position: torch.Tensor) -> torch.Tensor:
        """The embedder's rotations at positions [tokens, 3], in the layout that `rotated` takes."""
        return self.embedder(position.float()[None]).movedim(1, self.head_axis)

    def rotated(self, raw: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """The host's rotation of raw keys [rows, heads, tokens, head_dim]."""
        return apply_rope1(raw.movedim(1, self.head_axis).contiguous(), embedding).movedim(self.head_axis, 1)


class KeysSeenError(Exception):
    """Ends a forward as soon as the wanted keys have been seen."""


def seen_keys(tokens: int, forward: Callable[[dict[str, Any]], Any]) -> tuple[torch.Tensor, int]:
    """Key and head count of the first attention call in `forward` that has at least `tokens` keys."""
    seen: list[tuple[torch.Tensor, int]] = []

    def look(attention: Any, query: Any, key: torch.Tensor, value: Any, heads: int, *args: Any, **kwargs: Any) -> Any:
        if key.shape[-2] >= tokens:
            seen.append((key.clone(), heads))
            raise KeysSeenError
        return attention(query, key, value, heads, *args, **kwargs)

    with torch.inference_mode(), pytest.raises(KeysSeenError):
        forward({"optimized_attention_override": look})
    return seen[0]


def wan_family() -> HostFamily:
    """Wan, moved by the host's own `rope_options`."""
    model = tiny_wan(layers=1).model.diffusion_model
    assert model.patch_size == (1, 2, 2)
    latent = torch.randn(1, CHANNELS, GRID[0], 2 * GRID[1], 2 * GRID[2], generator=torch.Generator().manual_seed(3))

    def options(offset: torch.Tensor) -> dict[str, Any]:
        shift = dict(zip(("shift_t", "shift_y", "shift_x"), offset.tolist(), strict=True))
        return {"rope_options": shift}

    def grid_embedding(offset: torch.Tensor) -> torch.Tensor:
        return model.rope_encode(*latent.shape[2:], dtype=torch.float32, transformer_options=options(offset))

    def video_keys(offset: torch.Tensor) -> torch.Tensor:
        text = random_text(1)
        key, heads = seen_keys(
            TOKENS,
            lambda found: model(latent, torch.tensor([500.0]), text, transformer_options={**options(offset), **found}),
        )
        return key.unflatten(-1, (heads, -1)).transpose(1, 2)

    return HostFamily(model.rope_embedder, 2, grid_embedding, video_keys)


def hunyuan_family() -> HostFamily:
    """HunyuanVideo as the host's loader builds it, moved by other `img_ids`: it takes no rope options."""
    newer = any(field.name == "meanflow_sum" for field in fields(HunyuanVideoParams))
    module = HunyuanVideo(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        vec_in_dim=768,
        context_in_dim=32,
        hidden_size=HEAD_DIM,
        mlp_ratio=4.0,
        num_heads=1,
        depth=1,
        depth_single_blocks=0,
        axes_dim=[16, 56, 56],
        theta=256,
        patch_size=[1, 2, 2],
        qkv_bias=True,
        guidance_embed=False,
        byt5=False,
        meanflow=False,
        use_cond_type_embedding=False,
        vision_in_dim=None,
        **({"meanflow_sum": False} if newer else {}),
        dtype=torch.float32,
        device="cpu",
        operations=comfy.ops.disable_weight_init,
    )
    model = comfy.sd.load_diffusion_model_state_dict(seeded_state_dict(module)).model.diffusion_model
    generator = torch.Generator().manual_seed(3)
    latent = torch.randn(1, CHANNELS, GRID[0], 2 * GRID[1], 2 * GRID[2], generator=generator)
    text, pooled = torch.randn(1, 7, 32, generator=generator), torch.randn(1, 768, generator=generator)

    def positions(offset: torch.Tensor) -> torch.Tensor:
        return model.img_ids(latent) + offset

    def video_keys(offset: torch.Tensor) -> torch.Tensor:
        text_ids = torch.zeros(1, text.shape[1], 3)
        sigma = torch.tensor([0.5])
        key, _ = seen_keys(
            TOKENS,
            lambda found: model.forward_orig(
                latent, positions(offset), text, text_ids, None, sigma, pooled, transformer_options=found
            ),
        )
        # The oldest host puts the text last.
        video_first = getattr(model.double_blocks[0], "flipped_img_txt", False)
        return key[:, :, :TOKENS] if video_first else key[:, :, -TOKENS:]

    return HostFamily(model.pe_embedder, 1, lambda offset: model.pe_embedder(positions(offset)), video_keys)


@pytest.fixture(scope="module", params=[wan_family, hunyuan_family], ids=["wan", "hunyuan_video"])
def family(request: pytest.FixtureRequest) -> HostFamily:
    return request.param()


# Re-rotation equals recomputing.


def test_schemes_are_read_off_the_hosts_models(family: HostFamily) -> None:
    sizes = [2 * len(axis) for axis in family.scheme.frequencies]
    assert (sizes, family.embedder.theta) in [([44, 42, 42], 10000.0), ([16, 56, 56], 256)]
    assert 2 * family.scheme.pairs == HEAD_DIM


def test_grid_positions_are_the_models_own(family: HostFamily) -> None:
    positions = grid_positions(torch.arange(TOKENS), GRID)
    assert positions.dtype == torch.int64
    torch.testing.assert_close(family.embedding(positions), family.grid_embedding(torch.zeros(3)), rtol=0, atol=0)


OFFSETS = {
    "zero": torch.zeros(3),
    "one frame": torch.tensor([1, 0, 0]),
    "a gap before the clip": torch.tensor([-(GRID[0] + 5), 0, 0]),
    "all axes": torch.tensor([7, -3, 40]),
    "between positions": torch.tensor([0.25, -1.5, 2.75]),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("offset", OFFSETS.values(), ids=OFFSETS.keys())
def test_rotated_keys_equal_the_hosts_at_the_new_place(
    family: HostFamily, offset: torch.Tensor, dtype: torch.dtype
) -> None:
    raw = random_keys(1, dtype)
    cached = family.rotated(raw, family.grid_embedding(torch.zeros(3)))
    found = rotate(cached, family.scheme, offset)
    assert found.dtype == dtype
    assert_close(found, family.rotated(raw, family.grid_embedding(offset)))


def test_every_token_can_have_an_offset_of_its_own(family: HostFamily) -> None:
    raw = random_keys(2)
    positions = grid_positions(torch.arange(TOKENS), GRID)
    offset = torch.randint(-30, 30, (TOKENS, 3), generator=torch.Generator().manual_seed(4))
    cached = family.rotated(raw, family.embedding(positions))
    expected = family.rotated(raw, family.embedding(positions + offset))
    assert_close(rotate(cached, family.scheme, offset), expected)


def test_rotated_keys_equal_those_of_a_forward_at_the_new_place(family: HostFamily) -> None:
    offset = torch.tensor([9, -2, 3])
    cached = family.video_keys(torch.zeros(3))
    expected = family.video_keys(offset)
    assert (expected - cached).abs().max() > 0.1
    assert_close(rotate(cached, family.scheme, offset), expected)


def test_spread_positions_are_part_of_the_scheme() -> None:
    model = tiny_wan(layers=1).model.diffusion_model
    options = {"scale_t": 0.5, "scale_y": 1.25, "scale_x": 2.0}

    def embedding(grid: tuple[int, int, int]) -> torch.Tensor:
        frames, height, width = grid
        arguments = {"dtype": torch.float32, "transformer_options": {"rope_options": options}}
        return model.rope_encode(frames, 2 * height, 2 * width, **arguments)

    scheme = embed_nd_scheme(model.rope_embedder.axes_dim, model.rope_embedder.theta, tuple(options.values()))
    larger = (7, 5, 9)
    positions = grid_positions(torch.arange(TOKENS), GRID)
    offset = torch.tensor([3, 2, 4])
    moved = ((positions + offset) * torch.tensor([larger[1] * larger[2], larger[2], 1])).sum(-1)
    raw = random_keys(6).transpose(1, 2).contiguous()
    cached = apply_rope1(raw, embedding(GRID)).transpose(1, 2)
    expected = apply_rope1(raw, embedding(larger)[:, moved]).transpose(1, 2)
    assert_close(rotate(cached, scheme, offset), expected)


# Properties of rotations.


@dataclass(frozen=True)
class Example:
    """Raw keys, a scheme that rotates all channels or leaves some, and seeded positions."""

    scheme: RopeScheme
    raw: torch.Tensor
    generator: torch.Generator

    def steps(self, per_token: bool) -> torch.Tensor:
        """Random whole and fractional steps, [tokens, 3] or [3]."""
        shape = (self.raw.shape[2], 3) if per_token else (3,)
        return torch.randint(-400, 400, shape, generator=self.generator) / 4


@st.composite
def examples(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = (torch.float64, torch.float32)) -> Example:
    axes = [2 * draw(st.integers(0, 4)) for _ in range(3)]
    base = embed_nd_scheme(axes, draw(st.sampled_from([256, 10000.0])))
    layout: Literal["interleaved", "halves"] = draw(st.sampled_from(["interleaved", "halves"]))
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 6)))
    head_dim = max(1, sum(axes)) + draw(st.integers(0, 3))
    seed = draw(st.integers(0, 10_000))
    raw = random_keys(seed, draw(st.sampled_from(dtypes)), (*shape, head_dim))
    return Example(RopeScheme(base.frequencies, layout), raw, torch.Generator().manual_seed(seed + 1))


@given(examples(), st.booleans())
@settings(max_examples=100)
def test_rotation_of_cached_keys_equals_a_float64_reference(example: Example, per_token: bool) -> None:
    position = example.steps(True)
    offset = example.steps(per_token)
    cached = rotated_reference(example.raw.double(), example.scheme, position)
    expected = rotated_reference(example.raw.double(), example.scheme, position + offset)
    found = rotate(cached.to(example.raw.dtype), example.scheme, offset)
    assert found.dtype == example.raw.dtype
    assert_close(found, expected)


@given(examples(), st.booleans(), st.booleans())
@settings(max_examples=60)
def test_two_rotations_are_the_rotation_by_their_sum(
    example: Example, first_per_token: bool, second_per_token: bool
) -> None:
    first, second = example.steps(first_per_token), example.steps(second_per_token)
    stepwise = rotate(rotate(example.raw, example.scheme, first), example.scheme, second)
    assert_close(stepwise, rotate(example.raw, example.scheme, first + second))
    position = (first + second).expand(example.raw.shape[2], 3)
    assert_close(stepwise, rotated_reference(example.raw.double(), example.scheme, position))


@given(examples((torch.float64, torch.float32, torch.bfloat16, torch.float16)), st.booleans())
@settings(max_examples=60)
def test_no_offset_changes_no_bit(example: Example, per_token: bool) -> None:
    offset = torch.zeros_like(example.steps(per_token))
    assert torch.equal(rotate(example.raw, example.scheme, offset), example.raw)


@given(examples())
@settings(max_examples=60)
def test_rotation_keeps_lengths_and_the_channels_beyond(example: Example) -> None:
    before = example.raw.clone()
    found = rotate(example.raw, example.scheme, example.steps(True))
    assert_close(found.norm(dim=-1), example.raw.norm(dim=-1))
    rotated = 2 * example.scheme.pairs
    assert torch.equal(found[..., rotated:], example.raw[..., rotated:])
    assert torch.equal(example.raw, before)


@given(examples((torch.float64,)))
@settings(max_examples=60)
def test_scores_depend_on_relative_positions_only(example: Example) -> None:
    query, key = example.raw, example.raw.flip(2)
    query_position, key_position, common = example.steps(True), example.steps(True), example.steps(False)

    def scores(query_at: torch.Tensor, key_at: torch.Tensor) -> torch.Tensor:
        return (rotate(query, example.scheme, query_at) * rotate(key, example.scheme, key_at)).sum(-1)

    found = scores(query_position + common, key_position + common)
    relative = (query * rotate(key, example.scheme, key_position - query_position)).sum(-1)
    tolerance = 1e-10 * (query.norm(dim=-1) * key.norm(dim=-1)).max()
    assert (found - scores(query_position, key_position)).abs().max() <= tolerance
    assert (found - relative).abs().max() <= tolerance


@given(examples((torch.float64,)))
@settings(max_examples=60)
def test_layouts_differ_by_the_order_of_channels_only(example: Example) -> None:
    offset = example.steps(True)
    pairs = example.scheme.pairs
    order = [*range(0, 2 * pairs, 2), *range(1, 2 * pairs, 2), *range(2 * pairs, example.raw.shape[-1])]
    interleaved = rotate(example.raw, RopeScheme(example.scheme.frequencies, "interleaved"), offset)
    halves = rotate(example.raw[..., order], RopeScheme(example.scheme.frequencies, "halves"), offset)
    assert torch.equal(halves, interleaved[..., order])


def test_misfits_are_errors() -> None:
    scheme = embed_nd_scheme([4, 2, 2], 10000.0)
    key = torch.zeros(1, 1, 5, 8)
    with pytest.raises(ValueError, match=r"offset has shape \(4, 3\); it must be \[3\] or \[5, 3\]"):
        rotate(key, scheme, torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"offset has shape \(2,\)"):
        rotate(key, scheme, torch.zeros(2))
    with pytest.raises(ValueError, match="rotates 8 channels, but the keys have head_dim 6"):
        rotate(key[..., :6], scheme, torch.zeros(3))
    with pytest.raises(ValueError, match="key has shape"):
        rotate(key[0], scheme, torch.zeros(3))
    for axes in ([4, 4], [4, 3, 2], [4, -2, 2]):
        with pytest.raises(ValueError, match="three even numbers"):
            embed_nd_scheme(axes, 10000.0)
    with pytest.raises(ValueError, match="theta is 0"):
        embed_nd_scheme([4, 2, 2], 0)
    assert embed_nd_scheme([4, 2, 2], 1).frequencies == ((1.0, 1.0), (1.0,), (1.0,))
    for source, target in (((3, 4), (3, 5)), ((4,), (3, 4)), ((3, 4), (4,))):
        with pytest.raises(ValueError, match="the same width"):
            match_tokens(torch.zeros(source), torch.zeros(target), 0.5)
    with pytest.raises(ValueError, match="one for each"):
        matched_offsets(torch.arange(3), torch.arange(3), torch.zeros(2, dtype=torch.long), GRID)


# Offsets.


@given(st.permutations(range(TOKENS)), st.integers(0, TOKENS), st.integers(0, 10_000))
@settings(max_examples=40)
def test_only_tokens_with_a_counterpart_are_matched(order: list[int], known: int, seed: int) -> None:
    features = torch.randn(TOKENS, 16, generator=torch.Generator().manual_seed(seed))
    source_tokens, target_tokens = torch.arange(TOKENS), torch.tensor(order)[:known]
    matches = match_tokens(features, features[target_tokens], 0.999)
    offset = matched_offsets(source_tokens, target_tokens, matches, GRID)
    assert offset.shape == (TOKENS, 3)
    # A counterpart is the token itself, so those that have one stay; the others have no offset either.
    assert sorted(target_tokens[matches[matches >= 0]].tolist()) == sorted(order[:known])
    assert (offset == 0).all()


@given(st.permutations(range(TOKENS)), st.integers(0, 10_000))
@settings(max_examples=40)
def test_permuted_tokens_find_themselves(order: list[int], seed: int) -> None:
    target = torch.randn(TOKENS, 16, generator=torch.Generator().manual_seed(seed))
    places = torch.tensor(order)
    lengths = torch.linspace(0.1, 9, TOKENS)[:, None]
    matches = match_tokens(target[places] * lengths, target, 0.9)
    assert matches.tolist() == order
    tokens = torch.arange(TOKENS)
    offset = matched_offsets(tokens, tokens, matches, GRID)
    assert torch.equal(grid_positions(tokens, GRID) + offset, grid_positions(places, GRID))


def test_tokens_below_the_threshold_match_nothing_and_stay() -> None:
    angles = torch.tensor([0.0, 0.4, 0.8, 1.2])
    source = torch.stack([angles.cos(), angles.sin()], dim=-1)
    target = torch.tensor([[-1.0, 0.0], [2.0, 0.0]])
    assert match_tokens(source, target, 0.6).tolist() == [1, 1, 1, -1]
    assert match_tokens(source, target, float(angles[2].cos()) + 1e-4).tolist() == [1, 1, -1, -1]
    matches = match_tokens(source, target, 0.95)
    assert matches.tolist() == [1, -1, -1, -1]
    offset = matched_offsets(torch.tensor([7, 8, 9, 10]), torch.tensor([0, 16]), matches, GRID)
    assert offset.tolist() == [[1, -1, -1], [0, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_the_threshold_itself_is_reached() -> None:
    assert match_tokens(torch.eye(3), torch.eye(3)[[2, 0]], 1.0).tolist() == [1, -1, 0]


def test_matches_of_different_chunks_are_compared_in_the_precision_of_the_features(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "CHUNK_ELEMENTS", 1)
    angles = torch.tensor([1e-4, 0.9e-4, 1.1e-4], dtype=torch.float64)
    targets = torch.stack([angles.cos(), angles.sin()], dim=-1)
    # In float32 all three similarities would be 1.
    assert match_tokens(torch.tensor([[1.0, 0.0]], dtype=torch.float64), targets, 0.5).tolist() == [1]


@pytest.mark.parametrize("chunk", [1, 400])
def test_the_first_of_equally_similar_tokens_is_the_match(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(devices, "CHUNK_ELEMENTS", chunk)
    assert match_tokens(torch.eye(2), torch.eye(2)[[1, 0, 1, 0]], 0.5).tolist() == [1, 0]


@pytest.mark.parametrize("target", [(), (1, 7, 40)])
def test_centred_offsets_stay_on_the_tokens_device_whatever_the_default(target: tuple[int, ...]) -> None:
    source, targets = torch.tensor([0, 3, 30]), torch.tensor(target, dtype=torch.long)
    expected = centred_offsets(source, targets, GRID)
    with torch.device("meta"):
        assert torch.equal(centred_offsets(source, targets, GRID), expected)


@pytest.mark.parametrize(("source", "target"), [(0, 3), (3, 0), (0, 0)])
def test_without_tokens_there_is_no_centre_to_go_to(source: int, target: int) -> None:
    offset = centred_offsets(torch.arange(source), torch.arange(target), GRID)
    assert (offset.shape, offset.dtype) == ((source, 3), torch.float64)
    assert not bool(offset.any())


def test_nothing_matches_nothing() -> None:
    matches = match_tokens(torch.ones(3, 4), torch.ones(0, 4), 0.5)
    assert matches.tolist() == [-1, -1, -1]
    assert (matched_offsets(torch.arange(3), torch.arange(0), matches, GRID) == 0).all()
    assert match_tokens(torch.ones(0, 4), torch.ones(3, 4), 0.5).shape == (0,)
    assert match_tokens(torch.zeros(2, 4), torch.ones(3, 4), 0.5).tolist() == [-1, -1]


# What it costs.


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor of one dtype that any operation made."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.dtype == self.dtype:
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("layout", ["interleaved", "halves"])
def test_keys_are_rotated_in_chunks(monkeypatch: pytest.MonkeyPatch, layout: Any) -> None:
    scheme = RopeScheme(embed_nd_scheme([4, 2, 2], 10000.0).frequencies, layout)
    key = random_keys(5, torch.bfloat16, (2, 8, 100, 10))
    offset = torch.randint(-9, 9, (100, 3), generator=torch.Generator().manual_seed(0))
    whole = rotate(key, scheme, offset)
    monkeypatch.setattr(devices, "CHUNK_ELEMENTS", 1000)
    with LargestTensor(torch.float32) as largest:
        chunked = rotate(key, scheme, offset)
    assert 0 < largest.elements <= 1000
    assert torch.equal(chunked, whole)


class Calls(TorchDispatchMode):
    """Counts the calls of one operation."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.name() == self.name
        return func(*args, **(kwargs or {}))


def test_chunks_are_no_more_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "CHUNK_ELEMENTS", 400)
    with Calls("aten::sin") as tables, Calls("aten::copy_") as copies:
        rotate(random_keys(5, shape=(2, 5, 23, 10)), embed_nd_scheme([4, 2, 2], 10000.0), torch.zeros(3))
    # Five tokens of 80 rotated channels fit: five chunks, both channels of a pair each, and the channels beyond.
    assert (tables.count, copies.count) == (1, 2 * 5 + 1)
    with Calls("aten::mm") as products:
        match_tokens(torch.ones(41, 4), torch.ones(60, 4), 0.5)
    # 10 x 10 similarities are a quarter of what fits.
    assert products.count == 5 * 6


def test_only_the_angles_are_computed_in_float64() -> None:
    key = random_keys(5, torch.bfloat16, (2, 8, 100, 10))
    with LargestTensor(torch.float64) as largest:
        rotate(key, embed_nd_scheme([4, 2, 2], 10000.0), torch.zeros(100, 3))
    assert largest.elements == 100 * 4


def test_angles_are_computed_on_the_cpu_where_the_device_lacks_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    scheme = embed_nd_scheme([4, 2, 2], 10000.0)
    with pretending() as device, device:
        key, offset = torch.randn(1, 2, 5, 8).to(CUDA), torch.ones(5, 3).to(CUDA)
        rotated: list[torch.Tensor] = []
        there = device.waits_of(lambda: rotated.append(rotate(key, scheme, offset)))
        monkeypatch.setattr(rope, "FLOAT64_DEVICES", ("cpu",))
        elsewhere = device.waits_of(lambda: rotated.append(rotate(key, scheme, offset)))
        assert (there["copy to the CPU"], elsewhere["copy to the CPU"]) == (0, 1)
        assert rotated[1].device == CUDA
        assert torch.equal(*(one.cpu() for one in rotated))


@pytest.mark.parametrize(("source_tokens", "target_tokens"), [(100, 70), (33, 200), (1, 64), (64, 1)])
def test_similarities_are_taken_in_chunks(
    monkeypatch: pytest.MonkeyPatch, source_tokens: int, target_tokens: int
) -> None:
    generator = torch.Generator().manual_seed(1)
    source = torch.randn(source_tokens, 8, generator=generator).bfloat16()
    target = torch.randn(target_tokens, 8, generator=generator).bfloat16()
    dense = torch.nn.functional.cosine_similarity(source.double()[:, None], target.double()[None], dim=-1)
    expected = torch.where(dense.max(-1).values >= 0.6, dense.argmax(-1), -1)
    assert torch.equal(match_tokens(source, target, 0.6), expected)
    monkeypatch.setattr(devices, "CHUNK_ELEMENTS", 400)
    with LargestTensor(torch.float32) as largest:
        chunked = match_tokens(source, target, 0.6)
    assert 0 < largest.elements <= 400
    assert torch.equal(chunked, expected)


def test_nothing_reads_values_back_from_the_device() -> None:
    with pretending() as device, device:
        tokens, features = torch.arange(TOKENS).to(CUDA), torch.randn(TOKENS, 16).to(CUDA)
        key = torch.randn(1, 2, TOKENS, HEAD_DIM).to(CUDA, torch.bfloat16)
        rotated: list[torch.Tensor] = []

        def move() -> None:
            offset = matched_offsets(tokens, tokens, match_tokens(features, features, 0.5), GRID)
            rotated.append(rotate(key, embed_nd_scheme([44, 42, 42], 10000.0), offset))

        assert not device.waits_of(move)
        assert (rotated[0].device, rotated[0].shape, rotated[0].dtype) == (CUDA, key.shape, key.dtype)
