"""The contracts of the design, kept by HunyuanVideo's joint attention on the real host."""

import gc
import logging
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from comfy.patcher_extension import WrappersMP

from kvshare_core.config import DITCTRL, KVShareConfig, MaskSettings, MemorySettings
from kvshare_core.host import KEY
from kvshare_core.timeline.timeline import Timeline
from tests.support.windows import PlainWindows, joint_beat_prompts, latent_shape, share, tiny_timeline
from tests.tiny.models import Sampling, joint_text, tiny_hunyuan

TEXT = 7
THRESHOLD = MaskSettings(kind="threshold", thres=0.3, rim=0)
SHARING = {
    "shipped": KVShareConfig(),
    "in place": KVShareConfig(position="same"),
    "extend": KVShareConfig(mode="extend", strength=1.0),
    "replace": KVShareConfig(mode="replace", strength=1.0),
    "weighted": KVShareConfig(strength=2.5),
    "partly replaced": KVShareConfig(mode="replace", strength=0.4),
    "background": KVShareConfig(share_background=True, sources="first and previous"),
    "gap": KVShareConfig(position="gap", position_gap=3),
    "matched": KVShareConfig(position="matched"),
    "frame": KVShareConfig(position="frame", masks=MaskSettings(start="maps")),
    "dropout": KVShareConfig(token_dropout=0.5),
    "fp8": KVShareConfig(memory=MemorySettings(dtype="fp8")),
    "threshold masks": KVShareConfig(masks=THRESHOLD),
    "the paper": replace(DITCTRL, start_step=0, end_step=9, start_layer=1, end_layer=4),
}


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_hunyuan()


def sample(model: Any, timeline: Timeline, batch: int = 1, real: int | None = None, **options: Any) -> torch.Tensor:
    tensor, extra = joint_text(99, options.pop("negative_tokens", TEXT))
    return Sampling(**options).run(
        model, joint_beat_prompts(timeline, TEXT, real), [[tensor, dict(extra)]], latent_shape(timeline, batch)
    )


@pytest.mark.parametrize("config", SHARING.values(), ids=SHARING.keys())
def test_one_segment_equals_the_stock_host_bit_for_bit(model: Any, config: KVShareConfig) -> None:
    timeline = tiny_timeline(1)
    assert torch.equal(sample(share(model, timeline, config)[0], timeline), sample(model, timeline))


