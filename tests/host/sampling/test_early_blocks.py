"""In the paper's order the blocks before the first shared one are computed once for both evaluations of a segment, and
nothing comes out differently."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from kvshare_core.config import DITCTRL, KVShareConfig, MaskSettings
from kvshare_core.host.sampling.patch import apply
from kvshare_core.plan.making import make_plan
from kvshare_core.plan.share_plan import SharePlan
from kvshare_core.session import early_blocks
from tests.support.family_cases import CASES, HostLacksFamilyError, model_of
from tests.support.family_contracts import sample
from tests.tiny.wan_variants import BUILDERS

SEGMENTS = 4
PAPER = replace(DITCTRL, start_step=0, end_step=-1, start_layer=2, end_layer=-1)
"""Shares behind two blocks."""


class Calls:
    """An attention function of another pack, which counts the calls of every block and passes them on."""

    def __init__(self) -> None:
        self.of_block: Counter[Any] = Counter()

    def __call__(self, function: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        options = kwargs.get("transformer_options") or {}
        self.of_block[options.get("block_type", "double"), options.get("block_index")] += 1
        return function(*args, **kwargs)

    def on(self, model: Any) -> Any:
        """A clone of `model` that attends so."""
        clone = model.clone()
        clone.model_options["transformer_options"]["optimized_attention_override"] = self
        return clone


def run(
    name: str, config: KVShareConfig, subject: str = "fox", look: str = "", **changes: Any
) -> tuple[torch.Tensor, torch.Tensor | None, Calls]:
    """What a film on the tiny model of that layout becomes, the mask that was found, and the calls that it took."""
    case, calls = CASES[name], Calls()
    try:
        model = model_of(name)
    except HostLacksFamilyError as reason:
        pytest.skip(str(reason))
    timeline = case.timeline(SEGMENTS)
    patched, record = apply(calls.on(model), make_plan(timeline, config, subject, None, look))
    found = sample(case, patched, timeline, steps=2, **changes)
    masks = record.latest()
    return found, None if masks is None else masks.heat, calls


def never(plan: SharePlan) -> bool:
    return False


@pytest.fixture
def twice(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """To have everything computed twice."""
    with monkeypatch.context() as patch:
        yield patch


def both(name: str, config: KVShareConfig, patch: pytest.MonkeyPatch, **inputs: Any) -> tuple[Calls, Calls]:
    """Checks that a film is the same with every block computed twice; the calls of both ways."""
    found, heat, calls = run(name, config, **inputs)
    patch.setattr(early_blocks, "_same_in_both", never)
    expected, expected_heat, every = run(name, config, **inputs)
    assert torch.equal(found, expected)
    assert (heat is None) == (expected_heat is None)
    assert heat is None or expected_heat is None or torch.equal(heat, expected_heat)
    return calls, every


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("subject", ["fox", ""])
@pytest.mark.parametrize("name", ["wan t2v", "hunyuan video", "mochi", "ltxv"])
def test_early_blocks_are_computed_once(name: str, subject: str, cfg: float, twice: pytest.MonkeyPatch) -> None:
    calls, every = both(name, PAPER, twice, subject=subject, cfg=cfg)
    # Of two evaluations of each inner segment, two blocks in each of two steps.
    each = 2 if name in ("wan t2v", "ltxv") else 1
    assert every.of_block.total() - calls.of_block.total() == (SEGMENTS - 2) * 2 * 2 * each


def test_a_boundary_among_blocks_of_the_second_kind(twice: pytest.MonkeyPatch) -> None:
    calls, every = both("hunyuan video", replace(PAPER, start_layer=3), twice)
    fewer = every.of_block - calls.of_block
    assert set(fewer) == {("double", 0), ("double", 1), ("single", 0)}


@pytest.mark.parametrize(
    ("config", "look"),
    [
        (replace(PAPER, masks=MaskSettings("contrast")), ""),
        (replace(PAPER, masks=replace(PAPER.masks, ref_token_idx=(0,), cur_token_idx=(1,))), ""),
        (PAPER, "0.5, 0.5, 3"),
        (replace(PAPER, start_layer=0), ""),
    ],
    ids=["masks of the clip", "other places of the text", "a point", "no early block"],
)
def test_where_both_evaluations_count_everything_is_computed_twice(
    config: KVShareConfig, look: str, twice: pytest.MonkeyPatch
) -> None:
    subject = "" if config.masks.ref_token_idx else "fox"
    calls, every = both("hunyuan video", config, twice, subject=subject, look=look)
    assert calls.of_block == every.of_block


def test_a_model_without_replaceable_blocks_or_with_calls_between_them_computes_everything_twice(
    twice: pytest.MonkeyPatch,
) -> None:
    between = next(name for name in BUILDERS if "vace" in name)
    for name in ("cogvideox", between):
        with twice.context() as patch:
            calls, every = both(name, PAPER, patch)
            assert calls.of_block == every.of_block


def test_another_nodes_replacement_of_a_block_stays(twice: pytest.MonkeyPatch) -> None:
    replaced: list[int] = []

    def replacement(arguments: Any, extra: Any) -> Any:
        replaced.append(0)
        return extra["original_block"](arguments)

    case = CASES["hunyuan video"]
    model = model_of(case.name).clone()
    model.set_model_patch_replace(replacement, "dit", "double_block", 0)
    timeline = case.timeline(SEGMENTS)
    sample(case, apply(model, make_plan(timeline, PAPER, "fox", None))[0], timeline, steps=1)
    assert len(replaced) == 2 * (SEGMENTS - 1)
