"""CogVideoX: text before video, tokens of two latent frames in 1.5, rotary or added positions."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from kvshare_core.attention.rope import rotate, rotation_of
from kvshare_core.config import KVShareConfig
from kvshare_core.families.base import AttentionCall, CallSite, UnexpectedCallError
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.host.sampling.patch import apply
from kvshare_core.plan.making import make_plan
from kvshare_core.record.look_point import LookPoint
from kvshare_core.record.preview import heat_of_pictures, pictures_of
from kvshare_core.timeline.timeline import Timeline
from tests.support.family_cases import CASES, model_of
from tests.support.family_contracts import sample
from tests.support.present import present
from tests.support.windows import share, tiny_timeline

TEXT = 6
LAYERS = 3


def model(name: str) -> Any:
    return model_of(present(name).name)


@pytest.mark.parametrize(
    ("name", "patch", "frames", "scheme"),
    [
        ("cogvideox", (1, 2, 2), 13, True),
        ("cogvideox learned positions", (1, 2, 2), 13, False),
        ("cogvideox i2v", (1, 2, 2), 13, True),
        ("cogvideox 1.5", (2, 2, 2), 21, True),
        ("cogvideox 1.5 i2v", (2, 2, 2), 21, True),
    ],
)
def test_the_numbers_of_a_model_are_read_off_it(
    name: str, patch: tuple[int, int, int], frames: int, scheme: bool
) -> None:
    family, info = model_info(model(name))
    assert (info.family, info.blocks, info.head_dim, info.joint) == ("cogvideox", LAYERS, 64, True)
    assert (info.patch, info.compression, info.native_frames) == (patch, (4, 8, 8), frames)
    found = family.rope_scheme(model(name).get_model_object("diffusion_model"), {})
    assert (found is not None) == scheme


def test_every_call_is_checked_by_its_own_shape() -> None:
    cogvideox = model("cogvideox")
    family, _ = model_info(cogvideox)

    def classify(number: int, query_tokens: int, key_tokens: int) -> CallSite:
        query, key = torch.zeros(1, 1, query_tokens, 64), torch.zeros(1, 1, key_tokens, 64)
        diffusion_model = cogvideox.get_model_object("diffusion_model")
        return family.classify(diffusion_model, number, AttentionCall(query, key, key), 27, TEXT)

    whole = 27 + TEXT
    for block in range(LAYERS):
        assert classify(block, whole, whole) == CallSite(block, "joint", video_start=TEXT, text_start=0)
        for queries, keys in ((27, 27), (whole, 27), (whole + 1, whole + 1), (27, whole)):
            with pytest.raises(UnexpectedCallError, match=str(queries)):
                classify(block, queries, keys)
    with pytest.raises(UnexpectedCallError, match="no block"):
        classify(LAYERS, whole, whole)


# Positions.


class KeysSeenError(Exception):
    """Ends a forward as soon as the wanted keys have been seen."""


def first_keys(cogvideox: Any, offset: tuple[int, int, int], grid: tuple[int, int, int]) -> torch.Tensor:
    """Keys [rows, heads, tokens, head_dim] of the video in the first block, with all positions moved by whole tokens.

    The same latent patch stands at every place, so that a larger video has the same tokens before they are rotated.
    """
    diffusion_model = cogvideox.get_model_object("diffusion_model")
    patch = model_info(cogvideox)[1].patch
    generator = torch.Generator().manual_seed(3)
    tile = torch.randn(1, 16, *patch, generator=generator)
    larger = [size + move for size, move in zip(grid, offset, strict=True)]
    latent = tile.repeat(1, 1, *larger)
    text = torch.randn(1, TEXT, 48, generator=generator)
    seen: list[torch.Tensor] = []

    def look(function: Any, query: Any, key: torch.Tensor, value: Any, heads: int, **rest: Any) -> Any:
        seen.append(key.unflatten(-1, (heads, -1)).transpose(1, 2))
        raise KeysSeenError

    with torch.inference_mode(), pytest.raises(KeysSeenError):
        diffusion_model(latent, torch.tensor([500.0]), text, transformer_options={"optimized_attention_override": look})
    video = seen[0][:, :, TEXT:].unflatten(2, larger)
    return video[:, :, offset[0] :, offset[1] :, offset[2] :].flatten(2, 4)


@pytest.mark.parametrize("name", ["cogvideox", "cogvideox 1.5"])
@pytest.mark.parametrize("offset", [(0, 0, 0), (4, 0, 0), (0, 5, 0), (0, 0, 7), (2, 3, 1)])
def test_rotated_keys_equal_those_of_a_forward_at_the_new_place(name: str, offset: tuple[int, int, int]) -> None:
    cogvideox = model(name)
    scheme = model_info(cogvideox)[0].rope_scheme(cogvideox.get_model_object("diffusion_model"), {})
    assert scheme is not None and scheme.pairs == 32
    grid = (3, 4, 5)
    cached, expected = first_keys(cogvideox, (0, 0, 0), grid), first_keys(cogvideox, offset, grid)
    if any(offset):
        assert (expected - cached).abs().max() > 0.1
    moved = rotate(cached, scheme, torch.tensor(offset))
    torch.testing.assert_close(moved, expected, rtol=0, atol=2e-5)


def test_keys_without_rotation_are_not_moved() -> None:
    learned = model("cogvideox learned positions")
    with pytest.raises(ValueError, match="position is 'gap', but this model's keys carry no positions"):
        share(learned, tiny_timeline(2), KVShareConfig(position="gap", position_gap=3))


@pytest.mark.parametrize(("name", "gap", "tokens"), [("cogvideox", 4, 4.0), ("cogvideox 1.5", 4, 2.0)])
def test_a_gap_counts_latent_frames(name: str, gap: int, tokens: float) -> None:
    """Sharing with a gap equals sharing keys turned by so many tokens."""
    timeline = tiny_timeline(2, overlap=0)
    config = KVShareConfig(position="gap", position_gap=gap)
    patched, _ = share(model(name), timeline, config, subject="")
    moves: list[list[float]] = []
    real = rotation_of

    def spy(key: torch.Tensor, scheme: Any, offset: torch.Tensor) -> Any:
        moves.append(offset.tolist())
        return real(key, scheme, offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kvshare_core.attention.positions.rotation_of", spy)
        sample(CASES[name], patched, timeline)
    assert moves and all(move == [-tokens, 0, 0] for move in moves)


# Tokens of two latent frames.

LOOK = KVShareConfig(mode="off")


def look(name: str, timeline: Timeline, picture: int) -> torch.Tensor:
    """What the point in the middle of a picture looks at: heat [latent frames, h, w]."""
    plan = replace(make_plan(timeline, LOOK, "", None), look=LookPoint(0.5, 0.5, picture))
    patched, record = apply(model(name), plan)
    sample(CASES[name], patched, timeline, steps=1)
    point = record.latest_point()
    assert point is not None
    assert point.heat.shape == (1, timeline.latent_frames, 3, 3)
    pictures = heat_of_pictures(point.heat, timeline, timeline.frames, 12, 12)
    assert pictures.shape == (timeline.frames, 12, 12)
    return point.heat[0]


@pytest.mark.parametrize("window", [3, 4, 5])
def test_masks_and_maps_have_the_latents_frames(window: int) -> None:
    """A token frame of 1.5 stands for two latent frames of its segment, the last of an odd segment for one."""
    timeline = tiny_timeline(2, window=window, overlap=0)
    patched, record = share(model("cogvideox 1.5"), timeline, KVShareConfig(share_background=True))
    sample(CASES["cogvideox 1.5"], patched, timeline)
    masks = record.latest()
    assert masks is not None
    assert masks.mask.shape == masks.heat.shape == (1, timeline.latent_frames, 3, 3)
    heat = masks.heat[0]
    for segment in timeline.segments:
        own = heat[segment.start : segment.stop]
        alike = [bool(torch.equal(own[frame], own[frame + 1])) for frame in range(window - 1)]
        assert alike == [frame % 2 == 0 for frame in range(window - 1)]
    pictures, _ = pictures_of(masks, timeline.frames, 12, 12)
    assert pictures.shape == (timeline.frames, 12, 12)


def test_a_point_is_read_from_the_token_that_holds_it() -> None:
    """Of five latent frames 0 and 1, 2 and 3 and 4 alone are a token; later pictures belong to later frames."""
    timeline = tiny_timeline(1, window=5)
    heats = [look("cogvideox 1.5", timeline, 0 if frame == 0 else 4 * frame - 1) for frame in range(5)]
    same = [[bool(torch.equal(one, other)) for other in heats] for one in heats]
    owner = [0, 0, 1, 1, 2]
    assert same == [[one == other for other in owner] for one in owner]
    for heat in heats:
        assert torch.equal(heat[0], heat[1]) and torch.equal(heat[2], heat[3])
        assert not torch.equal(heat[1], heat[2]) and not torch.equal(heat[3], heat[4])


def test_a_users_mask_chooses_tokens_of_two_frames() -> None:
    """The subject fills latent frames 0 and 1 of each segment of three: the first of its two token frames."""
    timeline = tiny_timeline(2, overlap=0)
    mask = torch.zeros(timeline.frames, 24, 24)
    for segment in timeline.segments:
        first, last = timeline.picture_range(segment.start, segment.start + 2)
        mask[first:last] = 1
    patched, record = share(model("cogvideox 1.5"), timeline, KVShareConfig(), mask=mask)
    sample(CASES["cogvideox 1.5"], patched, timeline)
    masks = record.latest()
    assert masks is not None
    assert masks.mask[0].mean((1, 2)).tolist() == [1, 1, 0] * 2


def test_the_forecast_is_right_for_tokens_of_two_latent_frames(caplog: pytest.LogCaptureFixture) -> None:
    timeline = tiny_timeline(3)
    mask = torch.zeros(timeline.frames, 24, 24)
    mask[:, :12] = 1
    patched, _ = share(model("cogvideox 1.5"), timeline, mask=mask)
    with caplog.at_level("INFO", logger="kvshare"):
        sample(CASES["cogvideox 1.5"], patched, timeline)
    said, held = (
        next(entry.args[place] for entry in caplog.records if isinstance(entry.args, tuple) and start in entry.msg)
        for start, place in (("holds", 2), ("held", 0))
    )
    assert held == pytest.approx(said, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "channels", "start_strength"),
    [("cogvideox inpaint", 48, False), ("cogvideox 1.5 inpaint", 48, False), ("cogvideox 1.5 i2v", 32, True)],
)
def test_layouts_that_take_more_than_the_noise_are_the_hosts_own(
    name: str, channels: int, start_strength: bool
) -> None:
    host_model = model(name).model
    assert host_model.diffusion_model.in_channels == channels
    assert (host_model.diffusion_model.ofs_embedding_linear_1 is not None) == start_strength
    timeline = tiny_timeline(1)
    case = CASES[name]
    other = replace(case, per_video=lambda timeline: {})
    assert not torch.equal(sample(case, model(name), timeline), sample(other, model(name), timeline))
