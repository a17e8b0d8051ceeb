"""Sharing together with what other packs add to a model: compilation, step caches, extra guidance passes."""

from dataclasses import replace
from typing import Any, get_args

import comfy.samplers
import pytest
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_custom_sampler import (
    BasicGuider,
    BasicScheduler,
    CFGGuider,
    DualCFGGuider,
    KSamplerSelect,
    RandomNoise,
    SamplerCustomAdvanced,
)
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from comfy_extras.nodes_slg import SkipLayerGuidanceDiT

from kvshare_core.config import ORDERS, KVShareConfig, MaskKind, MaskSettings
from tests.support.family_cases import CASES, FamilyCase, model_of
from tests.support.family_contracts import SHARED, sample
from tests.support.windows import PlainWindows, share, tiny_timeline
from tests.tiny.models import Sampling


@pytest.fixture(params=["wan t2v", "hunyuan video"])
def case(request: pytest.FixtureRequest) -> FamilyCase:
    return CASES[request.param]


def test_a_compiled_model_shares_as_an_eager_one_and_its_plain_runs_stay_right(case: FamilyCase) -> None:
    timeline = tiny_timeline(2)
    compiled = model_of(case.name).clone()
    set_torch_compile_wrapper(compiled, backend="eager")
    off, late = KVShareConfig(mode="off"), KVShareConfig(step_idx=(1,))
    try:
        for config in (off, late, SHARED, late, off):
            # Without a subject nothing is watched in unshared steps: they run the compiled graph.
            found = sample(case, share(compiled, timeline, config, subject="")[0], timeline)
            expected = sample(case, share(model_of(case.name), timeline, config, subject="")[0], timeline)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    finally:
        torch.compiler.reset()


@pytest.mark.parametrize("node", [EasyCacheNode, LazyCacheNode])
def test_step_caches_skip_forwards_and_nothing_breaks(case: FamilyCase, node: Any) -> None:
    timeline = tiny_timeline(3)
    cached = node.execute(model_of(case.name), 0.9, 0.15, 0.95, False).result[0]
    forwards: list[int] = []

    def count(function: Any, *args: Any, **kwargs: Any) -> Any:
        forwards.append(1)
        return function(*args, **kwargs)

    counts: list[int] = []
    for model in (model_of(case.name), cached):
        counted = model.clone()
        counted.model_options["transformer_options"]["optimized_attention_override"] = count
        forwards.clear()
        for order in ORDERS:
            config = replace(SHARED, order=order, sources="previous")
            assert torch.isfinite(sample(case, share(counted, timeline, config)[0], timeline, steps=6)).all()
        counts.append(len(forwards))
    assert counts[1] < counts[0]


@pytest.mark.parametrize("sampler", ["euler_cfg_pp", "dpmpp_2m_cfg_pp"])
def test_samplers_that_look_at_the_unconditional_prediction(case: FamilyCase, sampler: str) -> None:
    timeline = tiny_timeline(2)
    model, off = (share(model_of(case.name), timeline, config)[0] for config in (SHARED, KVShareConfig(mode="off")))
    run = Sampling(sampler=sampler, cfg=1.5).run
    outputs = [
        run(patched, case.positive(timeline), case.negative(timeline), case.shape(timeline)) for patched in (model, off)
    ]
    assert torch.isfinite(outputs[0]).all()
    assert not torch.equal(*outputs)


def test_a_pass_of_skip_layer_guidance_does_not_count_as_the_subjects_map() -> None:
    case, timeline = CASES["wan t2v"], tiny_timeline(2)
    skipping = SkipLayerGuidanceDiT.execute(model_of(case.name), 3.0, 0.0, 1.0, double_layers="1").result[0]
    masks: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []
    for model in (model_of(case.name), skipping):
        patched, record = share(model, timeline, SHARED)
        outputs.append(sample(case, patched, timeline, steps=1))
        found = record.latest()
        assert found is not None
        masks.append(found.heat)
    assert not torch.equal(*outputs)
    assert torch.equal(*masks)


@pytest.mark.parametrize("sampler", comfy.samplers.SAMPLER_NAMES)
def test_every_sampler_of_the_host_shares(case: FamilyCase, sampler: str) -> None:
    _shares(case, sampler=sampler)


@pytest.mark.parametrize("scheduler", comfy.samplers.SCHEDULER_NAMES)
def test_every_scheduler_of_the_host_shares(case: FamilyCase, scheduler: str) -> None:
    _shares(case, scheduler=scheduler)


def _shares(case: FamilyCase, **options: Any) -> None:
    timeline = tiny_timeline(2)
    shared, off = (
        sample(case, share(model_of(case.name), timeline, config)[0], timeline, steps=3, **options)
        for config in (SHARED, KVShareConfig(mode="off"))
    )
    assert torch.isfinite(shared).all()
    assert (shared - off).abs().max() > 1e-3 * off.abs().max()


def test_the_advanced_sampler_node_gives_what_the_plain_one_gives(case: FamilyCase) -> None:
    timeline = tiny_timeline(2)
    model = share(model_of(case.name), timeline, SHARED)[0]
    positive, negative = case.positive(timeline), case.negative(timeline)
    latent = torch.zeros(case.shape(timeline))
    noise = RandomNoise.execute(5).result[0]
    sigmas = BasicScheduler.execute(model, "simple", 2, 1.0).result[0]

    def advanced(guider: Any) -> torch.Tensor:
        sampler = KSamplerSelect.execute("euler").result[0]
        with torch.inference_mode():
            node = SamplerCustomAdvanced.execute(noise, guider.result[0], sampler, sigmas, {"samples": latent})
        return node.result[0]["samples"]

    def plain(cfg: float) -> torch.Tensor:
        start = noise.generate_noise({"samples": latent})
        return Sampling(cfg=cfg, seed=5).run(model, positive, negative, case.shape(timeline), start)

    assert torch.equal(advanced(CFGGuider.execute(model, positive, negative, 3.0)), plain(3.0))
    assert torch.equal(advanced(BasicGuider.execute(model, positive)), plain(1.0))
    # With one prompt in both places, dual guidance is guidance towards it by the second scale.
    dual = DualCFGGuider.execute(model, positive, positive, negative, 2.0, 3.0, "regular")
    torch.testing.assert_close(advanced(dual), plain(3.0), rtol=1e-3, atol=1e-3)


def test_perturbed_attention_finds_nothing_to_perturb_and_adds_nothing(case: FamilyCase) -> None:
    """The node replaces attention in a block that only UNets have; its extra pass must then equal the pass before it,
    with the same masks, for any difference would be guidance away from sharing."""
    timeline = tiny_timeline(2)
    perturbed = PerturbedAttentionGuidance.execute(model_of(case.name), 3.0).result[0]
    off = sample(case, share(perturbed, timeline, KVShareConfig(mode="off"))[0], timeline, steps=3)
    windows = sample(case, PlainWindows(timeline).on(perturbed), timeline, steps=3)
    torch.testing.assert_close(off, windows, rtol=1e-4, atol=1e-4)
    for kind in get_args(MaskKind):
        config = KVShareConfig(share_background=True, masks=MaskSettings(kind=kind))
        found = sample(case, share(perturbed, timeline, config)[0], timeline, steps=3)
        expected = sample(case, share(model_of(case.name), timeline, config)[0], timeline, steps=3)
        assert (expected - off).abs().max() > 1e-3 * off.abs().max()
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
