"""Files that users have stay loadable, whatever is renamed in the code.

The files in golden/ were written before formats had numbers. They hold one of everything that can be stored.
"""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch

from kvshare_core.host.files import preset_files, run_files
from kvshare_core.plain_values import TENSOR, from_document, from_plain, to_document, to_plain
from kvshare_core.probe import measured_preset

GOLDEN = Path(__file__).with_name("golden")
RUN = GOLDEN / "run_unversioned.kvshare.safetensors"
PRESET = GOLDEN / "preset_unversioned.kvshare.json"

RUN_NAMES = {
    "": "batch_index format masks noise_mask samples timeline",
    "timeline": (
        "beats blend_weights fps frame_cycle native_window noise overlap script segments temporal_compression window"
    ),
    "timeline.script": "beats common_prompt common_until loop negative prompt subjects",
    "timeline.script.beats": "duration loras negative prompt seed_offset sources strength subjects transition weights",
    "timeline.script.beats.duration": "unit value",
    "timeline.script.beats.transition": "duration gap kind segments",
    "timeline.script.beats.transition.duration": "unit value",
    "timeline.script.beats.transition.gap": "unit value",
    "timeline.script.beats.subjects": "name sources words",
    "timeline.script.beats.loras": "file strength",
    "timeline.script.subjects": "name sources words",
    "timeline.beats": "gap prompt script start stop words",
    "timeline.beats.words": "joined positions words",
    "timeline.segments": "beat fall index length mix next_beat rise shown start texts",
    "timeline.segments.texts": "beat weights",
    "masks": "course heat mask segments subjects timeline",
    "masks.subjects": "heat mask name tokens",
    "masks.subjects.tokens": "others subject",
    "masks.segments": "effects examples masks names",
    "masks.segments.examples": "rest subject",
    "masks.course": "masks step",
}
"""The names in a run file, by the path to them; `masks.timeline` has those of `timeline`, and `timeline.beats.script`
those of `timeline.script.beats`. A name may be added. To rename a field in the code, keep its name here: see
plain_values."""

PRESET_NAMES = {
    "": "figures format model model_class presets prompt settings subject version",
    "model": "blocks family",
    "settings": "cfg noise_levels scheduler seed steps",
    "figures": "agreement alone beside block contrast moved pull within",
    "presets": "blocks confidence percent purpose source",
}


def names_in(plain: Any, path: str = "") -> dict[str, str]:
    """The names of the fields in plain values, by the path to them."""
    if isinstance(plain, list):
        return {key: names for item in plain for key, names in names_in(item, path).items()}
    if not isinstance(plain, dict) or set(plain) == {TENSOR}:
        return {}
    found = {path: " ".join(sorted(plain))}
    for name, item in plain.items():
        found |= names_in(item, f"{path}.{name}".removeprefix("."))
    return found


def within(names: dict[str, str], path: str) -> dict[str, str]:
    """Those of `names` that lie at and below `path`, by the path from there."""
    return {place.removeprefix(path): found for place, found in names.items() if place.startswith(path)}


def kept(earlier: Any, later: Any) -> Any:
    """`later` without the names that `earlier` lacks."""
    if isinstance(earlier, dict):
        return {name: kept(earlier[name], item) for name, item in later.items() if name in earlier}
    if isinstance(earlier, list) and len(earlier) == len(later):
        return [kept(one, other) for one, other in zip(earlier, later, strict=True)]
    return later


