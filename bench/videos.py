"""Writes frames as mp4 files and lays videos side by side."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from .pictures import INK, PAPER, to_bytes

VIEW_SIDE = 384
"""Small frames are enlarged by a whole factor to about this side, so that players do not blur them."""
STRIP_HEIGHT = 32
QUALITY = {"crf": "14", "preset": "fast"}


def enlarge(frames: torch.Tensor) -> torch.Tensor:
    """Frames [f, 3, h, w] repeated by a whole factor up to VIEW_SIDE; pixels stay square."""
    factor = max(1, VIEW_SIDE // max(frames.shape[-2:]))
    return F.interpolate(frames, scale_factor=factor, mode="nearest")


def write_mp4(frames: torch.Tensor, fps: float, file: Path) -> None:
    """Writes frames [f, 3, h, w] in 0..1 as H.264; an odd side is filled up by one pixel, as the format needs."""
    pixels = to_bytes(frames)
    odd_height, odd_width = pixels.shape[1] % 2, pixels.shape[2] % 2
    pixels = np.pad(pixels, ((0, 0), (0, odd_height), (0, odd_width), (0, 0)), mode="edge")
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options=QUALITY)
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for picture in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())


def side_by_side(videos: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Videos [f, 3, h, w] of one frame size next to each other, each under its label; a shorter one holds its last
    frame. Raises ValueError when the sizes differ."""
    sizes = {video.shape[-2:] for video in videos.values()}
    if len(sizes) != 1:
        raise ValueError(f"videos side by side need one frame size, got {sorted(tuple(size) for size in sizes)}")
    length = max(len(video) for video in videos.values())
    columns = []
    for label, video in videos.items():
        held = torch.cat([video, video[-1:].expand(length - len(video), -1, -1, -1)])
        strip = label_strip(label, video.shape[-1]).expand(length, -1, -1, -1)
        columns.append(torch.cat([strip, held], dim=2))
    return torch.cat(columns, dim=3)


def label_strip(text: str, width: int) -> torch.Tensor:
    """A strip [3, STRIP_HEIGHT, width] with `text` in its middle."""
    strip = Image.new("RGB", (width, STRIP_HEIGHT), PAPER)
    font = ImageFont.load_default(size=18)
    ImageDraw.Draw(strip).text((width / 2, STRIP_HEIGHT / 2), text, fill=INK, font=font, anchor="mm")
    return torch.from_numpy(np.array(strip)).movedim(-1, 0) / 255
