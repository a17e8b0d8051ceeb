"""The contracts of the design, kept by Wan text-to-video and image-to-video on the real host."""

import copy
import gc
import hashlib
import logging
import math
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.samplers
import pytest
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_custom_sampler import Guider_DualCFG

from kvshare_core.attention.key_masks import ODD_MASK
from kvshare_core.config import KVShareConfig, MaskSettings, MemorySettings
from kvshare_core.families import wan
from kvshare_core.families.base import AttentionCall, CallSite, UnexpectedCallError
from kvshare_core.host import BEAT_TAG, KEY
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.host.sampling.patch import apply
from kvshare_core.host.sampling.segment_handler import SegmentHandler
from kvshare_core.plan.making import make_plan
from kvshare_core.timeline.timeline import Timeline
from tests.support.windows import (
    DenseSharing,
    PlainWindows,
    beat_prompts,
    image_conditioning,
    latent_shape,
    share,
    tiny_timeline,
)
from tests.tiny.models import Sampling, one_prompt, random_text, tiny_wan

LAYERS = 3
GRID = (3, 3, 3)
TOKENS = 27
OFF = [
    KVShareConfig(mode="off"),
    KVShareConfig(strength=0.0),
    KVShareConfig(step_idx=(99,)),
]
SHARED = KVShareConfig(
    mode="extend", strength=1.0, share_background=True, masks=MaskSettings("contrast", thres=0.5, rim=0)
)


class Case:
    """One kind of Wan model with conditioning for a timeline."""

    def __init__(self, image_to_video: bool):
        self.image_to_video = image_to_video
        self.model = tiny_wan(image_to_video, LAYERS)

    def sample(self, model: Any, timeline: Timeline, batch: int = 1, **options: Any) -> torch.Tensor:
        """A run of two steps with the stock sampler; every beat has a text of its own."""
        noise, callback = options.pop("noise", None), options.pop("callback", None)
        extra = image_conditioning(timeline) if self.image_to_video else {}
        positive = beat_prompts(timeline, options.pop("tokens", 6), **extra)
        negative = one_prompt(tokens=options.pop("negative_tokens", 6), **extra)
        return Sampling(**options).run(
            model, positive, negative, latent_shape(timeline, batch), noise, callback=callback
        )


