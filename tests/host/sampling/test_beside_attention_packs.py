"""Sharing beside packs that change a model's attention: guidance with calls of its own, overrides, replaced blocks."""

import logging
from dataclasses import replace
from typing import Any, get_args

import comfy.samplers
import pytest
import torch

from kvshare_core.config import KVShareConfig, MaskKind, MaskSettings
from tests.support.family_cases import CASES, model_of
from tests.support.family_contracts import SHARED, sample
from tests.support.neighbours import TurnedGuider, with_changed_calls, with_negative_guidance
from tests.support.windows import PlainWindows, share, tiny_timeline
from tests.tiny.models import random_text

CASE = CASES["wan t2v"]
TIMELINE = tiny_timeline(3)
NEGATIVE = random_text(77, 6)


def messages_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.name == "kvshare"]


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("ours_first", [False, True])
def test_a_film_with_negative_guidance_shares_as_one_without(
    cfg: float, ours_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Guidance that goes nowhere makes all its calls and changes nothing."""

    def film(config: KVShareConfig, share_of_guidance: float | None) -> torch.Tensor:
        def guided(model: Any) -> Any:
            if share_of_guidance is None:
                return model
            return with_negative_guidance(model, NEGATIVE, 5.0, share_of_guidance)

        model = model_of(CASE.name)
        made = guided(share(model, TIMELINE, config)[0]) if ours_first else share(guided(model), TIMELINE, config)[0]
        return sample(CASE, made, TIMELINE, steps=3, cfg=cfg)

    off = replace(SHARED, mode="off")
    caplog.set_level(logging.WARNING)
    plain, unshared = film(SHARED, None), film(off, None)
    assert messages_of(caplog) == []
    neutral = film(SHARED, 0.0)
    messages = messages_of(caplog)
    assert len(messages) == (1 if cfg == 1 else 2)
    assert all(message.endswith("only that call is left unshared.") for message in messages)
    torch.testing.assert_close(neutral, plain, rtol=1e-3, atol=1e-3)
    assert (plain - unshared).abs().max() > 1e-2 * plain.abs().max()
    guided, apart = film(SHARED, 0.5), film(off, 0.5)
    assert (guided - apart).abs().max() > 1e-2 * guided.abs().max()
    windows = sample(
        CASE,
        PlainWindows(TIMELINE).on(with_negative_guidance(model_of(CASE.name), NEGATIVE, 5.0)),
        TIMELINE,
        steps=3,
        cfg=cfg,
    )
    torch.testing.assert_close(apart, windows, rtol=1e-3, atol=1e-3)


def guided_film(guider: Any, steps: int = 4, cfg: float = 3.0) -> torch.Tensor:
    guider.set_conds(CASE.positive(TIMELINE), CASE.negative(TIMELINE))
    guider.set_cfg(cfg)
    noise = torch.randn(CASE.shape(TIMELINE), generator=torch.Generator().manual_seed(5))
    sigmas = torch.linspace(1.0, 0.0, steps + 1)
    with torch.inference_mode():
        return guider.sample(noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), sigmas, seed=5)


@pytest.mark.parametrize("kind", get_args(MaskKind))
def test_a_guider_that_turns_its_lists_round_shares_as_the_stock_one(kind: MaskKind) -> None:
    config = replace(SHARED, masks=MaskSettings(kind=kind))
    model, record = share(model_of(CASE.name), TIMELINE, config)
    expected = guided_film(comfy.samplers.CFGGuider(model))
    torch.testing.assert_close(guided_film(TurnedGuider(model)), expected, rtol=1e-3, atol=1e-3)
    assert record.notices() == ()
    off = guided_film(comfy.samplers.CFGGuider(share(model_of(CASE.name), TIMELINE, replace(config, mode="off"))[0]))
    assert (expected - off).abs().max() > 1e-2 * off.abs().max()


def test_a_guider_that_drops_the_negative_list_shares_in_the_rows_that_are_left() -> None:
    model, record = share(model_of(CASE.name), TIMELINE, SHARED)
    dropped = guided_film(TurnedGuider(model, drops_below=0.6))
    assert record.notices() == ()
    kept = model.clone()

    def guide(arguments: dict[str, Any]) -> torch.Tensor:
        x, prompt, negative = arguments["input"], arguments["cond_denoised"], arguments["uncond_denoised"]
        scale = 1.0 if float(arguments["timestep"][0]) < 0.6 else 3.0
        return x - (negative + (prompt - negative) * scale)

    kept.set_model_sampler_cfg_function(guide)
    torch.testing.assert_close(dropped, guided_film(comfy.samplers.CFGGuider(kept)), rtol=1e-3, atol=1e-3)


def split_heads(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    return tensor.unflatten(-1, (heads, -1)).transpose(1, 2)


CHANGES: dict[str, Any] = {
    "keywords": lambda q, k, v, heads, **named: ((), {**named, "q": q, "k": k, "v": v, "heads": heads}),
    "packed": lambda q, k, v, heads, **named: ((torch.stack([q, k, v]), heads), named),
    "no heads": lambda q, k, v, heads, **named: ((q, k, v), named),
    "heads first": lambda q, k, v, heads, **named: ((heads, q, k, v), named),
    "heads of each": lambda q, k, v, heads, **named: ((q, k, v, [heads] * 3), named),
    "too many heads": lambda q, k, v, heads, **named: ((q, k, v, q.shape[-1] + 1), named),
    "mask by name": lambda q, k, v, heads, **named: ((q, k, v, heads, "causal"), named),
    "two masks": lambda q, k, v, heads, **named: ((q, k, v, heads, None), {**named, "mask": None}),
    "scale": lambda q, k, v, heads, **named: ((q, k, v, heads), {**named, "scale": "auto"}),
    "layout by position": lambda q, k, v, heads, **named: ((q, k, v, heads, None, None, False), named),
    "split, unsaid": lambda q, k, v, heads, **named: ((*(split_heads(t, heads) for t in (q, k, v)), heads), named),
    "flat, said split": lambda q, k, v, heads, **named: ((q, k, v, heads), {**named, "skip_reshape": True}),
    "frames apart": lambda q, k, v, heads, **named: ((*(t.unsqueeze(1) for t in (q, k, v)), heads), named),
    "keys of fewer rows": lambda q, k, v, heads, **named: ((q, k[:0], v[:0], heads), named),
    "values of other tokens": lambda q, k, v, heads, **named: ((q, k, v[:, 1:], heads), named),
}


@pytest.mark.parametrize("ours_first", [False, True])
@pytest.mark.parametrize("name", CHANGES)
def test_calls_with_unknown_arguments_are_left_as_they_are_with_one_notice(name: str, ours_first: bool) -> None:
    def film(config: KVShareConfig, change: Any = None) -> tuple[torch.Tensor, tuple[str, ...]]:
        def changed(model: Any) -> Any:
            return model if change is None else with_changed_calls(model, change)

        model = model_of(CASE.name)
        given = model if ours_first else changed(model)
        patched, record = share(given, TIMELINE, config)
        return sample(CASE, changed(patched) if ours_first else patched, TIMELINE, steps=3), record.notices()

    unshared, _ = film(replace(SHARED, mode="off"))
    found, (notice, closing) = film(SHARED, CHANGES[name])
    assert torch.equal(found, unshared)
    assert notice.startswith("wan: an attention call ") and "it is left unshared. Another node makes it" in notice
    assert closing == "nothing was shared, for the reason above."


def test_calls_in_another_form_that_is_known_share_as_ever() -> None:
    def film(change: Any = None) -> torch.Tensor:
        model = model_of(CASE.name)
        patched = share(model if change is None else with_changed_calls(model, change), TIMELINE, SHARED)[0]
        return sample(CASE, patched, TIMELINE, steps=3)

    def turned(q: Any, k: Any, v: Any, heads: int, **named: Any) -> Any:
        return (q, k, v, heads, None), {**named, "scale": (q.shape[-1] // heads) ** -0.5}

    torch.testing.assert_close(film(turned), film(), rtol=1e-4, atol=1e-5)
