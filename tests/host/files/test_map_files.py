"""Masks and attention maps as files: complete, equal to what the run found, and never outside the output folder."""

import json
import sys
from pathlib import Path
from typing import Any

import folder_paths
import imageio.v3 as imageio
import pytest
import safetensors
import torch

from kvshare_core.embedded.model import CROSS_ATTENTION, JOINT_ATTENTION, load_embedded
from kvshare_core.host.files import map_files
from kvshare_core.host.files.map_files import CONTENT
from kvshare_core.record.record import KVShareRecord
from tests.support.node_calls import NODES, run_node, segmenter_inputs
from tests.support.present import known
from tests.tiny.models import Sampling


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    monkeypatch.setattr(folder_paths, "output_directory", str(folder))
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    return folder


def mask_settings(**changes: Any) -> Any:
    """The configuration of the defaults with those mask settings."""
    schema = NODES["KVShareConfig"].GET_SCHEMA()
    defaults = {item.id: item.default for item in schema.inputs if not item.optional}
    (config,) = run_node("KVShareConfig", **defaults)
    settings = NODES["KVShareMaskSettings"].GET_SCHEMA().inputs
    given = {item.id: item.default for item in settings if item.id != "config" and not item.optional}
    return run_node("KVShareMaskSettings", config=config, **given, **changes)[0]


def film(kind: Any, subject: str = "circle", **changes: Any) -> tuple[KVShareRecord, torch.Tensor]:
    """The record of two steps of two beats, and as many frames, each brighter than the last."""
    embedded = load_embedded(known(kind))
    timeline, positive, negative, latent, _ = run_node(
        "LongVideoSegmenter", **segmenter_inputs(embedded.model, embedded.clip)
    )
    model, record = run_node(
        "MaskGuidedKVShare",
        model=embedded.model,
        timeline=timeline,
        subject=subject,
        config=mask_settings(keep_maps="all", map_layer_idx="0, 2", **changes),
    )
    Sampling(2).run(model, positive, negative, tuple(latent["samples"].shape))
    # Of equal frames WebP keeps one.
    shades = torch.linspace(0.2, 0.8, timeline.frames)
    return record, shades[:, None, None, None].expand(-1, 48, 48, 3).clone()


def preview(record: KVShareRecord, images: torch.Tensor, **inputs: Any) -> Any:
    return NODES["AttentionMaskPreview"].EXECUTE_NORMALIZED(record=record, images=images, opacity=0.5, **inputs)


@pytest.mark.parametrize("kind", [CROSS_ATTENTION, JOINT_ATTENTION])
def test_a_run_s_masks_and_maps_are_files_below_the_output_folder(output: Path, kind: Any) -> None:
    record, images = film(kind)
    answer = preview(record, images, mask_save_dir="films/maps ")
    folder = output / "films" / "maps" / "run_00001"
    with safetensors.safe_open(folder / "maps.safetensors", "pt") as opened:
        told = json.loads(opened.metadata()[CONTENT])
        numbers = {name: opened.get_tensor(name) for name in opened.keys()}
    found = record.findings()
    assert found.masks is not None
    assert torch.equal(numbers["heat"], found.masks.heat) and torch.equal(numbers["subject0.mask"], found.masks.mask)
    assert told["subjects"] == ["circle"] and told["prompts"][0] == "a red circle moves right"
    segments = len(found.masks.timeline.segments)
    assert [(one["segment"], one["step"], one["block"]) for one in told["maps"]] == [
        (segment, 1, block) for segment in range(segments) for block in (0, 2)
    ]
    joint = kind == JOINT_ATTENTION
    for kept, one in zip(found.maps, told["maps"], strict=True):
        kinds = {"text_video", "spatial", "temporal"} | ({"text_text"} if joint else set())
        assert set(kept.found()) == kinds
        for name, values in kept.found().items():
            assert torch.equal(numbers[f"{one['name']}.{name}"], values)
        assert [0, "red"] in one["words"] or [1, "grass"] in one["words"]
        assert kept.text_video is not None and kept.text_video.shape[1] == len(one["words"])
    names = {path.name for path in folder.iterdir()}
    assert {"maps.safetensors", "heat.webp", "subject0_circle_heat.png", "subject0_circle_mask.png"} <= names
    assert len(names) == 4 + sum(len(kept.found()) for kept in found.maps)
    shown = list(imageio.imiter(folder / "heat.webp", plugin="pillow"))
    assert len(shown) == len(images)
    expected = answer.result[0][0].numpy() * 255
    assert abs(shown[0][..., :3].astype(float) - expected).mean() < 12
    (saved,) = [file for file in answer.ui["kvshare_saved"] if file["filename"] == "heat.webp"]
    assert saved == {"filename": "heat.webp", "subfolder": "films/maps/run_00001", "type": "output"}


def test_every_run_has_a_folder_of_its_own_and_no_folder_saves_nothing(output: Path) -> None:
    record, images = film(CROSS_ATTENTION)
    preview(record, images)
    assert list(output.iterdir()) == []
    for _ in range(2):
        preview(record, images, mask_save_dir="maps")
    assert [path.name for path in sorted((output / "maps").iterdir())] == ["run_00001", "run_00002"]


def test_maps_are_saved_without_a_subject_too(output: Path) -> None:
    record, images = film(CROSS_ATTENTION, subject="")
    answer = preview(record, images, mask_save_dir="maps")
    assert torch.equal(answer.result[0], images) and not answer.result[1].any()
    names = {path.name for path in (output / "maps" / "run_00001").iterdir()}
    assert "segment0_step01_block00_temporal.png" in names and not any("subject" in name for name in names)
    with pytest.raises(ValueError, match="found a subject"):
        preview(record, images)


@pytest.mark.parametrize(
    "folder",
    ["../maps", "/tmp/maps", "a/../../maps", "C:\\maps", "..\\maps", "maps\0", "\\\\server\\maps", "link/maps"],
)
def test_a_folder_outside_the_output_folder_is_refused(output: Path, tmp_path: Path, folder: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (output / "link").symlink_to(tmp_path / "elsewhere")
    record = film(CROSS_ATTENTION)[0]
    images = torch.zeros(record.latest().timeline.frames, 48, 48, 3)  # pyright: ignore[reportOptionalMemberAccess]
    with pytest.raises(ValueError, match=r"Attention Mask Preview: mask_save_dir: .*leads out of the output folder"):
        preview(record, images, mask_save_dir=folder)
    assert list((tmp_path / "elsewhere").iterdir()) == [] and not (tmp_path / "maps").exists()


def test_a_folder_that_is_a_file_is_refused(output: Path) -> None:
    (output / "maps").write_text("", encoding="utf-8")
    record, images = film(CROSS_ATTENTION)
    with pytest.raises(ValueError, match="mask_save_dir: 'maps' cannot be made"):
        preview(record, images, mask_save_dir="maps")


def test_without_imageio_it_says_what_to_install(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, images = film(CROSS_ATTENTION)
    monkeypatch.setitem(sys.modules, "imageio.v3", None)
    with pytest.raises(ValueError, match="pip install imageio"):
        preview(record, images, mask_save_dir="maps")
    assert list(output.iterdir()) == []


def test_subjects_names_become_plain_file_names() -> None:
    assert map_files._plain("red fox") == "red_fox"
    assert map_files._plain("../a/b") == "a_b" and map_files._plain("狐") == "狐" and map_files._plain("?") == "subject"