@pytest.fixture(scope="module", params=[False, True], ids=["t2v", "i2v"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.fixture(scope="module")
def t2v() -> Case:
    return Case(False)


@pytest.fixture(scope="module")
def t2v_shared(t2v: Case) -> torch.Tensor:
    """Output of three beats with sharing."""
    return t2v.sample(share(t2v.model, tiny_timeline(3), SHARED)[0], tiny_timeline(3))


@pytest.fixture(scope="module")
def t2v_windows(t2v: Case) -> torch.Tensor:
    """Output of three beats as plain windows."""
    return t2v.sample(PlainWindows(tiny_timeline(3)).on(t2v.model), tiny_timeline(3))


def every_call(model: Any, look: Callable[[dict[str, Any]], None]) -> Any:
    """A clone of `model` that shows `look` the transformer options of every forward."""

    def spy(executor: Any, *args: Any, **kwargs: Any) -> Any:
        look(args[5])
        return executor(*args, **kwargs)

    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "spy", spy)
    return clone


def with_override(model: Any, override: Callable[..., Any]) -> Any:
    """A clone of `model` with an attention override, as node packs set it."""
    clone = model.clone()
    clone.model_options["transformer_options"]["optimized_attention_override"] = override
    return clone


# Contract 1: off is off.


def test_one_segment_equals_the_stock_host_bit_for_bit(case: Case) -> None:
    timeline = tiny_timeline(1)
    patched, _ = share(case.model, timeline, SHARED)
    assert torch.equal(case.sample(patched, timeline), case.sample(case.model, timeline))


def test_every_way_to_switch_off_gives_plain_windows_bit_for_bit(case: Case) -> None:
    timeline = tiny_timeline(2)
    outputs = [case.sample(share(case.model, timeline, config)[0], timeline) for config in OFF]
    assert all(torch.equal(output, outputs[0]) for output in outputs)
    windows = case.sample(PlainWindows(timeline).on(case.model), timeline)
    torch.testing.assert_close(outputs[0], windows, rtol=0, atol=1e-5)


def test_sharing_changes_the_later_segments_and_leaves_the_first(case: Case) -> None:
    timeline = tiny_timeline(2, overlap=0)
    windows = case.sample(PlainWindows(timeline).on(case.model), timeline)
    for config in (SHARED, KVShareConfig(mode="extend", strength=1.0), KVShareConfig(mode="extend", strength=0.4)):
        shared = case.sample(share(case.model, timeline, config)[0], timeline)
        assert torch.isfinite(shared).all()
        torch.testing.assert_close(shared[:, :, :3], windows[:, :, :3], rtol=0, atol=1e-6)
        assert (shared[:, :, 3:] - windows[:, :, 3:]).abs().max() > 1e-4


def test_a_mask_without_subject_changes_nothing(t2v: Case) -> None:
    timeline = tiny_timeline(2)
    off, _ = share(t2v.model, timeline, KVShareConfig(mode="off"))
    empty, _ = share(t2v.model, timeline, KVShareConfig(), mask=torch.zeros(1, 48, 48))
    assert torch.equal(t2v.sample(empty, timeline), t2v.sample(off, timeline))


STOCK_RUN = """
import hashlib, pathlib, runpy, sys
root, host = sys.argv[1:]
sys.path.insert(0, root)
from devtools.inprocess import enter_host
enter_host(pathlib.Path(host))
tiny = runpy.run_path(root + "/tests/tiny/models.py")
output = tiny["Sampling"]().run(tiny["tiny_wan"](), tiny["one_prompt"](10), tiny["one_prompt"](), (1, 16, 3, 6, 6))
assert not any("kv" in name and "share" in name for name in sys.modules)
print(hashlib.sha256(output.numpy().tobytes()).hexdigest())
"""


def test_the_installed_pack_changes_nothing_for_others(t2v: Case, host: Path) -> None:
    patched, _ = share(t2v.model, tiny_timeline(2), SHARED)
    t2v.sample(patched, tiny_timeline(2))
    here = Sampling().run(t2v.model, one_prompt(10), one_prompt(), (1, 16, 3, 6, 6))
    arguments = [str(Path(__file__).parents[2]), str(host)]
    without_pack = subprocess.run([sys.executable, "-c", STOCK_RUN, *arguments], capture_output=True, text=True)
    assert without_pack.returncode == 0, without_pack.stderr
    assert without_pack.stdout.split()[-1] == hashlib.sha256(here.numpy().tobytes()).hexdigest()


# Contract 2: no state on nodes or MODEL.


def test_a_patched_model_runs_again_with_the_same_result(case: Case) -> None:
    timeline = tiny_timeline(2)
    stock = case.sample(case.model, tiny_timeline(1))
    patched, _ = share(case.model, timeline, SHARED)
    first = case.sample(patched, timeline)
    assert torch.equal(case.sample(patched, timeline), first)
    assert torch.equal(case.sample(patched.clone().clone(), timeline), first)
    assert torch.equal(case.sample(case.model, tiny_timeline(1)), stock)


def test_the_input_model_is_left_as_it_was(t2v: Case) -> None:
    model = t2v.model.clone()
    options, wrappers = copy.deepcopy(model.model_options), copy.deepcopy(model.wrappers)
    patched, _ = share(model, tiny_timeline(2), SHARED)
    t2v.sample(patched, tiny_timeline(2))
    assert (model.model_options, model.wrappers) == (options, wrappers)
    assert KEY not in patched.model_options["transformer_options"]


def test_a_plan_put_on_twice_is_replaced(t2v: Case) -> None:
    timeline = tiny_timeline(2)
    off, _ = share(t2v.model, timeline, KVShareConfig(mode="off"))
    twice, _ = share(share(t2v.model, tiny_timeline(3), SHARED)[0], timeline, KVShareConfig(mode="off"))
    assert torch.equal(t2v.sample(twice, timeline), t2v.sample(off, timeline))


def test_copies_of_the_handler_are_equal(t2v: Case) -> None:
    handler = share(t2v.model, tiny_timeline(2))[0].model_options["context_handler"]
    other = SegmentHandler(tiny_timeline(2), wan.INPUTS, carry_image=False)
    assert copy.deepcopy(handler) == copy.copy(handler) == handler == other


def test_the_session_is_gone_after_a_run(case: Case) -> None:
    seen: list[weakref.ref[Any]] = []
    banked: list[int] = []

    def look(options: dict[str, Any]) -> None:
        seen.append(weakref.ref(options[KEY].run))
        banked.append(len(options[KEY].run.bank))

    timeline = tiny_timeline(2)
    patched, _ = share(every_call(case.model, look), timeline, SHARED)
    between: list[int] = []
    case.sample(patched, timeline, callback=lambda *_: between.append(len(seen[-1]().bank)))
    gc.collect()
    assert max(banked) == LAYERS * 2
    assert between == [0, 0]
    assert {session() for session in seen} == {None}


class StoppedError(Exception):
    """Raised by a test in the middle of a run."""


def stop_at(number: int, action: Callable[[], None]) -> Callable[..., Any]:
    """An attention override that acts in its `number`-th call."""
    calls = 0

    def override(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            action()
        return function(*args, **kwargs)

    return override


def raise_stop() -> None:
    raise StoppedError


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (raise_stop, StoppedError),
        (
            comfy.model_management.interrupt_current_processing,
            comfy.model_management.InterruptProcessingException,
        ),
    ],
    ids=["exception", "interrupt"],
)
@pytest.mark.parametrize("call", [1, 8, 20])
def test_nothing_stays_after_a_broken_run(
    t2v: Case, t2v_shared: torch.Tensor, action: Callable[[], None], error: type[BaseException], call: int
) -> None:
    timeline = tiny_timeline(3)
    sessions: list[Any] = []
    spied = every_call(t2v.model, lambda options: sessions.append(options[KEY].run))
    patched, record = share(with_override(spied, stop_at(call, action)), timeline, SHARED)
    guider = comfy.samplers.CFGGuider(patched)
    guider.set_conds(beat_prompts(timeline), one_prompt())
    guider.set_cfg(3.0)
    options = guider.model_options
    noise = torch.randn(latent_shape(timeline), generator=torch.Generator().manual_seed(5))
    sigmas = torch.tensor([1.0, 0.5, 0.0])
    try:
        with pytest.raises(error), torch.inference_mode():
            guider.sample(noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), sigmas)
    finally:
        comfy.model_management.interrupt_current_processing(False)
    assert len(sessions[-1].bank) == 0
    assert sessions[-1].finish() == (None, None)
    assert record.latest() is None
    assert guider.model_options is options
    assert KEY not in options["transformer_options"]
    assert torch.equal(t2v.sample(patched, timeline), t2v_shared)


