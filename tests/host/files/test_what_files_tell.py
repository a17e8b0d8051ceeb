"""What the pack writes says nothing of the computer that wrote it: no path, and nothing of its environment."""

import io
import os
from pathlib import Path

import folder_paths
import pytest
import torch
from PIL import Image

from devtools.environment import ROOT
from kvshare_core.host.files import preset_files, run_files
from kvshare_core.host.files.viewer import view_of
from tests.support.family_cases import CASES, model_of
from tests.support.family_contracts import SHARED, sample
from tests.support.windows import share, tiny_timeline

CASE = CASES["wan t2v"]
PRESET = Path(__file__).with_name("golden") / "preset_unversioned.kvshare.json"
SECRET = "hf_thisIsTheTokenOfSomebody"
LONG_ENOUGH = 8
"""Characters of a value of the environment that cannot stand in a file by chance."""


@pytest.fixture
def written(folders: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files of a run that is saved and looked at, and of a preset, by name; as on a computer with a secret."""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    (folders / "temp").mkdir()
    monkeypatch.setattr(folder_paths, "temp_directory", str(folders / "temp"))
    timeline = tiny_timeline(2)
    patched, record = share(model_of(CASE.name), timeline, SHARED)
    film = sample(CASE, patched, timeline, steps=3)
    run_files.save(run_files.file_of(timeline, {"samples": film}, record), "film")
    (folders / "input" / PRESET.name).write_bytes(PRESET.read_bytes())
    preset_files.save(preset_files.load(PRESET.name), "preset")
    assert view_of(record.findings(film), torch.rand(timeline.frames, 24, 24, 3))
    files = [path for place in ("output", "temp") for path in (folders / place).rglob("*") if path.is_file()]
    return {path.name: path.read_bytes() for path in files}


def test_files_hold_no_path_and_nothing_of_the_environment(written: dict[str, bytes], folders: Path) -> None:
    assert {name.split(".")[-1] for name in written} == {"safetensors", "json", "webp", "png"}
    told = {SECRET, *(value for value in os.environ.values() if len(value) >= LONG_ENOUGH)}
    places = {str(place) for place in (folders, ROOT, Path.cwd(), Path(folder_paths.base_path), Path(torch.__file__))}
    for name, content in written.items():
        assert not [value for value in told | places if value.encode() in content], name
        assert not [value for value in places if value.replace("/", "\\\\").encode() in content], name


def test_pictures_of_the_viewer_carry_neither_workflow_nor_prompt(written: dict[str, bytes]) -> None:
    """Other pictures of the host do, so that they can be dropped onto it; these are not for keeping."""
    pictures = [content for name, content in written.items() if name.endswith((".webp", ".png"))]
    assert len(pictures) >= 2
    for content in pictures:
        with Image.open(io.BytesIO(content)) as picture:
            assert not picture.getexif()
            assert not {"prompt", "workflow", "comment"} & set(picture.info)