def opened(path: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    """The JSON and the tensors of a run file."""
    with safetensors.safe_open(str(path), framework="pt") as file:
        return json.loads(file.metadata()[run_files.CONTENT]), {name: file.get_tensor(name) for name in file.keys()}


@pytest.fixture
def saved_again(folders: Path) -> Path:
    """The golden run file, loaded and saved."""
    shutil.copy(RUN, folders / "input")
    subfolder, name = run_files.save(run_files.load(RUN.name), "again")
    return folders / "output" / subfolder / name


def test_a_run_file_is_saved_again_as_it_was(saved_again: Path) -> None:
    (before, tensors), (after, tensors_after) = opened(RUN), opened(saved_again)
    assert kept(before, after) == before
    assert tensors.keys() == tensors_after.keys()
    for name, tensor in tensors.items():
        assert tensors_after[name].dtype == tensor.dtype
        assert torch.equal(tensors_after[name], tensor)


def test_the_names_in_a_run_file_stay(saved_again: Path) -> None:
    content, tensors = opened(saved_again)
    names = names_in(content)
    assert within(names, "masks.timeline") == within(names, "timeline")
    assert within(names, "timeline.beats.script") == within(names, "timeline.script.beats")
    repeated = ("masks.timeline", "timeline.beats.script")
    assert {path: found for path, found in names.items() if not path.startswith(repeated)} == RUN_NAMES
    assert {name for name in tensors if not name.startswith(("masks.segments", "masks.subjects"))} == {
        "samples.0",
        "noise_mask.0",
        "masks.heat",
        "masks.mask",
        "masks.course.0.masks",
    }


def test_a_run_file_holds_what_it_was_given(folders: Path) -> None:
    shutil.copy(RUN, folders / "input")
    content = run_files.load(RUN.name)
    assert content.latent["samples"].shape == (1, 2, content.timeline.latent_frames, 4, 4)
    assert content.latent["samples"].dtype == torch.float16
    assert content.latent["batch_index"] == [3]
    assert [beat.script.prompt for beat in content.timeline.beats] == [
        "a red fox runs",
        "a red fox and an owl",
        "a red fox sleeps",
        "a red fox wakes",
    ]
    masks = content.record.latest()
    assert masks is not None and [subject.name for subject in masks.subjects] == ["fox", "owl"]


def test_a_preset_is_saved_again_as_it_was(folders: Path) -> None:
    shutil.copy(PRESET, folders / "input")
    before = json.loads(PRESET.read_text(encoding="utf-8"))
    preset = preset_files.load(PRESET.name)
    after = json.loads(preset.to_json())
    assert kept(before, after) == before
    assert after.keys() == {"kvshare_preset"}
    assert names_in(after["kvshare_preset"]) == PRESET_NAMES
    assert (preset.blocks("share"), preset.blocks("masks")) == ((0,), (1, 2))


# Numbers of formats.


def newer_run(folder: Path, number: Any) -> None:
    content, tensors = opened(RUN)
    metadata = {run_files.CONTENT: json.dumps({"format": number, **content})}
    safetensors.torch.save_file(tensors, str(folder / RUN.name), metadata)


def newer_preset(folder: Path, number: Any) -> None:
    text = json.loads(PRESET.read_text(encoding="utf-8"))
    text[measured_preset.CONTENT]["format"] = number
    (folder / PRESET.name).write_text(json.dumps(text), encoding="utf-8")


KINDS = pytest.mark.parametrize(
    ("write", "load", "name", "newest"),
    [
        (newer_run, run_files.load, RUN.name, run_files.FORMAT),
        (newer_preset, preset_files.load, PRESET.name, measured_preset.FORMAT),
    ],
)


@KINDS
def test_every_format_so_far_is_loaded(folders: Path, write: Any, load: Any, name: str, newest: int) -> None:
    shutil.copy(GOLDEN / name, folders / "input")
    unversioned = to_plain(load(name), {})
    for number in range(1, newest + 1):
        write(folders / "input", number)
        assert to_plain(load(name), {}) == unversioned


@KINDS
def test_a_newer_format_is_refused(folders: Path, write: Any, load: Any, name: str, newest: int) -> None:
    write(folders / "input", newest + 1)
    with pytest.raises(ValueError, match=r"newer version of KV Share .* Update KV Share") as raised:
        load(name)
    assert name in str(raised.value)
    assert f"format is {newest + 1}" in str(raised.value)


@KINDS
@pytest.mark.parametrize("number", [0, -1, "1", 1.5, None, True])
def test_what_is_no_format_is_refused(
    folders: Path, write: Any, load: Any, name: str, newest: int, number: Any
) -> None:
    write(folders / "input", number)
    with pytest.raises(ValueError, match=r"was not written by .*format"):
        load(name)


# Renamed fields.


@dataclass(frozen=True)
class Before:
    heat: torch.Tensor
    step: int = 3


@dataclass(frozen=True)
class After:
    """`Before` with its fields renamed and one added."""

    relevance: torch.Tensor = field(metadata={"stored": "heat"})
    denoising_step: int = field(default=4, metadata={"stored": "step"})
    added: str = "new"


@dataclass(frozen=True)
class Holder:
    inner: After


def test_a_renamed_field_keeps_its_name_in_files() -> None:
    tensors: dict[str, torch.Tensor] = {}
    document = json.loads(json.dumps(to_document(Before(torch.ones(2)), tensors, 1)))
    found = from_document(After, document, tensors, 1)
    assert (found.denoising_step, found.added) == (3, "new")
    assert torch.equal(found.relevance, torch.ones(2))
    again: dict[str, torch.Tensor] = {}
    assert kept(document, to_document(found, again, 1)) == document
    assert again.keys() == tensors.keys() == {"heat"}
    nested: dict[str, torch.Tensor] = {}
    to_plain(Holder(found), nested)
    assert nested.keys() == {"inner.heat"}


def test_the_name_in_the_code_means_nothing_in_files() -> None:
    with pytest.raises(ValueError, match="it does not hold a After"):
        from_plain(After, {"relevance": {"tensor": "heat"}}, {"heat": torch.ones(2)})