# Contract 3: never guess.


def block_with_extra_attention(query_tokens: int, key_tokens: int, block: int) -> dict[tuple[str, int], Any]:
    """A replacement of one transformer block, as packs make it, with an attention call of its own in front."""

    def replacement(arguments: dict[str, Any], extra: dict[str, Any]) -> Any:
        query = torch.zeros(arguments["img"].shape[0], query_tokens, 128)
        key = torch.zeros(arguments["img"].shape[0], key_tokens, 128)
        optimized_attention(query, key, key, heads=1, transformer_options=arguments["transformer_options"])
        return extra["original_block"](arguments)

    return {("double_block", block): replacement}


def with_extra_attention(model: Any, query_tokens: int, key_tokens: int, block: int) -> Any:
    """A clone whose block makes one attention call more, which changes nothing."""
    clone = model.clone()
    for place, replacement in block_with_extra_attention(query_tokens, key_tokens, block).items():
        clone.set_model_patch_replace(replacement, "dit", *place)
    return clone


@pytest.mark.parametrize(("query_tokens", "key_tokens"), [(TOKENS, 6), (5, 5), (TOKENS, 11)])
def test_an_attention_call_of_another_node_costs_that_call_and_is_named(
    t2v: Case, t2v_shared: torch.Tensor, query_tokens: int, key_tokens: int, caplog: pytest.LogCaptureFixture
) -> None:
    patched, _ = share(with_extra_attention(t2v.model, query_tokens, key_tokens, 0), tiny_timeline(3), SHARED)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(t2v.sample(patched, tiny_timeline(3)), t2v_shared)
    (message,) = [entry.getMessage() for entry in caplog.records if entry.name == "kvshare"]
    assert message.startswith("Mask-Guided KV Share: wan: an attention call has ")
    assert message.endswith("only that call is left unshared.")


