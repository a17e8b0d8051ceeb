"""The pictures under which ComfyUI lists the workflows of the models that come with the pack: frames of a run of each,
under its name. `python3 dev.py bench thumbnails [NAME ...]`

Those of released models, which cannot be run here, are drawn by `python3 -m devtools.released_workflows --thumbnails`.
"""

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from devtools import client
from devtools.environment import ROOT, find_host, say
from devtools.released_workflows import RELEASED
from devtools.server import Server, running_server

FOLDER = ROOT / "example_workflows"
SIZE = (480, 270)
SHOWN, SIDE, TOP = 4, 104, 108
"""Frames in a thumbnail, their side, and where they begin."""
PAPER, INK, SMALL = (28, 32, 40), (240, 240, 240), (160, 190, 230)
SAVED = "thumbnail_frames"


def own_workflows() -> list[Path]:
    """Those of the models that come with the pack."""
    released = {workflow.name for workflow in RELEASED}
    return sorted(file for file in FOLDER.glob("*.json") if file.stem not in released)


def frames_of(server: Server, file: Path) -> list[Image.Image]:
    """The frames of the last video that a workflow makes; of each in turn, where it decodes prompts apart."""
    workflow = client.to_api_format(json.loads(file.read_text(encoding="utf-8")), client.object_info(server.url))
    decoders = [name for name, node in workflow.items() if node["class_type"] == "VAEDecode"]
    apart = any(node["class_type"] == "LatentCut" for node in workflow.values())
    shown = sorted(decoders, key=int)[0 if apart else -1 :]
    for name in shown:
        inputs = {"images": [name, 0], "filename_prefix": SAVED}
        workflow[SAVED + name] = {"class_type": "SaveImage", "inputs": inputs}
    found = client.output_files(client.run(server.url, workflow))
    files = [file for name in shown for file in found if file.node_id == SAVED + name]
    return [Image.open(io.BytesIO(client.fetch_view(server.url, file))).convert("RGB") for file in files]


def thumbnail(name: str, frames: Sequence[Image.Image]) -> Image.Image:
    """The name above frames from the whole video."""
    picture = Image.new("RGB", SIZE, PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((20, 18), name, INK, ImageFont.load_default(36))
    draw.text((20, 66), "small model, nothing to download", SMALL, ImageFont.load_default(20))
    gap = (SIZE[0] - SHOWN * SIDE) // (SHOWN + 1)
    for number in range(SHOWN):
        frame = frames[round((number + 0.5) * (len(frames) - 1) / SHOWN)]
        picture.paste(frame.resize((SIDE, SIDE)), (gap + number * (SIDE + gap), TOP + 20))
    return picture


def main() -> None:
    """The command line."""
    files = {file.stem: file for file in own_workflows()}
    parser = argparse.ArgumentParser(description="thumbnails of the pack's own workflows, from runs of them")
    parser.add_argument("name", nargs="*", help=f"which ones: {', '.join(files)}")
    wanted = parser.parse_args().name or files
    with running_server(find_host(), Path(sys.executable)) as server:
        for name in wanted:
            thumbnail(name, frames_of(server, files[name])).save(files[name].with_suffix(".jpg"), quality=85)
            say(f"thumbnail: {name}")


if __name__ == "__main__":
    main()
