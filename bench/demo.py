"""Three prompts become one long video, on a real ComfyUI server, and the same without sharing for comparison.

Submits the example workflow over HTTP three times: as it is, with sharing off (windows), and without overlaps as well
(isolated). Ends with one line of JSON; `seconds` is the time the whole demo took.
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from devtools import client
from devtools.environment import ROOT, find_host, say
from devtools.server import Server, running_server
from kvshare_core.embedded.detector import detect
from kvshare_core.embedded.latents import BLOCK_FRAMES, NATIVE_LATENT_FRAMES
from kvshare_core.embedded.vocabulary import BACKGROUNDS, DIRECTIONS, SHAPES
from kvshare_core.prompt_words import split_words
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline

from .form import show_progress, text_table
from .graphs import Workflow, fetch_frames, node_of, only, with_pictures
from .measures import Measured, summary
from .spans import own_pictures, seam_pictures
from .videos import enlarge, side_by_side, write_mp4

WORKFLOW = ROOT / "example_workflows" / "First light.json"
OUT = ROOT / "out" / "demo"
FRAMES_NODE, HEAT_NODE = "demo_frames", "demo_heat"
LABELS = {"isolated": "isolated segments", "windows": "windows", "kvshare": "KV Share"}
CHOICES = {"shape": SHAPES, "direction": DIRECTIONS, "background": BACKGROUNDS}


@dataclass(frozen=True)
class Video:
    """What one run of the workflow left: `frames` and `heat` [f, 3, h, w] in 0..1 (None when it was not asked for), and
    the plan by which it was made."""

    frames: torch.Tensor
    heat: torch.Tensor | None
    timeline: Timeline


def saving_heat(workflow: Workflow) -> Workflow:
    """The whole workflow, with the heat overlay saved as PNG as well."""
    return with_pictures(workflow, HEAT_NODE, [node_of(workflow, "AttentionMaskPreview"), 0])


def saving_frames(workflow: Workflow) -> Workflow:
    """The workflow with the decoded frames saved as PNG, which lose nothing."""
    return with_pictures(workflow, FRAMES_NODE, [node_of(workflow, "VAEDecode"), 0])


def without_sharing(workflow: Workflow, overlap: bool) -> Workflow:
    """The workflow without sharing in any prompt; without `overlap`, with hard cuts between segments as well."""
    changed = copy.deepcopy(workflow)
    inputs = changed[node_of(workflow, "LongVideoSegmenter")]["inputs"]
    inputs["prompts"] = "\n".join(f"{prompt} | strength: 0" for prompt in inputs["prompts"].splitlines())
    if not overlap:
        inputs["overlap_size"] = 0
    return changed


def timeline_of(workflow: Workflow) -> Timeline:
    """The plan that the workflow's LongVideoSegmenter makes."""
    inputs = workflow[node_of(workflow, "LongVideoSegmenter")]["inputs"]
    window = inputs["sampling_num_frames"] or NATIVE_LATENT_FRAMES
    script = parse_script(inputs["prompts"])
    return plan_timeline(script, window, inputs["overlap_size"], inputs["fps"], BLOCK_FRAMES)


def said_attributes(prompt: str) -> dict[str, str]:
    """The words of measures.SAID in a prompt. Raises ValueError when one is missing: it could not be right or wrong."""
    words = split_words(prompt)
    said = {name: word for name, options in CHOICES.items() for word in words if word in options}
    missing = [name for name in CHOICES if name not in said]
    if missing:
        raise ValueError(
            f"the demo measures prompts that say shape, direction and background; {prompt!r} lacks {missing}"
        )
    return said


def measured(video: Video) -> Measured:
    """Detects every segment of a video."""
    timeline = video.timeline
    said = tuple(said_attributes(timeline.beats[segment.beat].prompt) for segment in timeline.segments)
    spans = own_pictures(timeline)
    detections = tuple(detect(video.frames[start:stop]) for start, stop in spans)
    return Measured(said, detections, video.frames, seam_pictures(timeline), spans)


def steps_shown(sampler: str, label: str) -> Callable[[client.Progress], None]:
    """Shows the steps of the node `sampler` as they are done, each once; between two of them the host tells parts."""
    shown = -1

    def on_progress(progress: client.Progress) -> None:
        nonlocal shown
        done = int(progress.value)
        if progress.node_id == sampler and done > shown:
            shown = done
            show_progress(done, int(progress.maximum), f"steps: {label}")

    return on_progress


def run(server: Server, workflow: Workflow, label: str) -> Video:
    """Submits a workflow, shows its progress and fetches what it saved.

    Raises RuntimeError when the number of frames is wrong.
    """
    timeline = timeline_of(workflow)
    entry = client.run(server.url, workflow, steps_shown(node_of(workflow, "KSampler"), label))
    frames = fetch_frames(server.url, entry, FRAMES_NODE)
    if len(frames) != timeline.frames:
        raise RuntimeError(f"{label}: the server saved {len(frames)} frames, the timeline has {timeline.frames}")
    return Video(frames, fetch_frames(server.url, entry, HEAT_NODE) if HEAT_NODE in workflow else None, timeline)


def make_videos(workflow_file: Path) -> dict[str, Video]:
    """Runs the workflow by every method on a server of its own."""
    host = find_host()
    say("demo: starting ComfyUI")
    with running_server(host, Path(sys.executable)) as server:
        saved = json.loads(workflow_file.read_text(encoding="utf-8"))
        workflow = client.to_api_format(saved, client.object_info(server.url))
        windows = only(saving_frames(without_sharing(workflow, overlap=True)), FRAMES_NODE)
        isolated = only(saving_frames(without_sharing(workflow, overlap=False)), FRAMES_NODE)
        return {
            "kvshare": run(server, saving_heat(saving_frames(workflow)), LABELS["kvshare"]),
            "windows": run(server, windows, LABELS["windows"]),
            "isolated": run(server, isolated, LABELS["isolated"]),
        }


def write_files(videos: Mapping[str, Video], out: Path) -> dict[str, str]:
    """Writes the three mp4 files and returns their paths."""
    shared = videos["kvshare"]
    if shared.heat is None:
        raise ValueError("the KV Share run left no heat overlay")
    fps = shared.timeline.fps
    enlarged = {LABELS[method]: enlarge(videos[method].frames) for method in LABELS}
    contents = {
        "video": enlarge(shared.frames),
        "masks": enlarge(shared.heat),
        "comparison": side_by_side(enlarged),
    }
    files = {name: out / f"{name}.mp4" for name in contents}
    for name, frames in contents.items():
        write_mp4(frames, fps, files[name])
    return {name: str(file) for name, file in files.items()}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="three prompts become one long video on a real ComfyUI server")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the videos (default: out/demo)")
    parser.add_argument("--workflow", type=Path, default=WORKFLOW, help="workflow as the browser saves it")
    options = parser.parse_args()
    start = time.monotonic()
    videos = make_videos(options.workflow)
    boards = {method: measured(videos[method]) for method in LABELS}
    table = {method: summary([board], [boards["isolated"]]) for method, board in boards.items()}
    files = write_files(videos, options.out)
    say(text_table([{"method": method, **measures} for method, measures in table.items()]))
    shared = videos["kvshare"]
    result = {
        **files,
        "frames": len(shared.frames),
        "fps": shared.timeline.fps,
        "seconds": round(time.monotonic() - start, 1),
        "table": table,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