@pytest.mark.parametrize("block", range(LAYERS))
def test_a_block_that_attends_to_the_video_twice_is_left_unshared_and_named(
    t2v: Case, block: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Either call could be the model's own."""
    timeline = tiny_timeline(3)
    patched, _ = share(with_extra_attention(t2v.model, TOKENS, TOKENS, block), timeline, SHARED, subject="")
    with caplog.at_level(logging.WARNING):
        found = t2v.sample(patched, timeline)
    rest = replace(SHARED, layer_idx=tuple(number for number in range(LAYERS) if number != block))
    assert torch.equal(found, t2v.sample(share(t2v.model, timeline, rest, subject="")[0], timeline))
    message, came_to = [entry.getMessage() for entry in caplog.records if entry.name == "kvshare"]
    assert message.endswith("its block is left unshared. Take that node off the model.")
    assert came_to.startswith(f"Mask-Guided KV Share: only {LAYERS - 1} of {LAYERS} blocks shared in ")
    assert came_to.endswith(" steps, for the reason above.")


def test_every_call_is_checked_by_its_own_shape(case: Case) -> None:
    family, _ = model_info(case.model)
    diffusion_model = case.model.get_model_object("diffusion_model")

    def classify(number: int, query_tokens: int, key_tokens: int) -> CallSite:
        query, key = torch.zeros(1, 1, query_tokens, 128), torch.zeros(1, 1, key_tokens, 128)
        call = AttentionCall(query, key, key)
        return family.classify(diffusion_model, number, call, video_tokens=TOKENS, text_tokens=6)

    cycle = (
        [("self", TOKENS), ("other", 257), ("cross", 6)] if case.image_to_video else [("self", TOKENS), ("cross", 6)]
    )
    for block in range(LAYERS):
        for place, (kind, key_tokens) in enumerate(cycle):
            number = block * len(cycle) + place
            assert classify(number, TOKENS, key_tokens) == CallSite(block, kind)
            for query_tokens, other_keys in ((TOKENS, 5), (TOKENS - 1, key_tokens)):
                if kind != "other" or query_tokens != TOKENS:
                    with pytest.raises(UnexpectedCallError):
                        classify(number, query_tokens, other_keys)
    with pytest.raises(UnexpectedCallError):
        classify(LAYERS * len(cycle), TOKENS, TOKENS)


def test_a_self_attention_with_a_mask_is_left_unshared_and_named(
    t2v: Case, t2v_windows: torch.Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    def add_mask(executor: Any, *args: Any, **kwargs: Any) -> Any:
        options = dict(args[5])
        inner = options["optimized_attention_override"]

        def override(function: Any, query: Any, key: Any, value: Any, **rest: Any) -> Any:
            return inner(function, query, key, value, **rest, mask=torch.zeros(query.shape[1], key.shape[1]))

        options["optimized_attention_override"] = override
        return executor(*args[:5], options, *args[6:], **kwargs)

    timeline = tiny_timeline(3)
    patched, _ = share(t2v.model, timeline, SHARED)
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "masks", add_mask)
    with caplog.at_level(logging.WARNING):
        output = t2v.sample(patched, timeline)
    torch.testing.assert_close(output, t2v_windows, rtol=0, atol=1e-4)
    messages = [entry.getMessage() for entry in caplog.records if entry.name == "kvshare"]
    said = "Take off guide frames, or the node that adds the mask."
    assert messages == [
        f"Mask-Guided KV Share: wan: {ODD_MASK}; it is left unshared. {said}",
        "Mask-Guided KV Share: nothing was shared, for the reason above.",
    ]


def test_a_direct_call_of_the_model_is_left_alone(t2v: Case, t2v_shared: torch.Tensor) -> None:
    """Some samplers call the model themselves, without the host's batching and without what it tells of a call."""
    outputs: list[torch.Tensor] = []

    def call_directly(executor: Any, guider: Any, *args: Any, **kwargs: Any) -> Any:
        latent, text = torch.ones(latent_shape(tiny_timeline(1))), random_text(1)
        options = guider.model_options["transformer_options"]
        assert KEY in options
        for given in ({}, options):
            outputs.append(
                guider.inner_model.apply_model(
                    latent, torch.tensor([0.7]), c_crossattn=text, transformer_options=dict(given)
                )
            )
        return executor(guider, *args, **kwargs)

    timeline = tiny_timeline(3)
    patched, _ = share(t2v.model, timeline, SHARED)
    patched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "direct", call_directly)
    assert torch.equal(t2v.sample(patched, timeline), t2v_shared)
    assert torch.equal(outputs[0], outputs[1])


@pytest.mark.parametrize("frames", [3, 6])
def test_a_latent_of_another_length_is_refused(t2v: Case, frames: int) -> None:
    timeline = tiny_timeline(2)
    patched, _ = share(t2v.model, timeline)
    with pytest.raises(ValueError, match=f"^Mask-Guided KV Share: the latent has {frames} .*plans 5 latent frames"):
        Sampling(1).run(patched, beat_prompts(timeline), one_prompt(), (1, 16, frames, 6, 6))


def test_conditioning_of_another_timeline_is_refused(t2v: Case) -> None:
    timeline = tiny_timeline(3)
    patched, _ = share(t2v.model, timeline)
    with pytest.raises(
        ValueError, match=r"Mask-Guided KV Share: the conditioning has prompts 1, 2.*timeline has 3 .*Connect"
    ):
        Sampling(1).run(patched, beat_prompts(tiny_timeline(2)), one_prompt(), latent_shape(timeline))
    with pytest.raises(ValueError, match=r"Mask-Guided KV Share: the conditioning has prompts 1, 2, 3, 4"):
        Sampling(1).run(patched, beat_prompts(tiny_timeline(4)), one_prompt(), latent_shape(timeline))


