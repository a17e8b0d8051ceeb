"""UNets of Stable Diffusion: what their blocks are, which call is which, stills, and what is refused."""

import math
from dataclasses import replace
from typing import Any

import comfy.controlnet
import comfy.ops
import comfy.samplers
import pytest
import torch
from comfy.cldm.cldm import ControlNet
from comfy.ldm.modules.attention import optimized_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from nodes import ControlNetApplyAdvanced

from kvshare_core.config import KVShareConfig
from kvshare_core.families.base import (
    AttentionCall,
    BlockName,
    BlockSize,
    CallSite,
    UnexpectedCallError,
    UnsupportedModelError,
)
from kvshare_core.families.unet import UNetFamily, places_of
from kvshare_core.forward.call import next_site
from kvshare_core.forward.forward import Batch, Forward, PromptText
from kvshare_core.host import BEAT_TAG, KEY
from kvshare_core.host.conditioning.encoding import empty_latent
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.plan.bank_size import plan_bytes
from kvshare_core.plan.call_memory import call_bytes
from kvshare_core.plan.schedule import shared_blocks
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.support.fake_family import COND, UNCOND, timeline_of
from tests.support.family_cases import CASES, FamilyCase, model_of
from tests.support.family_contracts import SHARED, patched, sample
from tests.support.windows import PlainWindows, share
from tests.tiny.models import Sampling
from tests.tiny.unets import CHANNELS, text_of, tiny_svd, tiny_unet

FAMILY = UNetFamily()
STILLS = CASES["sd 1.5 stills"]
WINDOWS = CASES["sd 1.5"]


def called(place: int, grid: tuple[int, int], keys: int | None = None, rows: int = 6, **options: Any) -> AttentionCall:
    """A call of the tiny SD 1.5's block number `place`, as the host tells it."""
    block = places_of(model_of("sd 1.5").model.diffusion_model)[place]
    tokens = grid[0] * grid[1]
    query, key = torch.zeros(rows, 1, tokens, 4), torch.zeros(rows, 1, keys or tokens, 4)
    told = {"block": block.part, "block_index": block.depth, "activations_shape": [rows, 32, *grid]}
    return AttentionCall(query, key, key, options={**told, **options}, grid=(3, 4, 4))


def told(calls: list[AttentionCall], text: int = 5) -> list[CallSite | UnexpectedCallError]:
    """What calls are in one forward of three pictures and two conditionings."""
    forward = Forward(timeline_of(1, 3).segments[0], Batch((COND, UNCOND)), PromptText(text), (3, 4, 4))
    found: list[CallSite | UnexpectedCallError] = []
    for call in calls:
        try:
            found.append(next_site(FAMILY, model_of("sd 1.5").model.diffusion_model, forward, call))
        except UnexpectedCallError as reason:
            found.append(reason)
    return found


def site(block: int, kind: Any, grid: tuple[int, int]) -> CallSite:
    return CallSite(block, kind, grid=(3, *grid), frames_as_rows=True)


