"""Which models' attention calls are told by their block, and which can only be counted."""

from typing import Any

import pytest
import torch

from kvshare_core.config import KVShareConfig
from kvshare_core.families.base import AttentionCall
from kvshare_core.forward.forward import Forward
from kvshare_core.host.sampling.attention_override import tells_blocks
from kvshare_core.session.sampling_run import SamplingRun
from tests.support.family_cases import CASES, FamilyCase, HostLacksFamilyError, model_of
from tests.support.family_contracts import sample
from tests.support.windows import share

COUNTED = {"cogvideox", "cosmos"}
"""Families that no host tells the block of, and whose blocks cannot be replaced."""


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_the_block_is_told_where_the_model_attends_to_the_video(
    case: FamilyCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        model = model_of(case.name)
    except HostLacksFamilyError as lacking:
        pytest.skip(str(lacking))
    found: list[tuple[int | None, set[int]]] = []
    original = SamplingRun.attend

    def attend(run: SamplingRun, forward: Forward, call: AttentionCall, backend: Any) -> torch.Tensor | None:
        before = len(forward.cache.met)
        output = original(run, forward, call, backend)
        if len(forward.cache.met) > before:
            block = forward.cache.block
            found.append((None if block is None else block.index, set(forward.cache.met)))
        return output

    monkeypatch.setattr(SamplingRun, "attend", attend)
    timeline = case.timeline(2)
    sample(case, share(model, timeline, KVShareConfig(), subject="")[0], timeline, steps=1)
    newer = tells_blocks(type(model.get_model_object("diffusion_model")))
    counted = case.family in COUNTED or (case.family == "cosmos_predict2" and not newer)
    assert found and all((index is None) == counted for index, _ in found)
    assert {max(met) for _, met in found} == set(range(1 + max(max(met) for _, met in found)))