def test_every_way_to_switch_off_gives_plain_windows(model: Any) -> None:
    timeline = tiny_timeline(2)
    off = [KVShareConfig(mode="off"), KVShareConfig(strength=0), KVShareConfig(step_idx=(99,))]
    off += [KVShareConfig(start_percent=0.0, end_percent=1e-9)]
    outputs = [sample(share(model, timeline, config)[0], timeline) for config in off]
    assert all(torch.equal(output, outputs[0]) for output in outputs)
    torch.testing.assert_close(outputs[0], sample(PlainWindows(timeline).on(model), timeline), rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", SHARING.values(), ids=SHARING.keys())
def test_sharing_changes_the_later_segments_and_leaves_the_first(model: Any, config: KVShareConfig) -> None:
    timeline = tiny_timeline(2, overlap=0)
    windows = sample(PlainWindows(timeline).on(model), timeline)
    shared = sample(share(model, timeline, config)[0], timeline)
    assert torch.isfinite(shared).all()
    torch.testing.assert_close(shared[:, :, :3], windows[:, :, :3], rtol=0, atol=1e-4)
    assert (shared[:, :, 3:] - windows[:, :, 3:]).abs().max() > 1e-3


def test_the_settings_differ_from_one_another(model: Any) -> None:
    timeline = tiny_timeline(3)
    outputs = {name: sample(share(model, timeline, config)[0], timeline) for name, config in SHARING.items()}
    names = list(outputs)
    alike = [
        (one, other)
        for place, one in enumerate(names)
        for other in names[place + 1 :]
        if (outputs[one] - outputs[other]).abs().max() < 1e-4
    ]
    assert alike == []


@pytest.mark.parametrize("config", SHARING.values(), ids=SHARING.keys())
def test_batches_and_guidance_in_every_form(model: Any, config: KVShareConfig) -> None:
    timeline = tiny_timeline(2)
    patched, _ = share(model, timeline, config)
    together = sample(patched, timeline)
    # Texts of other lengths cannot be batched: the host then evaluates the two conditionings one after the other.
    apart = sample(patched, timeline, negative_tokens=5)
    assert torch.isfinite(apart).all() and (apart - together).abs().max() > 1e-3
    assert torch.equal(sample(patched, timeline), together)
    pair = sample(patched, timeline, batch=2)
    assert pair.shape[0] == 2 and torch.isfinite(pair).all()
    alone = sample(patched, timeline, cfg=1.0)
    assert torch.isfinite(alone).all()


def test_every_latent_of_a_batch_shares_with_itself(model: Any) -> None:
    timeline = tiny_timeline(2)
    patched, _ = share(model, timeline, KVShareConfig(share_background=True))
    noise = torch.randn(latent_shape(timeline, 2), generator=torch.Generator().manual_seed(5))
    tensor, extra = joint_text(99, TEXT)
    runs = [
        Sampling().run(patched, joint_beat_prompts(timeline, TEXT), [[tensor, dict(extra)]], part.shape, part)
        for part in (noise, noise[:1], noise[1:])
    ]
    torch.testing.assert_close(runs[0], torch.cat(runs[1:]), rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", ["extend", "replace", "weighted", "threshold masks", "the paper"])
def test_padding_of_a_prompt_changes_nothing(model: Any, name: str) -> None:
    """Hidden tokens of other content give the same video: nobody ever looks at them."""
    timeline = tiny_timeline(2)
    patched, _ = share(model, timeline, SHARING[name])
    outputs: list[torch.Tensor] = []
    for scale in (0.0, 1.0):
        conditioning = joint_beat_prompts(timeline, TEXT, 5)
        for entry in conditioning:
            # The host's text modulation averages all tokens, padding too: the padding's sum stays the same.
            entry[0] = entry[0].clone()
            entry[0][:, 5] += scale
            entry[0][:, 6] -= scale
        tensor, extra = joint_text(99, 5)
        outputs.append(Sampling().run(patched, conditioning, [[tensor, dict(extra)]], latent_shape(timeline)))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-4)


def test_another_override_stays_in_use(model: Any) -> None:
    calls = 0

    def override(function: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return function(*args, **kwargs)

    timeline = tiny_timeline(2)
    other = model.clone()
    other.model_options["transformer_options"]["optimized_attention_override"] = override
    for config in SHARING.values():
        calls = 0
        found = sample(share(other, timeline, config)[0], timeline)
        assert calls > 0
        torch.testing.assert_close(found, sample(share(model, timeline, config)[0], timeline), rtol=0, atol=1e-3)


def test_nothing_stays_after_a_run(model: Any) -> None:
    sessions: list[weakref.ref[Any]] = []

    def spy(executor: Any, *args: Any, **kwargs: Any) -> Any:
        sessions.append(weakref.ref(args[5][KEY].run))
        return executor(*args, **kwargs)

    timeline = tiny_timeline(2)
    for config in SHARING.values():
        patched, _ = share(model, timeline, config)
        patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "spy", spy)
        sample(patched, timeline)
    gc.collect()
    assert {session() for session in sessions} == {None}


def test_steps_that_no_run_reaches_are_reported(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    timeline = tiny_timeline(2)
    with caplog.at_level(logging.WARNING):
        sample(share(model, timeline, KVShareConfig(start_step=50))[0], timeline)
    (message,) = [entry.getMessage() for entry in caplog.records if entry.name == "kvshare"]
    assert message.startswith("Mask-Guided KV Share: nothing was shared: none of this run's steps")
