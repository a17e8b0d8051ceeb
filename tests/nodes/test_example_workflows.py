"""The example workflows on a real server, over HTTP, as a user's browser would queue it."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from devtools import client
from devtools.environment import ROOT
from devtools.released_workflows import RELEASED
from devtools.server import Server
from tests.support.workflow_runs import FRAMES, planned_frames

WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))
WITHOUT_DOWNLOADS = [path for path in WORKFLOWS if path.stem not in {workflow.name for workflow in RELEASED}]
"""Those of the models that come with the pack; tests/nodes/test_released_workflows.py runs the others."""
FIRST_LIGHT = ROOT / "example_workflows" / "First light.json"
REDO = ROOT / "example_workflows" / "Redo a beat.json"
SAVE_VIDEO, BORDERS, TITLE = 142, 20, 30
"""Height of a Save Video node without its film, what of its width the film leaves, and height of a title."""


def api_workflow(server: Server, steps: int = 2) -> dict[str, Any]:
    """The first workflow in API format, short, with its frames saved without loss."""
    saved = json.loads(FIRST_LIGHT.read_text(encoding="utf-8"))
    workflow = client.to_api_format(saved, client.object_info(server.url))
    (sampler,) = (node for node in workflow.values() if node["class_type"] == "KSampler")
    sampler["inputs"]["steps"] = steps
    (decode,) = (name for name, node in workflow.items() if node["class_type"] == "VAEDecode")
    workflow[FRAMES] = {"class_type": "SaveImage", "inputs": {"images": [decode, 0], "filename_prefix": "frames"}}
    return workflow


def cached_nodes(entry: dict[str, Any]) -> set[str]:
    """Nodes that the host did not run again."""
    return {node for kind, data in entry["status"]["messages"] if kind == "execution_cached" for node in data["nodes"]}


def frames(server: Server, entry: dict[str, Any], node: str = FRAMES) -> np.ndarray:
    """Saved frames [f, h, w, 3]."""
    files = [file for file in client.output_files(entry) if file.node_id == node]
    return np.stack([np.array(Image.open(io.BytesIO(client.fetch_view(server.url, file)))) for file in files])


def test_every_example_has_a_thumbnail() -> None:
    assert WORKFLOWS
    for workflow in WORKFLOWS:
        with Image.open(workflow.with_suffix(".jpg")) as thumbnail:
            assert min(thumbnail.size) >= 200


def test_notes_are_written_without_code_marks() -> None:
    """Where nodes are drawn as elements of the page, ComfyUI shows code in a note in blue on brown."""
    saved = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in WORKFLOWS}
    notes = {
        name: node["widgets_values"][0]
        for name, workflow in saved.items()
        for node in workflow["nodes"]
        if node["type"] == "MarkdownNote"
    }
    assert notes.keys() == saved.keys()
    assert [name for name, text in notes.items() if "`" in text] == []


@pytest.mark.parametrize("path", WITHOUT_DOWNLOADS, ids=lambda path: path.stem)
def test_the_film_under_a_save_video_node_covers_no_other_node(path: Path) -> None:
    """On the canvas the node grows after a run, by the film as wide as the node; these films are square."""
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    for node in nodes:
        if node["type"] != "SaveVideo":
            continue
        (left, top), wide = node["pos"], node["size"][0]
        lowest = top + SAVE_VIDEO + wide - BORDERS
        for other in nodes:
            (x, y), width = other["pos"], other["size"][0]
            beside = x >= left + wide or x + width <= left
            assert beside or y <= top or y - TITLE > lowest, f"{other['type']} {other['id']}"


def short(server: Server, path: Path, steps: int = 2) -> dict[str, Any]:
    """A workflow in API format with few steps, the frames of every decoder saved as PNG under its name."""
    workflow = client.to_api_format(json.loads(path.read_text(encoding="utf-8")), client.object_info(server.url))
    for name, node in list(workflow.items()):
        if node["class_type"] == "KSampler":
            node["inputs"]["steps"] = steps
        if node["class_type"] == "VAEDecode":
            saved = {"images": [name, 0], "filename_prefix": f"decoded{name}"}
            workflow[FRAMES + name] = {"class_type": "SaveImage", "inputs": saved}
    return workflow


@pytest.mark.parametrize("path", WITHOUT_DOWNLOADS, ids=lambda path: path.stem)
def test_every_example_makes_the_video_that_it_plans(server: Server, path: Path) -> None:
    workflow = short(server, path)
    entry = client.run(server.url, workflow)
    files = client.output_files(entry)
    decoders = [name for name, node in workflow.items() if node["class_type"] == "VAEDecode"]
    for decoder in decoders:
        saved = [file for file in files if file.node_id == FRAMES + decoder]
        assert len(saved) == planned_frames(workflow, decoder)
    videos = {name for name, node in workflow.items() if node["class_type"] == "SaveVideo"}
    assert videos and videos <= {file.node_id for file in files}


def test_the_redone_beat_changes_and_what_comes_before_does_not(server: Server) -> None:
    workflow = short(server, REDO, steps=4)
    entry = client.run(server.url, workflow)
    first, again = (
        frames(server, entry, FRAMES + name) for name, node in workflow.items() if node["class_type"] == "VAEDecode"
    )
    changed = [not np.array_equal(*pair) for pair in zip(first, again, strict=True)]
    # Three latent frames come before the second prompt fades in.
    assert changed[:9] == [False] * 9 and any(changed[9:])


def test_a_second_run_is_served_from_the_cache(server: Server) -> None:
    workflow = api_workflow(server)
    client.run(server.url, workflow)
    again = client.run(server.url, workflow)
    assert set(workflow) <= cached_nodes(again)


def test_a_cached_model_samples_the_same_frames_again(server: Server) -> None:
    workflow = api_workflow(server, steps=3)
    (sampler,) = (node for node in workflow.values() if node["class_type"] == "KSampler")
    first = frames(server, client.run(server.url, workflow))
    sampler["inputs"]["seed"] += 1
    other = frames(server, client.run(server.url, workflow))
    sampler["inputs"]["seed"] -= 1
    workflow[FRAMES]["inputs"]["filename_prefix"] = "again"
    again = frames(server, client.run(server.url, workflow))
    assert first.shape == (41, 96, 96, 3)
    assert not np.array_equal(first, other)
    assert np.array_equal(first, again)


def test_a_run_after_an_interrupt_equals_one_before_it(server: Server) -> None:
    workflow = api_workflow(server, steps=4)
    (name,) = (name for name, node in workflow.items() if node["class_type"] == "KSampler")
    before = frames(server, client.run(server.url, workflow))

    longer = json.loads(json.dumps(workflow))
    longer[name]["inputs"]["steps"] = 500
    with pytest.raises(client.WorkflowInterruptedError):
        client.run(
            server.url, longer, lambda progress: client.interrupt(server.url) if progress.node_id == name else None
        )

    workflow[FRAMES]["inputs"]["filename_prefix"] = "after"
    # Another value of the same meaning, so that the host samples again instead of serving its cache.
    workflow[name]["inputs"]["denoise"] = 0.999999
    after = frames(server, client.run(server.url, workflow))
    assert np.array_equal(before, after)


def test_a_broken_duration_is_reported_by_the_node_that_reads_it(server: Server) -> None:
    workflow = api_workflow(server)
    (name,) = (name for name, node in workflow.items() if node["class_type"] == "LongVideoSegmenter")
    workflow[name]["inputs"]["prompts"] = "a circle\n[3 parsecs] a square"
    with pytest.raises(client.WorkflowError, match="line 2") as caught:
        client.run(server.url, workflow)
    assert caught.value.node_type == "LongVideoSegmenter"


def test_the_maps_of_an_example_are_files_in_the_output_folder(server: Server) -> None:
    entry = client.run(server.url, short(server, ROOT / "example_workflows" / "Attention maps.json"))
    saved = [file for file in client.output_files(entry) if file.subfolder.startswith("kvshare/maps/run_")]
    kinds = {file.filename.rpartition("_block")[2][3:] for file in saved if "_block" in file.filename}
    assert kinds == {"text_video.png", "text_text.png", "spatial.png", "temporal.png"}
    assert {"heat.webp"} <= {file.filename for file in saved}
    (folder,) = {file.subfolder for file in saved}
    assert (server.base / "output" / folder / "maps.safetensors").is_file()
