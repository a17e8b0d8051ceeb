"""Block presets of each model, and the fallback for models without one."""

import importlib
import logging
import pkgutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.released import RELEASED, released_info
from kvshare_core import families
from kvshare_core.config import DITCTRL, LAYER_PRESETS, KVShareConfig, MaskSettings
from kvshare_core.families import wan
from kvshare_core.families.block_presets import FALLBACK, GENERAL, BlockPreset, best_preset, for_model, preset_lines
from kvshare_core.plan.schedule import shared_blocks
from tests.support.family_cases import CASES, model_of
from tests.support.windows import share, tiny_timeline
from tests.tiny.models import Sampling

Table = Mapping[tuple[int, int], tuple[BlockPreset, ...]]

TABLES: dict[str, Table] = {
    name: module.PRESETS
    for _, name, _ in pkgutil.iter_modules(families.__path__)
    if hasattr(module := importlib.import_module(f"kvshare_core.families.{name}"), "PRESETS")
}
OF_MODELS = [
    pytest.param(size, presets, id=f"{family} {size[0]}")
    for family, table in TABLES.items()
    for size, presets in table.items()
]


@pytest.mark.parametrize(("size", "presets"), OF_MODELS)
def test_every_preset_names_blocks_that_its_model_has(size: tuple[int, int], presets: tuple[BlockPreset, ...]) -> None:
    for preset in presets:
        assert preset.blocks and tuple(sorted(set(preset.blocks))) == preset.blocks
        assert 0 <= preset.blocks[0] <= preset.blocks[-1] < size[0]
        assert 0.0 <= preset.percent[0] < preset.percent[1] <= 1.0
        assert preset.source and "\n" not in preset.source
    assert len({preset.purpose for preset in presets}) == len(presets)


SHARED_IN_RELEASED: dict[str, tuple[int, ...]] = {
    "CogVideoX-2B": tuple(range(25, 30)),
    "CogVideoX-5B": (0, 1, 11, 12, 13, 14, 15, 17, 19, 20, 21, 23, 29, 34, 41),
    "Wan 2.1-1.3B": tuple(range(20, 30)),
}


@pytest.mark.parametrize("released", RELEASED, ids=lambda released: released.name)
def test_a_released_model_gets_the_blocks_that_were_found_in_it_and_no_others(released: Any) -> None:
    try:
        info = released_info(released)
    except ModuleNotFoundError as missing:
        pytest.skip(f"this host has no {missing.name}")
    found = [blocks for name, blocks in SHARED_IN_RELEASED.items() if released.name.startswith(name)]
    expected = found[0] if found else GENERAL["middle"].of(info.blocks).blocks
    assert shared_blocks(KVShareConfig(layer_preset="family"), info.blocks, info.presets) == expected


def test_the_papers_model_gets_the_papers_blocks_and_steps() -> None:
    preset = best_preset(TABLES["cogvideox"][30, 30], "share")
    assert preset is not None
    assert preset.blocks == tuple(range(DITCTRL.start_layer, DITCTRL.end_layer))
    assert preset.percent == (DITCTRL.start_step / 50, DITCTRL.end_step / 50)
    assert preset.confidence == "published"


PRESETS = (
    BlockPreset("share", (1, 2), "published", "a paper", (0.1, 0.6)),
    BlockPreset("masks", (0, 1), "inferred", "another paper"),
)


@pytest.mark.parametrize("name", [name for name in LAYER_PRESETS if name != "family"])
def test_other_choices_keep_their_blocks_in_every_model(name: Any) -> None:
    config = KVShareConfig(layer_preset=name, layer_idx=(3,), start_layer=2)
    assert for_model(config, ()) == config
    found = for_model(config, PRESETS)
    assert found == replace(config, masks=found.masks)
    assert found.masks.attn_map_layer_idx == (0, 1)


def test_where_nothing_is_known_the_middle_shares_and_all_maps_are_read() -> None:
    config = KVShareConfig(layer_preset="family", start_layer=7, layer_idx=(9,))
    assert for_model(config, ()) == replace(config, layer_preset="middle")
    assert FALLBACK in GENERAL


def test_known_blocks_replace_those_of_the_inputs() -> None:
    config = KVShareConfig(layer_preset="family", start_layer=7, layer_idx=(9,))
    assert shared_blocks(config, 4, PRESETS) == (1, 2)
    chosen = for_model(config, PRESETS)
    assert shared_blocks(chosen, 4) == (1, 2)
    assert chosen.masks.attn_map_layer_idx == (0, 1)


@pytest.mark.parametrize(
    "masks", [MaskSettings(attn_map_layer_idx=(3,)), MaskSettings(kind="threshold", thres=0.5, rim=0)]
)
@pytest.mark.parametrize("name", LAYER_PRESETS)
def test_blocks_for_masks_are_not_overridden_nor_taken_from_the_paper_s_threshold(
    masks: MaskSettings, name: Any
) -> None:
    assert for_model(KVShareConfig(layer_preset=name, masks=masks), PRESETS).masks == masks


def test_presets_have_their_confidence_and_source() -> None:
    assert preset_lines(PRESETS, 3) == {
        "layer_preset family": "1-2, from 10% to 60% (published: a paper)",
        "blocks for masks": "0-1 (inferred: another paper)",
        "layer_preset late": "2 (inferred: the last sixth, which DiTCtrl shares in CogVideoX-2B)",
        "layer_preset middle": "1 (inferred: where identity and correspondence were found in several models)",
    }
    assert preset_lines((), 3)["layer_preset family"].startswith("as middle; ")


def sampled(config: KVShareConfig) -> torch.Tensor:
    case, timeline = CASES["wan t2v"], tiny_timeline(2)
    model, _ = share(model_of(case.name), timeline, config)
    return Sampling().run(model, case.positive(timeline), case.negative(timeline), case.shape(timeline))


def test_a_run_shares_the_blocks_known_of_its_model(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    family = KVShareConfig(layer_preset="family")
    assert torch.equal(sampled(family), sampled(KVShareConfig(layer_preset="middle")))
    with monkeypatch.context() as patch, caplog.at_level(logging.INFO):
        patch.setitem(wan.PRESETS, (3, 1), (BlockPreset("share", (0, 2), "measured", "this test"),))
        known = sampled(family)
    assert torch.equal(known, sampled(KVShareConfig(layer_idx=(0, 2))))
    assert not torch.equal(known, sampled(KVShareConfig(layer_preset="middle")))
    assert any("shares blocks 0, 2, holds" in message for message in caplog.messages)
