"""The Wan layouts: attention calls, tokens around the video, two experts, and inputs that are refused."""

import importlib
from dataclasses import dataclass, replace
from typing import Any

import comfy.sample
import nodes
import pytest
import torch
from comfy.patcher_extension import WrappersMP

from kvshare_core.attention.rope import rotate
from kvshare_core.bank.bank import BankEntry, BankKey, KeyValueBank
from kvshare_core.config import KVShareConfig
from kvshare_core.families import UnsupportedModelError, find_family
from kvshare_core.families.base import AttentionCall, CallSite, UnexpectedCallError
from kvshare_core.families.wan import REFUSED, WanFamily
from kvshare_core.host import KEY
from kvshare_core.host.loading.model_info import model_info
from tests.support.family_cases import FamilyCase, model_of
from tests.support.present import present
from tests.support.windows import beat_prompts, latent_shape, share, tiny_timeline
from tests.tiny.models import Sampling, one_prompt, random_text, tiny_wan
from tests.tiny.wan_variants import BUILDERS, lacks, seeded, tiny_variant

EVERYTHING = KVShareConfig(position="same")

CYCLES = {
    "wan first and last frame": ["soc"] * 3,
    "wan 2.2 i2v": ["sc"] * 3,
    "wan fun control": ["soc"] * 3,
    "wan ti2v 5b": ["sc"] * 3,
    # Two of four blocks have a VACE block behind them, which runs for each of two controls.
    "wan vace": ["scoaoa", "sc", "scoaoa", "sc"],
    "wan camera": ["soc"] * 3,
    "wan humo": ["sco"] * 3,
    "wan animate": ["soc"] * 5,
    "wan phantom": ["sc"] * 3,
    "wan in context": ["sc"] * 3,
    "wan s2v": ["sc"] * 3,
}
"""Attention calls of each block: self, cross to the text, other."""

AROUND = {
    "wan fun control": (9, 0),
    "wan humo": (0, 9),
    "wan phantom": (0, 18),
    "wan in context": (0, 27 + 12),
    "wan s2v": (0, 9),
}
"""Tokens before and behind the video's 27, 0 and 0 where a layout is not named."""


@pytest.fixture(params=sorted(BUILDERS))
def case(request: pytest.FixtureRequest) -> FamilyCase:
    return present(request.param)


@dataclass(frozen=True)
class Seen:
    """One call as the family was asked about it."""

    index: int
    call: AttentionCall
    video_tokens: int
    text_tokens: int
    site: CallSite


def run(case: FamilyCase, model: Any, timeline: Any, **options: Any) -> torch.Tensor:
    sampling = Sampling(**{"steps": 1, "cfg": 1.0, **options})
    return sampling.run(model, case.positive(timeline), case.negative(timeline), case.shape(timeline))


def calls_of(case: FamilyCase, monkeypatch: pytest.MonkeyPatch) -> list[Seen]:
    """Every call of a step over two segments."""
    seen: list[Seen] = []
    classify = WanFamily.classify

    def look(family: WanFamily, model: Any, index: int, call: AttentionCall, video: int, text: int) -> CallSite:
        site = classify(family, model, index, call, video, text)
        seen.append(Seen(index, call, video, text, site))
        return site

    timeline = tiny_timeline(2)
    with monkeypatch.context() as patch:
        patch.setattr(WanFamily, "classify", look)
        run(case, share(model_of(case.name), timeline, EVERYTHING, subject="")[0], timeline)
    return seen


