"""The moving picture of the README: a workflow of the pack on a real ComfyUI, without sharing and with it.
`python3 dev.py bench moving_picture [--workflow FILE] [--picture FILE]`
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from devtools import client
from devtools.environment import ROOT, find_host, say
from devtools.server import running_server

from .demo import FRAMES_NODE, WORKFLOW, Video, run, saving_frames, without_sharing
from .graphs import only
from .pictures import INK, PAPER, to_bytes
from .spans import own_pictures

PICTURE = ROOT / "docs" / "pictures" / "first_light.gif"
MAX_BYTES = 2 << 20
SIDE, GAP, STRIP = 288, 8, 34
"""Pixels of a film's side, around it, and of a line of text."""
COLOURS = 128
REST = 1200
"""Milliseconds for which the last frame stays."""
LABELS = ("segments without sharing", "KV Share")


def films(workflow_file: Path) -> tuple[Video, Video]:
    """The film of a workflow without sharing, and as it is, both with the workflow's seed."""
    say("moving picture: starting ComfyUI")
    with running_server(find_host(), Path(sys.executable)) as server:
        saved = json.loads(workflow_file.read_text(encoding="utf-8"))
        workflow = client.to_api_format(saved, client.object_info(server.url))
        plain = only(saving_frames(without_sharing(workflow, overlap=True)), FRAMES_NODE)
        shared = only(saving_frames(workflow), FRAMES_NODE)
        return run(server, plain, LABELS[0]), run(server, shared, LABELS[1])


def pages(videos: Sequence[Video]) -> list[Image.Image]:
    """Every frame of the videos side by side, under their labels and above the prompt of that time."""
    timeline = videos[0].timeline
    prompts: dict[int, str] = {}
    for segment, (start, stop) in zip(timeline.segments, own_pictures(timeline), strict=True):
        prompts |= dict.fromkeys(range(start, stop), timeline.beats[segment.beat].prompt)
    large = [to_bytes(F.interpolate(video.frames, size=(SIDE, SIDE), mode="bicubic")) for video in videos]
    return [
        _page([frames[number] for frames in large], prompts.get(number, ""), number / max(1, len(large[0]) - 1))
        for number in range(len(large[0]))
    ]


def _page(frames: Sequence[object], prompt: str, done: float) -> Image.Image:
    width = GAP + len(frames) * (SIDE + GAP)
    page = Image.new("RGB", (width, SIDE + 2 * STRIP + 4), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=18)
    for column, (frame, label) in enumerate(zip(frames, LABELS, strict=True)):
        left = GAP + column * (SIDE + GAP)
        draw.text((left + SIDE / 2, STRIP / 2), label, fill=INK, font=font, anchor="mm")
        page.paste(Image.fromarray(frame), (left, STRIP))  # pyright: ignore[reportArgumentType]
    draw.text((width / 2, STRIP + SIDE + STRIP / 2), f"“{prompt}”", fill=INK, font=font, anchor="mm")
    draw.rectangle((0, page.height - 4, round(width * done), page.height), fill=(222, 120, 45))
    return page


def write_gif(shown: Sequence[Image.Image], fps: float, file: Path) -> None:
    """Writes the frames as a GIF that goes round. Raises ValueError when it is larger than a README's may be."""
    palette = _together(shown).quantize(COLOURS)
    reduced = [page.quantize(palette=palette, dither=Image.Dither.NONE) for page in shown]
    times = [round(1000 / fps)] * (len(reduced) - 1) + [REST]
    file.parent.mkdir(parents=True, exist_ok=True)
    reduced[0].save(file, save_all=True, append_images=reduced[1:], duration=times, loop=0, optimize=True)
    if (size := file.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{file} has {size / 2**20:.1f} MiB, a README's picture may have {MAX_BYTES >> 20}")


def _together(shown: Sequence[Image.Image]) -> Image.Image:
    """A few of the frames in one picture, for a palette that serves all."""
    some = shown[:: max(1, len(shown) // 8)]
    sheet = Image.new("RGB", (some[0].width, sum(page.height for page in some)))
    for number, page in enumerate(some):
        sheet.paste(page, (0, number * page.height))
    return sheet


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="the moving picture of the README, from two runs of a workflow")
    parser.add_argument("--workflow", type=Path, default=WORKFLOW, help="workflow as the browser saves it")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where to draw it")
    options = parser.parse_args()
    videos = films(options.workflow)
    write_gif(pages(videos), videos[0].timeline.fps, options.picture)
    say(f"moving picture: {options.picture.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
