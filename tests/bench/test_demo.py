"""The parts of the demo that need no server: its variants of a workflow, its reading of prompts, its video files."""

import copy
from pathlib import Path

import av
import pytest
import torch

from bench.demo import (
    FRAMES_NODE,
    HEAT_NODE,
    LABELS,
    Video,
    measured,
    said_attributes,
    saving_frames,
    saving_heat,
    steps_shown,
    timeline_of,
    without_sharing,
    write_files,
)
from bench.graphs import node_of, only
from bench.videos import STRIP_HEIGHT, enlarge, side_by_side, write_mp4
from devtools import client
from kvshare_core.script.parsing import parse_script

PROMPTS = "a circle moving right over night\na circle moving up over night\na circle moving left over sand"
WORKFLOW = {
    "1": {"class_type": "LoadVideoDiT", "inputs": {"diffusion_model": "embedded"}},
    "2": {
        "class_type": "LongVideoSegmenter",
        "inputs": {
            "model": ["1", 0],
            "clip": ["1", 1],
            "prompts": PROMPTS,
            "fps": 8.0,
            "sampling_num_frames": 0,
            "overlap_size": 2,
        },
    },
    "4": {"class_type": "MaskGuidedKVShare", "inputs": {"model": ["1", 0], "timeline": ["2", 0]}},
    "5": {"class_type": "KSampler", "inputs": {"model": ["4", 0], "positive": ["2", 1], "latent_image": ["2", 3]}},
    "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
    "7": {"class_type": "AttentionMaskPreview", "inputs": {"record": ["4", 1], "images": ["6", 0]}},
    "8": {"class_type": "SaveVideo", "inputs": {"video": ["7", 0]}},
}


def test_frames_and_heat_are_saved_beside_the_whole_workflow() -> None:
    before = copy.deepcopy(WORKFLOW)
    both = saving_heat(saving_frames(WORKFLOW))
    assert before == WORKFLOW
    assert both == {
        **WORKFLOW,
        FRAMES_NODE: {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": FRAMES_NODE}},
        HEAT_NODE: {"class_type": "SaveImage", "inputs": {"images": ["7", 0], "filename_prefix": HEAT_NODE}},
    }


def test_only_what_a_node_needs_is_kept() -> None:
    kept = only(saving_frames(WORKFLOW), FRAMES_NODE)
    assert kept.keys() == {"1", "2", "4", "5", "6", FRAMES_NODE}


def test_the_variants_differ_only_in_sharing_and_overlap() -> None:
    windows, isolated = without_sharing(WORKFLOW, overlap=True), without_sharing(WORKFLOW, overlap=False)
    beats = parse_script(windows["2"]["inputs"]["prompts"]).beats
    assert [beat.prompt for beat in beats] == PROMPTS.splitlines() and {beat.strength for beat in beats} == {0.0}
    rest = {"prompts": windows["2"]["inputs"]["prompts"]}
    assert windows == {**WORKFLOW, "2": {**WORKFLOW["2"], "inputs": {**WORKFLOW["2"]["inputs"], **rest}}}
    assert isolated["2"]["inputs"] == {**windows["2"]["inputs"], "overlap_size": 0}
    assert WORKFLOW["2"]["inputs"]["prompts"] == PROMPTS
    assert timeline_of(WORKFLOW).frames == timeline_of(windows).frames == 41
    assert timeline_of(isolated).frames == 57


def test_a_workflow_needs_each_node_once() -> None:
    with pytest.raises(ValueError, match="one KSampler, it has 0"):
        node_of({"1": WORKFLOW["1"]}, "KSampler")
    with pytest.raises(ValueError, match="one VAEDecode, it has 2"):
        node_of({"1": WORKFLOW["6"], "2": WORKFLOW["6"]}, "VAEDecode")


def test_each_step_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    hear = steps_shown("5", "windows")
    for node_id, value in [("5", 0.0), ("5", 0.4), ("5", 1), ("5", 1.0), ("6", 9), ("5", 1.7), ("5", 2), ("5", 2.0)]:
        hear(client.Progress(node_id, value, 2.0))
    assert capsys.readouterr().err == "".join(
        ["\r0 of 2 steps: windows", "\r1 of 2 steps: windows", "\r2 of 2 steps: windows\n"]
    )


def test_said_attributes_come_from_the_words() -> None:
    assert said_attributes("A small circle, moving Up over the night") == {
        "shape": "circle",
        "direction": "up",
        "background": "night",
    }
    with pytest.raises(ValueError, match=r"lacks \['direction'\]"):
        said_attributes("a circle over night")


def test_a_video_is_measured_by_its_own_plan() -> None:
    timeline = timeline_of(WORKFLOW)
    board = measured(Video(torch.zeros(timeline.frames, 3, 96, 96), None, timeline))
    assert [words["direction"] for words in board.said] == ["right", "up", "left"]
    assert board.seams == (13, 25)
    assert not any(seen.found for seen in board.detections)


def read_mp4(file: Path) -> tuple[torch.Tensor, float]:
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
        return torch.stack(frames).movedim(-1, 1) / 255, float(stream.average_rate)


def test_an_mp4_plays_what_was_written(tmp_path: Path) -> None:
    ramp = torch.linspace(0, 1, 9).reshape(9, 1, 1, 1).expand(9, 3, 33, 50)
    write_mp4(ramp, 8.0, tmp_path / "new" / "ramp.mp4")
    frames, fps = read_mp4(tmp_path / "new" / "ramp.mp4")
    assert (frames.shape, fps) == ((9, 3, 34, 50), 8.0)
    torch.testing.assert_close(frames[:, :, :33], ramp, atol=0.03, rtol=0)


def test_videos_side_by_side_keep_their_frames() -> None:
    short, long = torch.rand(2, 3, 16, 64), torch.rand(5, 3, 16, 64)
    both = side_by_side({"short": short, "long": long})
    assert both.shape == (5, 3, 16 + STRIP_HEIGHT, 128)
    torch.testing.assert_close(both[:, :, STRIP_HEIGHT:, 64:], long)
    torch.testing.assert_close(both[4, :, STRIP_HEIGHT:, :64], short[1])
    assert both[0, :, :STRIP_HEIGHT].unique().numel() > 2
    with pytest.raises(ValueError, match="one frame size"):
        side_by_side({"a": short, "b": torch.rand(2, 3, 8, 8)})


def test_small_frames_are_enlarged_by_a_whole_factor() -> None:
    assert enlarge(torch.rand(1, 3, 96, 96)).shape == (1, 3, 384, 384)
    assert enlarge(torch.rand(1, 3, 480, 832)).shape == (1, 3, 480, 832)


def test_the_demo_leaves_three_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.videos.VIEW_SIDE", 96)
    timeline = timeline_of(WORKFLOW)
    cut = timeline_of(without_sharing(WORKFLOW, overlap=False))
    videos = {
        "kvshare": Video(
            torch.rand(timeline.frames, 3, 1, 1).expand(-1, -1, 96, 96), torch.zeros(41, 3, 96, 96), timeline
        ),
        "windows": Video(torch.zeros(timeline.frames, 3, 96, 96), None, timeline),
        "isolated": Video(torch.zeros(cut.frames, 3, 96, 96), None, cut),
    }
    files = write_files(videos, tmp_path)
    assert list(files) == ["video", "masks", "comparison"]
    shapes = {name: read_mp4(Path(file))[0].shape for name, file in files.items()}
    assert shapes["video"] == shapes["masks"] == (41, 3, 96, 96)
    assert shapes["comparison"] == (57, 3, 96 + STRIP_HEIGHT, 96 * len(LABELS))