def test_every_call_is_known_and_checked_by_its_own_shape(case: FamilyCase, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = calls_of(case, monkeypatch)
    expected = [
        (block, {"s": "self", "c": "cross", "a": "aside", "o": "other"}[letter])
        for block, letters in enumerate(CYCLES[case.name])
        for letter in letters
    ]
    assert [(entry.site.block, entry.site.kind) for entry in seen] == expected * 2
    assert [entry.index for entry in seen] == [*range(len(expected))] * 2

    model = model_of(case.name).get_model_object("diffusion_model")
    family = WanFamily()
    for entry in seen[: len(expected)]:
        call = entry.call
        shorter = [replace(call, query=call.query[:, :, 1:])] if call.key_tokens != 16 else []
        if entry.site.kind != "other" or call.key_tokens == 16:
            shorter.append(replace(call, key=call.key[:, :, 1:], value=call.value[:, :, 1:]))
        for other in shorter:
            with pytest.raises(UnexpectedCallError):
                family.classify(model, entry.index, other, entry.video_tokens, entry.text_tokens)
    with pytest.raises(UnexpectedCallError, match="no block"):
        family.classify(model, len(expected), seen[0].call, seen[0].video_tokens, seen[0].text_tokens)


def test_the_video_stands_where_the_family_says(case: FamilyCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another noise changes the tokens of the video, and no others, in what the first block gets."""
    before, behind = AROUND.get(case.name, (0, 0))
    site = calls_of(case, monkeypatch)[0].site
    assert site.video_start == before

    timeline = tiny_timeline(2)
    model = share(model_of(case.name), timeline, KVShareConfig(mode="off"), subject="")[0]
    found: list[torch.Tensor] = []
    block = model.get_model_object("diffusion_model").blocks[0]
    hook = block.register_forward_pre_hook(lambda _, args: found.append(args[0].clone()))
    try:
        for seed in (1, 2):
            noise = seeded(seed, *case.shape(timeline))
            Sampling(1, cfg=1.0).run(
                model, case.positive(timeline), case.negative(timeline), case.shape(timeline), noise
            )
    finally:
        hook.remove()
    changed = (found[0] - found[2]).abs().amax(-1)[0] > 0
    assert changed.tolist() == [False] * before + [True] * 27 + [False] * behind


def test_reference_tokens_are_never_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    case, timeline = present("wan fun control"), tiny_timeline(2)
    calls = [entry.call for entry in calls_of(case, monkeypatch) if entry.site.kind == "self"]
    kept: list[BankEntry] = []
    put = KeyValueBank.put

    def look(bank: KeyValueBank, key: BankKey, entry: BankEntry, consumers: int) -> None:
        kept.append(entry)
        put(bank, key, entry, consumers)

    monkeypatch.setattr(KeyValueBank, "put", look)
    run(case, share(model_of(case.name), timeline, EVERYTHING, subject="")[0], timeline)
    assert [entry.subjects[0].key.shape[2] for entry in kept] == [27] * 3
    for entry, call in zip(kept, calls, strict=False):
        torch.testing.assert_close(entry.subjects[0].key, call.key[:, :, 9:])


# Positions.


@pytest.mark.parametrize("name", ["wan fun control", "wan humo", "wan phantom", "wan ti2v 5b"])
def test_moved_keys_are_the_models_own_at_the_new_place(name: str) -> None:
    present(name)
    model = model_of(name).get_model_object("diffusion_model")
    latent = seeded(1, 1, model.in_dim, 3, 6, 6)
    inputs = {
        "wan fun control": {"reference_latent": seeded(2, 1, 16, 6, 6)},
        "wan humo": {"reference_latent": seeded(2, 1, 16, 1, 6, 6)},
        "wan phantom": {"time_dim_concat": seeded(2, 1, 16, 2, 6, 6)},
    }.get(name, {})
    start = AROUND.get(name, (0, 0))[0]

    def video_keys(shift: int) -> torch.Tensor:
        keys: list[torch.Tensor] = []

        def look(function: Any, *args: Any, **kwargs: Any) -> Any:
            keys.append(args[1].unflatten(-1, (1, -1)).transpose(1, 2))
            return function(*args, **kwargs)

        options = {"rope_options": {"shift_t": float(shift)}, "optimized_attention_override": look}
        with torch.inference_mode():
            model(latent, torch.tensor([500.0]), random_text(1), transformer_options=options, **inputs)
        return keys[0][:, :, start : start + 27]

    scheme = WanFamily().rope_scheme(model, {})
    torch.testing.assert_close(
        rotate(video_keys(0), scheme, torch.tensor([5, 0, 0])), video_keys(5), rtol=1e-4, atol=1e-4
    )


# TI2V-5B.


def test_ti2v_5b_has_its_own_layout() -> None:
    _, info = model_info(model_of("wan ti2v 5b"))
    assert (info.compression, info.latent_channels, info.native_frames) == ((4, 16, 16), 48, 31)
    _, info = model_info(model_of("wan 2.2 i2v"))
    assert (info.compression, info.latent_channels, info.native_frames) == ((4, 8, 8), 16, 21)


def test_a_given_first_frame_is_kept_and_known_to_the_first_segment_only() -> None:
    timeline = tiny_timeline(3)
    model, seen = tiny_variant(channels=48), list[torch.Tensor]()

    def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs["denoise_mask"])
        return executor(*args, **kwargs)

    patched, _ = share(model, timeline, EVERYTHING, subject="")
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    shape = (1, 48, timeline.latent_frames, 6, 6)
    start = seeded(1, *shape)
    mask = torch.ones(1, 1, timeline.latent_frames, 6, 6)
    mask[:, :, 0] = 0
    positive, negative = beat_prompts(timeline), one_prompt()
    with torch.inference_mode():
        output = comfy.sample.sample(
            patched,
            seeded(2, *shape),
            2,
            1.0,
            "euler",
            "simple",
            positive,
            negative,
            start,
            noise_mask=mask,
            disable_pbar=True,
            seed=1,
        )
    assert [segment.shape[2] for segment in seen] == [3] * 6
    assert [float(segment[:, :, 0].max()) for segment in seen] == [0.0, 1.0, 1.0] * 2
    assert all(segment[:, :, 1:].min() == 1 for segment in seen)
    torch.testing.assert_close(output[:, :, 0], start[:, :, 0], rtol=1e-4, atol=1e-4)


# Wan 2.2 A14B: two models, one timeline.


@pytest.fixture(scope="module")
def expert() -> Any:
    return tiny_wan()


def half(model: Any, timeline: Any, latent: torch.Tensor, first: bool, steps: int = 4, cut: int = 2) -> torch.Tensor:
    """One of two advanced samplers in a row, as workflows of Wan 2.2 have them."""
    with torch.inference_mode():
        return nodes.KSamplerAdvanced().sample(
            model,
            "enable" if first else "disable",
            7,
            steps,
            3.0,
            "euler",
            "simple",
            beat_prompts(timeline),
            one_prompt(),
            {"samples": latent},
            0 if first else cut,
            cut if first else 10_000,
            "enable" if first else "disable",
        )[0]["samples"]


def both_halves(first: Any, second: Any, timeline: Any, cut: int = 2) -> torch.Tensor:
    leftover = half(first, timeline, torch.zeros(latent_shape(timeline)), True, cut=cut)
    return half(second, timeline, leftover, False, cut=cut)


def whole(model: Any, timeline: Any) -> torch.Tensor:
    return half(model, timeline, torch.zeros(latent_shape(timeline)), True, cut=4)


WINDOWS = [
    KVShareConfig(),
    KVShareConfig(start_percent=0.0, end_percent=0.3),
    KVShareConfig(start_percent=0.3, end_percent=1.0),
    KVShareConfig(mode="extend", end_percent=0.6, strength=1.0),
]


@pytest.mark.parametrize("config", WINDOWS)
def test_two_samplers_with_one_model_equal_one_sampler(expert: Any, config: KVShareConfig) -> None:
    """Windows are parts of the noise schedule, so it does not matter which sampler a step is in."""
    timeline = tiny_timeline(2)
    model = share(expert, timeline, config, subject="")[0]
    found = both_halves(model, model, timeline)
    off = share(expert, timeline, KVShareConfig(mode="off"), subject="")[0]
    torch.testing.assert_close(found, whole(model, timeline), rtol=1e-4, atol=1e-4)
    assert (found - both_halves(off, off, timeline)).abs().max() > 1e-4


def sharing_sigmas(expert: Any, timeline: Any, config: KVShareConfig) -> list[list[float]]:
    """Sigmas at which each of two samplers in a row shares."""
    shared: list[list[float]] = []

    def watched() -> Any:
        mine: list[float] = []
        shared.append(mine)

        def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
            session = args[5][KEY].run
            before = session.shared_calls
            output = executor(*args, **kwargs)
            if session.shared_calls > before:
                mine.append(round(float(args[5]["sigmas"][0]), 4))
            return output

        model = share(expert, timeline, config, subject="")[0]
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
        return model

    both_halves(watched(), watched(), timeline)
    return [sorted(set(mine), reverse=True) for mine in shared]


def test_windows_of_the_schedule_span_both_samplers_and_steps_count_in_each(expert: Any) -> None:
    timeline = tiny_timeline(2)
    every = sharing_sigmas(expert, timeline, KVShareConfig())
    assert [len(sigmas) for sigmas in every] == [2, 2]
    assert max(every[1]) < min(every[0])
    sampling = expert.get_model_object("model_sampling")
    limit = float(sampling.percent_to_sigma(0.3))
    early = sharing_sigmas(expert, timeline, KVShareConfig(end_percent=0.3))
    assert early == [[sigma for sigma in sigmas if sigma >= limit] for sigmas in every]
    assert early[0] and not early[1]
    by_step = sharing_sigmas(expert, timeline, KVShareConfig(step_idx=(0,)))
    assert by_step == [every[0][:1], every[1][:1]]


def test_two_experts_share_each_for_itself(expert: Any) -> None:
    timeline = tiny_timeline(2)
    other = tiny_variant(layers=2)
    off = KVShareConfig(mode="off")
    outputs = {
        (first, second): both_halves(
            share(expert, timeline, first, subject="")[0], share(other, timeline, second, subject="")[0], timeline
        )
        for first in (off, EVERYTHING)
        for second in (off, EVERYTHING)
    }
    assert all(torch.isfinite(output).all() for output in outputs.values())
    kinds = list(outputs.values())
    assert all(not torch.equal(one, two) for place, one in enumerate(kinds) for two in kinds[:place])


# Animate and S2V.


def test_the_face_of_animate_is_read_and_its_adapter_is_no_call_of_ours() -> None:
    case, timeline = present("wan animate"), tiny_timeline(2, window=2, overlap=0)
    faces: list[Any] = []

    def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
        face = kwargs.get("face_pixel_values")
        faces.append(None if face is None else tuple(face.shape))
        return executor(*args, **kwargs)

    # The video of the face ends with the first segment.
    pixels = seeded(9, 1, 3, 4, 512, 512)
    with_face = replace(case, per_video=lambda timeline: {**case.per_video(timeline), "face_video_pixels": pixels})
    patched = share(model_of(case.name), timeline, EVERYTHING, subject="")[0]
    without = run(case, patched, timeline)
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    difference = (run(with_face, patched, timeline) - without).abs()
    assert faces == [(1, 3, 4, 512, 512), None]
    # The second segment has no face, and sees the first one's keys.
    assert difference[:, :, :2].max() > 1e-4 and difference[:, :, 2:].max() > 1e-6


def test_frames_before_a_s2v_video_are_counted() -> None:
    present("wan s2v")
    model = model_of("wan s2v").get_model_object("diffusion_model")
    lengths: list[int] = []

    def look(function: Any, *args: Any, **kwargs: Any) -> Any:
        lengths.append(args[0].shape[1])
        return function(*args, **kwargs)

    motion = seeded(1, 1, 16, 19, 16, 16)
    with torch.inference_mode():
        model(
            seeded(2, 1, 16, 3, 16, 16),
            torch.tensor([500.0]),
            random_text(1),
            reference_motion=motion,
            transformer_options={"optimized_attention_override": look},
        )
    sequence = torch.zeros(1, 1, lengths[0], 128)
    call = AttentionCall(sequence, sequence, sequence, inputs={"reference_motion": (tuple(motion.shape),)})
    assert WanFamily().classify(model, 0, call, 3 * 64, 6) == CallSite(0, "self")


# Refusals.


def refused(kind: type) -> str:
    """What an artist reads who loads a model of that class."""
    with pytest.raises(UnsupportedModelError) as error:
        find_family(kind.__new__(kind), 16)
    return str(error.value)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_models_that_cannot_share_are_refused_in_words(name: str) -> None:
    for module in ("model", "model_animate2", "model_wandancer", "ar_model"):
        try:
            kind = getattr(importlib.import_module(f"comfy.ldm.wan.{module}"), name, None)
        except ImportError:
            continue
        if kind is not None:
            assert refused(kind).startswith("this is ") and "Load " in refused(kind)
            return
    pytest.skip(f"the host has no {name}")


def test_s2v_is_refused_where_the_host_hides_its_attention() -> None:
    from comfy.ldm.wan.model import WanModel_S2V

    if lacks("wan s2v") is None:
        assert model_info(model_of("wan s2v"))[1].native_frames == 20
    else:
        assert "this version of ComfyUI does not let other nodes change its attention" in refused(WanModel_S2V)


def test_an_unknown_wan_is_refused_by_name() -> None:
    from comfy.ldm.wan.model import WanModel

    class WanOfTomorrow(WanModel):
        pass

    assert "the model is a WanOfTomorrow" in refused(WanOfTomorrow)
