"""Sharing beside what else people put on their models: compilation, step caches, extra guidance passes."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from comfy_extras.nodes_slg import SkipLayerGuidanceDiT

from kvshare_core.config import KVShareConfig
from tests.family_cases import CASES, FamilyCase, model_of
from tests.family_contracts import SHARED, sample
from tests.tiny_models import Sampling
from tests.windows import share, tiny_timeline


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
        for order in ("lockstep", "ditctrl"):
            config = KVShareConfig(order=order, sources="previous", share_background=True)
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