def test_the_blocks_are_those_of_the_host_in_the_order_in_which_they_run() -> None:
    seen: list[tuple[int, int, int]] = []

    def watch(function: Any, *args: Any, **kwargs: Any) -> Any:
        options = kwargs["transformer_options"]
        if args[0].shape[1] == args[1].shape[1]:
            seen.append((args[3], args[0].shape[-1] // args[3], 8 // options["activations_shape"][2]))
        return function(*args, **kwargs)

    for name in ("sd 1.5", "sd 2.x", "sdxl"):
        seen.clear()
        model = model_of(name).clone()
        model.model_options["transformer_options"]["optimized_attention_override"] = watch
        timeline = CASES[name].timeline(1)
        sample(CASES[name], model, timeline, steps=1, cfg=1.0)
        info = model_info(model)[1]
        assert info.blocks == len(seen)
        assert info.block_sizes == tuple(BlockSize(*size) for size in seen)
        assert (info.heads, info.head_dim) == max((one[:2] for one in seen), key=lambda size: size[0] * size[1])


ENCODERS = {"SD15": "CLIP-L", "SD20": "OpenCLIP ViT-H", "SDXL": "CLIP-L and OpenCLIP ViT-bigG"}


@pytest.mark.parametrize(("kind", "clip_type"), ENCODERS.items())
def test_a_model_knows_its_text_encoders(kind: str, clip_type: str) -> None:
    info = FAMILY.describe(tiny_unet(kind).model.diffusion_model, CHANNELS)
    assert info is not None and str(info.text_encoders) == clip_type


def test_calls_are_told_by_place_and_shape() -> None:
    calls = [called(0, (8, 8)), called(0, (8, 8), 5), called(1, (4, 4)), called(1, (4, 4), 5)]
    expected = [site(0, "self", (8, 8)), site(0, "cross", (8, 8)), site(1, "self", (4, 4)), site(1, "cross", (4, 4))]
    assert told(calls) == expected
    # In any order, and without the self-attention that another node computes in its own way.
    assert told([calls[1], calls[3], calls[2]]) == [expected[1], expected[3], expected[2]]


def test_where_picture_and_text_have_as_many_tokens_the_order_tells() -> None:
    calls = [called(2, (7, 11)), called(2, (7, 11))]
    assert told(calls, 77) == [site(2, "self", (7, 11)), site(2, "cross", (7, 11))]
    place = places_of(model_of("sd 1.5").model.diffusion_model)[2].part
    for name in ((*place, 0), place):
        alone = called(2, (7, 11), patches_replace={"attn1": {name: print}})
        assert told([alone], 77) == [site(2, "cross", (7, 11))]


@pytest.mark.parametrize(
    "foreign", [called(1, (4, 4), 9), called(1, (4, 4), rows=12), called(1, (2, 4)), called(1, (4, 4), 5, rows=2)]
)
def test_a_foreign_call_in_a_block_costs_that_call(foreign: AttentionCall) -> None:
    if foreign.query_tokens == 8:
        foreign = replace(foreign, options={**foreign.options, "activations_shape": [6, 32, 4, 4]})
    own = [called(place, (4, 4), keys) for place in (1, 2) for keys in (None, 5)]
    found = told([foreign, *own])
    assert isinstance(found[0], UnexpectedCallError) and not found[0].lost
    assert [one for one in found[1:] if isinstance(one, CallSite)] == [
        site(place, kind, (4, 4)) for place in (1, 2) for kind in ("self", "cross")
    ]


def test_a_block_that_the_model_does_not_have_has_no_calls() -> None:
    diffusion_model = model_of("sd 1.5").model.diffusion_model
    assert not FAMILY.calls_of_block(diffusion_model, called(0, (8, 8)), BlockName(0, part=("input", 7)))
    assert not FAMILY.calls_of_block(diffusion_model, called(0, (8, 8)), BlockName(3))


def test_stable_video_diffusion_is_refused_with_its_reason() -> None:
    with pytest.raises(UnsupportedModelError, match="not prompted by text"):
        model_info(tiny_svd())


RELEASED_SIZES: dict[str, dict[str, Any]] = {
    "SD 1.5": {
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4],
        "num_heads": 8,
        "context_dim": 768,
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
    },
    "SDXL": {
        "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 4],
        "num_head_channels": 64,
        "context_dim": 2048,
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "transformer_depth_middle": 10,
    },
}
"""Sizes of the released models, as the host detects them."""


@pytest.mark.parametrize(("name", "blocks"), [("SD 1.5", range(10, 16)), ("SDXL", range(34, 70))])
def test_released_models_have_the_published_blocks(name: str, blocks: range) -> None:
    """Those of MasaCtrl are the decoder's at the two finest levels; those of ConsiStory are all of the decoder's."""
    common = {"image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "legacy": False}
    operations = {"operations": comfy.ops.disable_weight_init, "device": "meta", "use_spatial_transformer": True}
    module = UNetModel(**common, **operations, **RELEASED_SIZES[name])
    info = FAMILY.describe(module, CHANNELS)
    assert info is not None and shared_blocks(KVShareConfig(layer_preset="family"), info.blocks, info.presets) == (
        *blocks,
    )
    chosen = [place for number, place in enumerate(places_of(module)) if number in blocks]
    decoder = [place for place in places_of(module) if place.part[0] == "output"]
    finest = decoder if name == "SDXL" else [place for place in decoder if place.size.scale <= 2]
    assert chosen == finest and info.blocks == blocks.stop


@pytest.mark.parametrize("position", ["matched", "gap"])
def test_keys_without_positions_cannot_be_moved(position: Any) -> None:
    config = replace(SHARED, position=position, position_gap=1)
    with pytest.raises(ValueError, match="carry no positions"):
        patched(STILLS, STILLS.timeline(2), config)


def planned(script: str, window: int = 1, overlap: int = 2) -> Timeline:
    return plan_timeline(parse_script(script), window, overlap, 8, 1)


def test_every_prompt_is_a_picture_and_a_duration_makes_several() -> None:
    timeline = planned("a fox\n[4f] a fox runs\na fox sleeps")
    assert [(segment.beat, segment.start, segment.length) for segment in timeline.segments] == [
        (0, 0, 1), (1, 1, 1), (1, 2, 1), (1, 3, 1), (1, 4, 1), (2, 5, 1)
    ]  # fmt: skip
    assert timeline.frames == 6 and timeline.overlap == 0


def test_the_latent_is_a_batch_of_pictures() -> None:
    info = model_info(model_of("sd 1.5"))[1]
    timeline = planned("a fox\na fox runs")
    assert empty_latent(info, timeline, 512, 768, 1).shape == (2, CHANNELS, 96, 64)
    with pytest.raises(ValueError, match="batch_size is 2"):
        empty_latent(info, timeline, 512, 768, 2)


def test_unshared_stills_are_those_of_the_stock_model() -> None:
    """Each with its own noise and text; that of one that nothing is shared with, too."""
    timeline = STILLS.timeline(3)
    noise = torch.randn(3, CHANNELS, 8, 8, generator=torch.Generator().manual_seed(5))
    off = sample(STILLS, patched(STILLS, timeline, KVShareConfig(mode="off")), timeline)
    shared = sample(STILLS, patched(STILLS, timeline), timeline)
    for number in range(3):
        positive = [entry for entry in STILLS.positive(timeline) if entry[1][BEAT_TAG] == number]
        alone = Sampling().run(
            model_of("sd 1.5"), positive, STILLS.negative(timeline), (1, CHANNELS, 8, 8), noise[number : number + 1]
        )
        torch.testing.assert_close(off[0, :, number], alone[0], rtol=1e-4, atol=1e-4)
        assert torch.equal(off[0, :, number], shared[0, :, number]) == (number == 0)


@pytest.mark.parametrize("case", [STILLS, WINDOWS], ids=["stills", "windows"])
def test_orders_in_stages_work_on_pictures(case: FamilyCase) -> None:
    timeline = case.timeline(2, cut=True)
    plain = sample(case, patched(case, timeline), timeline)
    for order in ("sources_first", "chain", "ditctrl"):
        found = sample(case, patched(case, timeline, replace(SHARED, order=order)), timeline)
        assert torch.isfinite(found).all() and found.shape == plain.shape
    drifting = sample(case, patched(case, timeline, replace(SHARED, drift_control=0.5)), timeline)
    first = timeline.beats[0].stop
    assert torch.equal(drifting[:, :, :first], plain[:, :, :first])
    assert not torch.equal(drifting, plain)


def test_held_pictures_stay_as_they_are() -> None:
    timeline = STILLS.timeline(3)
    latent = torch.randn(3, CHANNELS, 8, 8, generator=torch.Generator().manual_seed(8))
    mask = torch.tensor([0.0, 1.0, 0.0]).reshape(3, 1, 1, 1)
    forwards: list[int] = []

    def count(executor: Any, *args: Any, **kwargs: Any) -> Any:
        forwards.append(args[5]["context_window"].segment.index)
        return executor(*args, **kwargs)

    model = patched(STILLS, timeline, replace(SHARED, sources="first"), subject="")
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "count", count)
    found = sample_held(model, timeline, latent, mask)
    assert torch.equal(found[[0, 2]], latent[[0, 2]]) and not torch.equal(found[1], latent[1])
    # The last picture is held and nobody's source.
    assert set(forwards) == {0, 1}


def sample_held(model: Any, timeline: Timeline, latent: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return Sampling().run(
        model,
        STILLS.positive(timeline),
        STILLS.negative(timeline),
        tuple(latent.shape),
        latent=latent,
        noise_mask=mask,
    )


def shared_rows(model: Any, timeline: Timeline, case: FamilyCase = STILLS) -> list[int]:
    """Batch rows that were computed with source keys, run by run."""
    found: list[int] = []

    def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
        output = executor(*args, **kwargs)
        found.append(args[5][KEY].run.shared_calls)
        return output

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    sample(case, model, timeline)
    return found


@pytest.mark.parametrize("name", ["sd 1.5", "sd 1.5 stills", "sdxl"])
def test_the_bank_holds_what_was_expected(name: str) -> None:
    """Of blocks of several widths and grids, row by row."""
    case, runs = CASES[name], set[Any]()
    timeline = case.timeline(3)

    def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
        runs.add(args[5][KEY].run)
        return executor(*args, **kwargs)

    model = patched(case, timeline, subject="")
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    sample(case, model, timeline, steps=1)
    (run,) = runs
    video = math.prod(run.settings.info.grid(timeline.window, *case.latent[1:]))
    found, exact = plan_bytes(run.settings.fitted, [video] * 3, video, 6, 2, 4)
    assert exact is False or found == run.bank.peak_bytes
    assert run.bank.peak_bytes <= found <= 1.01 * run.bank.peak_bytes
    assert call_bytes(run.settings.fitted, [video] * 3, video, 6, 2, 4) > 0


@pytest.mark.parametrize("first", [True, False])
def test_perturbed_attention_guidance_shares_in_either_order_of_nodes(first: bool) -> None:
    """It replaces the middle block's self-attention, outside of every attention override."""
    timeline = STILLS.timeline(2)
    config = replace(SHARED, layer_preset="custom", layer_idx=tuple(range(7)))

    def guided(model: Any) -> Any:
        return PerturbedAttentionGuidance.execute(model, 3.0).result[0]

    model = model_of("sd 1.5 stills")
    both = share(guided(model), timeline, config)[0] if first else guided(share(model, timeline, config)[0])
    off = guided(share(model, timeline, replace(config, mode="off"))[0])
    plain = share(model, timeline, config)[0]
    assert not torch.equal(sample(STILLS, both, timeline), sample(STILLS, off, timeline))
    assert not torch.equal(sample(STILLS, both, timeline), sample(STILLS, plain, timeline))
    assert shared_rows(both, timeline)[-1] >= shared_rows(plain, timeline)[-1] > 0


def with_motion(model: Any) -> Any:
    """A stand-in for a motion module: frames attend to each other, place by place, through the host's attention."""

    def attend_over_time(h: torch.Tensor, skip: torch.Tensor, options: dict[str, Any]) -> tuple[torch.Tensor, ...]:
        chunks = len(options["cond_or_uncond"])
        frames = h.unflatten(0, (chunks, -1)).permute(0, 3, 4, 1, 2).flatten(0, 2)
        mixed = optimized_attention(frames, frames, frames, 2, transformer_options=options)
        whole = mixed.unflatten(0, (chunks, *h.shape[2:])).permute(0, 3, 4, 1, 2).flatten(0, 1)
        return h + 0.3 * whole, skip

    model = model.clone()
    model.set_model_output_block_patch(attend_over_time)
    return model


def test_attention_over_time_is_left_as_it_is_and_costs_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    timeline = WINDOWS.timeline(2)
    moving = with_motion(model_of("sd 1.5"))
    off = sample(WINDOWS, share(moving, timeline, KVShareConfig(mode="off"))[0], timeline)
    torch.testing.assert_close(off, sample(WINDOWS, PlainWindows(timeline).on(moving), timeline), rtol=1e-5, atol=1e-5)
    shared = sample(WINDOWS, share(moving, timeline, SHARED)[0], timeline)
    assert torch.isfinite(shared).all() and not torch.equal(shared, off)
    plain, both = (
        shared_rows(share(model, timeline, SHARED)[0], timeline, WINDOWS) for model in (model_of("sd 1.5"), moving)
    )
    assert both[-1] == plain[-1] > 0
    assert any("only that call is left unshared" in line.getMessage() for line in caplog.records)


def controlled(case: FamilyCase, timeline: Timeline, images: torch.Tensor) -> tuple[list[Any], list[Any]]:
    """The case's conditioning with the host's ControlNet of random weights."""
    torch.manual_seed(3)
    sizes = model_of("sd 1.5").model.model_config.unet_config
    wanted = ("image_size", "in_channels", "model_channels", "num_res_blocks", "channel_mult", "transformer_depth")
    module = ControlNet(
        hint_channels=3,
        **{name: sizes[name] for name in wanted},
        num_heads=2,
        use_spatial_transformer=True,
        transformer_depth_middle=1,
        context_dim=768,
        legacy=False,
        device="cpu",
        dtype=torch.float32,
        operations=comfy.ops.disable_weight_init,
    )
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    control = comfy.controlnet.ControlNet(module, load_device=torch.device("cpu"))
    positive, negative = case.positive(timeline), case.negative(timeline)
    return ControlNetApplyAdvanced().apply_controlnet(positive, negative, control, images, 1.0, 0.0, 1.0)


def images_of(count: int) -> torch.Tensor:
    return torch.rand(count, 64, 64, 3, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("count", [1, 3])
def test_every_still_has_its_own_control_image(count: int) -> None:
    timeline, images = STILLS.timeline(3), images_of(count)
    noise = torch.randn(3, CHANNELS, 8, 8, generator=torch.Generator().manual_seed(5))
    shape = STILLS.shape(timeline)
    model = patched(STILLS, timeline, KVShareConfig(mode="off"))
    found = STILLS.run(Sampling(), model, *controlled(STILLS, timeline, images), shape)
    without = STILLS.run(Sampling(), model, STILLS.positive(timeline), STILLS.negative(timeline), shape)
    assert (found - without).abs().max() > 1e-3
    for number in range(3):
        positive, negative = controlled(STILLS, timeline, images[number % count :][:1])
        positive = [entry for entry in positive if entry[1][BEAT_TAG] == number]
        alone = Sampling().run(model_of("sd 1.5"), positive, negative, (1, CHANNELS, 8, 8), noise[number : number + 1])
        torch.testing.assert_close(found[0, :, number], alone[0], rtol=1e-4, atol=1e-4)


def test_segments_of_a_batch_have_the_control_images_of_their_frames() -> None:
    """Where an image differs, so does the frame that it is of, and no other."""
    timeline = WINDOWS.timeline(2, cut=True)
    images = images_of(6)
    model, shape = patched(WINDOWS, timeline, subject=""), WINDOWS.shape(timeline)
    found = WINDOWS.run(Sampling(), model, *controlled(WINDOWS, timeline, images), shape)
    images[4] = 0.0
    other = WINDOWS.run(Sampling(), model, *controlled(WINDOWS, timeline, images), shape)
    changed = [bool((found - other)[0, :, frame].abs().max() > 1e-4) for frame in range(6)]
    assert changed == [False, False, False, False, True, False]


def test_control_images_must_be_one_or_one_for_each_picture() -> None:
    timeline = STILLS.timeline(3)
    with pytest.raises(ValueError, match="a ControlNet has 2 images, but the timeline has 3 pictures"):
        positive, negative = controlled(STILLS, timeline, images_of(2))
        STILLS.run(Sampling(), patched(STILLS, timeline), positive, negative, STILLS.shape(timeline))


def test_conditioning_and_masks_for_every_picture_are_cut() -> None:
    """A text, or a mask, with an entry for every picture gives each picture its own."""
    timeline = STILLS.timeline(3)
    positive = STILLS.positive(timeline)
    batch = torch.cat([entry[0] for entry in positive])
    whole = [[batch, {}]]
    model = patched(STILLS, timeline, KVShareConfig(mode="off"), subject="")
    shape, negative = STILLS.shape(timeline), STILLS.negative(timeline)
    found = STILLS.run(Sampling(), model, whole, negative, shape)
    torch.testing.assert_close(found, STILLS.run(Sampling(), model, positive, negative, shape), rtol=1e-4, atol=1e-4)
    ones = torch.ones(3, 8, 8)
    halved = ones.clone()
    halved[1, :, :4] = 0.0
    cut, plain = (
        STILLS.run(Sampling(), model, [*with_mask(positive, mask), *common(7)], negative, shape)
        for mask in (halved, ones)
    )
    assert [bool((cut - plain)[0, :, frame].abs().max() > 1e-4) for frame in range(3)] == [False, True, False]


def with_mask(conditioning: list[Any], mask: torch.Tensor) -> list[Any]:
    return [[text, {**extra, "mask": mask}] for text, extra in conditioning]


def common(seed: int) -> list[Any]:
    text, extra = text_of("SD15", seed, 6)
    return [[text, extra]]