def test_two_prompts_of_one_beat_never_attend_to_each_others_keys(t2v: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in one batch nor where memory is short and each comes in a forward of its own."""
    timeline = tiny_timeline(2)
    one = [[random_text(20 + number, 6), {BEAT_TAG: number}] for number in range(2)]
    other = [[random_text(30 + number, 6), {BEAT_TAG: number}] for number in range(2)]
    patched, _ = share(t2v.model, timeline, SHARED, mask=torch.ones(1, 8, 8))

    def run(positive: list[Any]) -> torch.Tensor:
        return Sampling(1, cfg=1.0).run(patched, positive, one_prompt(), latent_shape(timeline))

    # One Euler step to zero returns the mean of what the two prompts give alone.
    mean = (run(one) + run(other)) / 2
    torch.testing.assert_close(run(one + other), mean, rtol=0, atol=1e-4)
    monkeypatch.setattr(t2v.model.model, "memory_usage_factor", 1e15)
    torch.testing.assert_close(run(one + other), mean, rtol=0, atol=1e-4)


def test_conditioning_for_a_part_of_the_picture_is_left_unshared(t2v: Case, caplog: pytest.LogCaptureFixture) -> None:
    timeline = tiny_timeline(2)
    shape, area = latent_shape(timeline), (timeline.latent_frames, 6, 4, 0, 0, 0)
    positive = beat_prompts(timeline)
    positive += [[text, {**extra, "area": area, "strength": 1.0}] for text, extra in positive]
    patched, _ = share(t2v.model, timeline, SHARED)
    off, _ = share(t2v.model, timeline, KVShareConfig(mode="off"), subject="")
    with caplog.at_level(logging.WARNING):
        output = Sampling().run(patched, positive, one_prompt(), shape)
    assert torch.isfinite(output).all()
    assert (output - Sampling().run(off, positive, one_prompt(), shape)).abs().max() > 0
    assert len([entry for entry in caplog.records if entry.name == "kvshare"]) == 1


# Contract 4: chain, never overwrite.


def test_overrides_set_before_and_after_ours_get_every_call(t2v: Case, t2v_shared: torch.Tensor) -> None:
    timeline = tiny_timeline(3)
    seen: dict[str, list[tuple[int, ...]]] = {"before": [], "after": []}

    def counting(name: str) -> Callable[..., Any]:
        def override(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            seen[name].append(tuple(args[1].shape))
            return function(*args, **kwargs)

        return override

    before, _ = share(with_override(t2v.model, counting("before")), timeline, SHARED)
    after = with_override(share(t2v.model, timeline, SHARED)[0], counting("after"))
    assert torch.equal(t2v.sample(before, timeline), t2v_shared)
    assert torch.equal(t2v.sample(after, timeline), t2v_shared)
    assert seen["before"] == seen["after"]
    # Two steps of three segments, each block with a self- and a cross-attention; shared calls come in smaller pieces.
    assert len(seen["before"]) > 2 * 3 * LAYERS * 2
    assert sum(shape[1] == 6 for shape in seen["before"]) == 2 * 3 * LAYERS


def test_an_override_that_changes_the_attention_keeps_its_effect(t2v: Case, t2v_shared: torch.Tensor) -> None:
    def halve(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) * 0.5

    timeline = tiny_timeline(3)
    before, _ = share(with_override(t2v.model, halve), timeline, SHARED)
    after = with_override(share(t2v.model, timeline, SHARED)[0], halve)
    assert torch.equal(t2v.sample(before, timeline), t2v.sample(after, timeline))
    assert (t2v.sample(before, timeline) - t2v_shared).abs().max() > 1e-4


@pytest.mark.parametrize("first", [True, False], ids=["theirs first", "ours first"])
def test_wrappers_of_other_packs_run_in_any_order(t2v: Case, t2v_shared: torch.Tensor, first: bool) -> None:
    timeline = tiny_timeline(3)
    calls: list[int] = []
    if first:
        model, _ = share(every_call(t2v.model, lambda _: calls.append(1)), timeline, SHARED)
    else:
        model = every_call(share(t2v.model, timeline, SHARED)[0], lambda _: calls.append(1))
    assert torch.equal(t2v.sample(model, timeline), t2v_shared)
    assert len(calls) == 2 * 3


def test_context_windows_of_another_pack_are_refused_in_any_order(t2v: Case) -> None:
    timeline = tiny_timeline(2)
    with pytest.raises(ValueError, match=r"model: it already has context windows \(PlainWindows\)"):
        share(PlainWindows(timeline).on(t2v.model), timeline)
    with pytest.raises(ValueError, match="Mask-Guided KV Share: a later node put other context windows"):
        t2v.sample(PlainWindows(timeline).on(share(t2v.model, timeline)[0]), timeline)


# Segments and conditioning.


def test_each_prompt_acts_on_the_frames_of_its_own_segments_only(case: Case) -> None:
    timeline = tiny_timeline(2, overlap=0)
    extra = image_conditioning(timeline) if case.image_to_video else {}
    patched, _ = share(case.model, timeline, KVShareConfig(mode="off"))
    positive = beat_prompts(timeline, **extra)
    changed = [positive[0], [random_text(77), positive[1][1]]]
    shape = latent_shape(timeline)
    one = Sampling().run(patched, positive, one_prompt(**extra), shape)
    other = Sampling().run(patched, changed, one_prompt(**extra), shape)
    assert torch.equal(one[:, :, :3], other[:, :, :3])
    assert (one[:, :, 3:] - other[:, :, 3:]).abs().amax((0, 1, 3, 4)).min() > 1e-4


def test_per_frame_images_are_cut_to_the_segment() -> None:
    case, timeline = Case(True), tiny_timeline(2, overlap=0)
    patched, _ = share(case.model, timeline, KVShareConfig(mode="off"))
    outputs: list[torch.Tensor] = []
    for last in (0.0, 1.0):
        extra = image_conditioning(timeline)
        extra["concat_latent_image"][:, :, 3:] = last
        outputs.append(
            Sampling().run(patched, beat_prompts(timeline, **extra), one_prompt(**extra), latent_shape(timeline))
        )
    assert torch.equal(outputs[0][:, :, :3], outputs[1][:, :, :3])
    assert (outputs[0][:, :, 3:] - outputs[1][:, :, 3:]).abs().max() > 1e-4


# Sharing is what the design says it is.


def dense(case: Case, timeline: Timeline, sharing: DenseSharing, **options: Any) -> torch.Tensor:
    """The run once more by `sharing`, without the pack's attention, masks, bank and segments."""
    return case.sample(PlainWindows(timeline, sharing).on(case.model), timeline, **options)


def dense_sharing(case: Case, config: KVShareConfig, *args: Any, **options: Any) -> DenseSharing:
    """What `dense` shares by, for the models of these tests."""
    family, _ = model_info(case.model)
    scheme = family.rope_scheme(case.model.get_model_object("diffusion_model"), {})
    assert scheme is not None
    return DenseSharing(config, LAYERS, GRID, scheme, *args, **options)


CONFIGS = [
    KVShareConfig(),
    KVShareConfig(position="same"),
    KVShareConfig(mode="extend", strength=1.0),
    KVShareConfig(strength=0.5, sources="previous"),
    KVShareConfig(mode="extend", strength=0.3, sources="first and previous", share_background=True),
    KVShareConfig(share_background=True, share_uncond=False),
    KVShareConfig(mode="extend", strength=4.0, sources="previous"),
]


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_sharing_by_a_given_mask_equals_a_dense_recomputation(case: Case, config: KVShareConfig) -> None:
    timeline = tiny_timeline(3)
    pictures = torch.zeros(timeline.frames, 3, 3)
    pictures[: timeline.frames // 2, :2] = 1
    pictures[timeline.frames // 2 :, 1:, 1:] = 1
    masks = [
        torch.stack(
            [
                pictures[slice(*timeline.picture_range(frame, frame + 1))].mean(0) >= 0.5
                for frame in range(segment.start, segment.stop)
            ]
        ).flatten()
        for segment in timeline.segments
    ]
    patched, _ = share(case.model, timeline, config, mask=pictures)
    found = case.sample(patched, timeline, steps=1)
    expected = dense(case, timeline, dense_sharing(case, config, masks), steps=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    windows = case.sample(PlainWindows(timeline).on(case.model), timeline, steps=1)
    assert (found - windows).abs().max() > 1e-3


@pytest.mark.parametrize("batch", [1, 2])
def test_masks_found_by_words_and_their_sharing_equal_a_dense_recomputation(case: Case, batch: int) -> None:
    timeline, config = tiny_timeline(3), SHARED
    patched, record = share(case.model, timeline, config)
    found = case.sample(patched, timeline, batch)
    subjects = make_plan(timeline, config, "fox", None).cast[0].tokens
    sharing = dense_sharing(case, config, subjects=subjects)
    torch.testing.assert_close(found, dense(case, timeline, sharing, batch=batch), rtol=0, atol=1e-4)
    recorded = record.latest()
    assert recorded is not None
    assert recorded.mask.shape == recorded.heat.shape == (batch, timeline.latent_frames, 3, 3)
    for row in range(batch):
        assert torch.equal(recorded.mask[row, 0].flatten().bool(), sharing.masks[0, row][:9])
        assert torch.equal(recorded.mask[row, -1].flatten().bool(), sharing.masks[2, row][-9:])


def test_sharing_without_a_subject_shares_everything(t2v: Case) -> None:
    timeline, config = tiny_timeline(3), KVShareConfig(mode="extend", strength=1.0)
    patched, record = share(t2v.model, timeline, config, subject="")
    sharing = dense_sharing(t2v, config, guided=False)
    torch.testing.assert_close(t2v.sample(patched, timeline), dense(t2v, timeline, sharing), rtol=0, atol=1e-4)
    assert record.latest() is None
    full, _ = share(t2v.model, timeline, config, mask=torch.ones(1, 8, 8))
    torch.testing.assert_close(t2v.sample(full, timeline), t2v.sample(patched, timeline), rtol=0, atol=1e-5)


def test_steps_and_blocks_outside_the_configuration_do_not_share(t2v: Case) -> None:
    timeline = tiny_timeline(2)
    seen: list[tuple[int, int]] = []
    model = every_call(
        t2v.model, lambda options: seen.append((options[KEY].run.shared_calls, len(options[KEY].run.bank)))
    )
    config = KVShareConfig(start_step=1, end_step=2, start_layer=1, end_layer=2)
    patched, _ = share(model, timeline, config, subject="")
    t2v.sample(patched, timeline, steps=3)
    # Before each of 3 steps x 2 segments: calls shared so far and keys held; one block of two rows, in step 1 only.
    assert seen == [(0, 0), (0, 0), (0, 0), (0, 2), (2, 0), (2, 0)]


# The host's ways to sample.


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_each_video_of_a_batch_equals_its_own_run(case: Case, cfg: float) -> None:
    timeline = tiny_timeline(2)
    patched, _ = share(case.model, timeline, SHARED)
    noise = torch.randn(latent_shape(timeline, 2), generator=torch.Generator().manual_seed(8))
    together = case.sample(patched, timeline, 2, noise=noise, cfg=cfg)
    for row in range(2):
        alone = case.sample(patched, timeline, noise=noise[row : row + 1], cfg=cfg)
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-4)


def test_maps_are_read_from_the_prompts_wherever_a_guider_puts_them(t2v: Case) -> None:
    """DualCFG asks for the negative conditioning first, CFG for the positive."""
    timeline = tiny_timeline(2)
    positive, heat = beat_prompts(timeline), list[torch.Tensor]()
    for guider_class, conds, cfg in (
        (comfy.samplers.CFGGuider, (positive, one_prompt()), (3.0,)),
        (Guider_DualCFG, (positive, one_prompt(55), one_prompt()), (3.0, 2.0)),
    ):
        patched, record = share(t2v.model, timeline, SHARED)
        guider = guider_class(patched)
        guider.set_conds(*conds)
        guider.set_cfg(*cfg)
        noise = torch.randn(latent_shape(timeline), generator=torch.Generator().manual_seed(5))
        sampler, sigmas = comfy.samplers.sampler_object("euler"), torch.tensor([1.0, 0.0])
        with torch.inference_mode():
            guider.sample(noise, torch.zeros_like(noise), sampler, sigmas)
        found = record.latest()
        assert found is not None
        heat.append(found.heat)
    torch.testing.assert_close(heat[0], heat[1], rtol=0, atol=1e-4)


def test_a_subject_in_conditioning_of_unknown_origin_is_not_guessed(
    t2v: Case, caplog: pytest.LogCaptureFixture
) -> None:
    timeline = tiny_timeline(2)
    patched, record = share(t2v.model, timeline, SHARED)
    with caplog.at_level(logging.WARNING):
        Sampling().run(patched, one_prompt(10), one_prompt(), latent_shape(timeline))
    assert record.latest() is None
    messages = [entry.getMessage() for entry in caplog.records if entry.name == "kvshare"]
    assert len(messages) == 2
    assert messages[0].startswith("Mask-Guided KV Share: the conditioning does not come from Long Video Segmenter")
    assert messages[1] == "Mask-Guided KV Share: nothing was shared, for the reason above."


@pytest.mark.parametrize(
    ("tokens", "memory_factor"), [(6, None), (7, None), (6, 1e15)], ids=["batched", "lengths 7 and 6", "low memory"]
)
def test_separate_and_batched_conditioning_give_the_same(
    t2v: Case, monkeypatch: pytest.MonkeyPatch, tokens: int, memory_factor: float | None
) -> None:
    timeline = tiny_timeline(2)
    batches: list[int] = []
    model = every_call(t2v.model, lambda options: batches.append(len(options["cond_or_uncond"])))
    patched, _ = share(model, timeline, SHARED)
    if memory_factor is not None:
        monkeypatch.setattr(t2v.model.model, "memory_usage_factor", memory_factor)
    found = t2v.sample(patched, timeline, tokens=tokens)
    assert set(batches) == {2 if (tokens, memory_factor) == (6, None) else 1}
    subjects = make_plan(timeline, SHARED, "fox", None).cast[0].tokens
    expected = dense(t2v, timeline, dense_sharing(t2v, SHARED, subjects=subjects), tokens=tokens)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "sampler", ["euler", "heun", "dpmpp_2m", "dpmpp_2s_ancestral", "uni_pc", "lcm", "dpm_2", "ddim"]
)
def test_stock_samplers_share(t2v: Case, sampler: str) -> None:
    timeline = tiny_timeline(2)
    steps: list[int] = []
    shared: list[int] = []

    def look(options: dict[str, Any]) -> None:
        shared.append(options[KEY].run.shared_calls)
        steps.append(len(options[KEY].run.bank))

    patched, record = share(every_call(t2v.model, look), timeline, SHARED)
    off, _ = share(t2v.model, timeline, KVShareConfig(mode="off"))
    output = t2v.sample(patched, timeline, steps=3, sampler=sampler)
    assert torch.isfinite(output).all()
    assert (output - t2v.sample(off, timeline, steps=3, sampler=sampler)).abs().max() > 1e-4
    assert shared[-1] > 0
    # Keys are held while the second segment runs, from the second pass on, and never longer.
    assert steps[::2] == [0] * (len(steps) // 2)
    assert record.latest() is not None


@pytest.mark.parametrize(("place", "keeps"), [("cpu", False), ("device", True), ("auto", True)])
def test_the_host_budgets_memory_for_one_segment_the_bank_and_a_shared_call(
    t2v: Case, caplog: pytest.LogCaptureFixture, place: Any, keeps: bool
) -> None:
    timeline = tiny_timeline(3)
    budgeted: list[tuple[int, int]] = []

    def look(executor: Any, model: Any, noise_shape: Any, *args: Any, **kwargs: Any) -> Any:
        one_frame = model.model.memory_required([*noise_shape[:2], 1, *noise_shape[3:]])
        budgeted.append((noise_shape[2] - timeline.window, one_frame))
        return executor(model, noise_shape, *args, **kwargs)

    config = KVShareConfig(memory=MemorySettings(place=place))
    patched, _ = share(t2v.model, timeline, config)
    patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "look", look)
    with caplog.at_level(logging.INFO, logger="kvshare"):
        assert t2v.sample(patched, timeline).shape[2] == timeline.latent_frames
    ((frames, one_frame),) = budgeted
    (said,) = [entry for entry in caplog.records if "while a block shares" in entry.getMessage()]
    assert isinstance(said.args, tuple)
    bank, call = (float(str(said.args[place])) * 2**20 for place in (-2, -1))
    assert bank > 0 and call > 0
    assert frames == math.ceil(round(call + keeps * bank) / one_frame)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("dtype", ["model", "fp8"])
@pytest.mark.parametrize("sources", ["first", "previous", "first and previous"])
@pytest.mark.parametrize("guidance", ["nothing", "mask", "words"])
def test_the_bank_of_a_run_holds_as_much_as_the_log_forecasts(
    t2v: Case, caplog: pytest.LogCaptureFixture, guidance: str, sources: Any, dtype: Any, cfg: float, batch: int
) -> None:
    timeline = tiny_timeline(4)
    config = KVShareConfig(
        sources=sources, share_background=True, token_dropout=0.25, memory=MemorySettings(dtype=dtype), start_layer=1
    )
    mask = torch.zeros(timeline.frames, 48, 48)
    mask[:, 10:30, :26] = 1
    banks: list[Any] = []
    model = every_call(t2v.model, lambda options: banks.append(options[KEY].run.bank))
    patched, _ = share(
        model, timeline, config, "fox" if guidance == "words" else "", mask if guidance == "mask" else None
    )
    with caplog.at_level(logging.INFO, logger="kvshare"):
        t2v.sample(patched, timeline, batch=batch, cfg=cfg)
    (said,) = [entry for entry in caplog.records if "MiB of keys and values" in entry.getMessage()]
    at_most, expected = ("at most" in said.getMessage(), said.args[-2])
    held = banks[-1].peak_bytes / 2**20
    assert at_most == (guidance == "words")
    assert held <= expected * 1.001 if at_most else abs(held - expected) <= 0.001 * expected


def test_a_model_of_no_known_family_is_refused(t2v: Case) -> None:
    model = t2v.model.clone()
    model.add_object_patch("diffusion_model", torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"the model is a Linear, but KV Share works with .* families: wan"):
        apply(model, make_plan(tiny_timeline(1), KVShareConfig(), "", None))
