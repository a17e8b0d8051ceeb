"""Measured presets: their files, what they put on a configuration, and which models refuse them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from devtools.environment import ROOT
from kvshare_core import VERSION
from kvshare_core.config import DITCTRL, KVShareConfig, MaskSettings, MeasuredModel
from kvshare_core.host.files.preset_chart import draw_chart
from kvshare_core.host.files.preset_files import SUFFIX, file_names, fingerprint, load, save
from kvshare_core.probe.figures import BlockFigures, ProbeSettings
from kvshare_core.probe.measured_preset import CONTENT, MeasuredPreset, preset_of, read_preset
from tests.support.windows import share, tiny_timeline
from tests.tiny.models import tiny_wan

FIGURES = st.integers(1, 6).flatmap(
    lambda count: st.tuples(
        *(
            st.builds(
                BlockFigures,
                st.just(block),
                *[st.tuples(*[st.floats(-1, 1)] * 2)] * 2,
                st.floats(0, 2),
                st.none() | st.floats(0, 2),
                *[st.floats(0, 2)] * 2,
                st.floats(-1, 1),
            )
            for block in range(count)
        )
    )
)


def made_of(figures: tuple[BlockFigures, ...], family: str = "wan") -> MeasuredPreset:
    model = MeasuredModel(family, len(figures))
    return preset_of(model, "WanModel", "a fox runs", "fox", ProbeSettings(seed=7), figures)


def preset(blocks: int = 3, family: str = "wan") -> MeasuredPreset:
    """The last block is for masks, the first two are for sharing."""
    pulls = [0.5 if block < 2 else 0.0 for block in range(blocks)]
    return made_of(
        tuple(
            BlockFigures(block, (float(block == blocks - 1),) * 2, (0.1, 0.1), 0.3, 0.2, 0.4, 0.01, pull)
            for block, pull in enumerate(pulls)
        ),
        family,
    )


def test_files_name_the_version_of_the_pack() -> None:
    assert f'version = "{VERSION}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert json.loads(preset().to_json())[CONTENT]["version"] == VERSION


@given(FIGURES)
def test_a_preset_comes_back_from_json(figures: tuple[BlockFigures, ...]) -> None:
    made = made_of(figures)
    assert read_preset(made.to_json()) == made


def test_a_preset_is_a_table_and_a_chart() -> None:
    made = preset()
    lines = made.table().splitlines()
    assert lines[:3] == ["WanModel, wan with 3 blocks", "masks: blocks 2", "share: blocks 0-1"]
    assert len(lines) == 4 + 3
    chart = draw_chart(made)
    assert chart.shape[0] == 1 and chart.shape[-1] == 3
    assert 0 <= float(chart.min()) < float(chart.max()) <= 1
    without_positions = replace(made, figures=tuple(replace(found, moved=None) for found in made.figures))
    assert draw_chart(without_positions).shape[1] < chart.shape[1]
    assert " - " in without_positions.table()


# On a configuration.


def test_a_preset_chooses_the_blocks_and_keeps_the_rest() -> None:
    config = KVShareConfig(mode="replace", strength=0.5, start_layer=1, masks=MaskSettings(thres=0.7))
    masks = replace(config.masks, attn_map_layer_idx=(2,))
    assert preset().put_on(config) == replace(
        config, layer_idx=(0, 1), masks=masks, measured_on=MeasuredModel("wan", 3)
    )


def test_blocks_for_masks_that_are_named_stay() -> None:
    named = KVShareConfig(masks=MaskSettings(attn_map_layer_idx=(1,)))
    assert preset().put_on(named).masks == named.masks
    assert preset().put_on(DITCTRL).masks == DITCTRL.masks
    assert preset().put_on(DITCTRL).layer_idx == (0, 1)


@pytest.mark.parametrize("other", [preset(4), preset(3, "hunyuan")])
def test_another_model_refuses_the_blocks(other: MeasuredPreset) -> None:
    model, timeline = tiny_wan(), tiny_timeline(2)
    share(model, timeline, preset(3).put_on(KVShareConfig()))
    with pytest.raises(ValueError, match=r"config: .* measured on .* but this model is wan with 3 blocks\. Load"):
        share(model, timeline, other.put_on(KVShareConfig()))


# Files.


def test_saved_presets_are_listed_and_none_is_written_over(folders: Path) -> None:
    names = [save(preset(), "presets/fox") for _ in range(2)]
    assert names == [f"presets/fox_0000{number}_{SUFFIX} [output]" for number in (1, 2)]
    (folders / "output" / f"presets/fox_00001_{SUFFIX}").rename(folders / "input" / f"mine{SUFFIX}")
    assert file_names() == [f"mine{SUFFIX}", names[1]]
    assert load(f"mine{SUFFIX}") == load(names[1]) == preset()
    before = fingerprint(names[1])
    (folders / "output" / f"presets/fox_00002_{SUFFIX}").write_text(preset(12).to_json(), encoding="utf-8")
    assert fingerprint(names[1]) != before


@pytest.mark.parametrize("name", [f"../secret{SUFFIX}", f"../secret{SUFFIX} [output]", "other.json", f"none{SUFFIX}"])
def test_nothing_outside_the_folders_is_read(folders: Path, name: str) -> None:
    for file in (folders / f"secret{SUFFIX}", folders / "input" / "other.json"):
        file.write_text(preset().to_json(), encoding="utf-8")
    with pytest.raises(ValueError, match=r"file: there is no .* Save one with KV Sharing Probe"):
        load(name)


def spoiled(change: Any) -> str:
    content = json.loads(preset().to_json())
    change(content[CONTENT])
    return json.dumps(content)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"a":' * 100_000,
        '{"kvshare_preset": ' + "[" * 50_000 + "]" * 50_000 + "}",
        '{"kvshare_preset": []}',
        spoiled(lambda content: content.pop("figures")),
        spoiled(lambda content: content["presets"].pop()),
        spoiled(lambda content: content["presets"][0].update(blocks=[3])),
        spoiled(lambda content: content["presets"][0].update(blocks=[])),
        spoiled(lambda content: content["presets"][0].update(blocks=["0"])),
        spoiled(lambda content: content["settings"].update(steps=0)),
    ],
)
def test_a_file_of_another_kind_is_refused(folders: Path, text: str) -> None:
    (folders / "input" / f"a{SUFFIX}").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"file: a\.kvshare\.json was not written by KV Sharing Probe"):
        load(f"a{SUFFIX}")


def test_a_chart_is_drawn_for_figures_that_are_all_nothing() -> None:
    nothing = made_of((BlockFigures(0, (0.0, 0.0), (0.0, 0.0), 0.0, None, 0.0, 0.0, 0.0),))
    assert torch.isfinite(draw_chart(nothing)).all()
