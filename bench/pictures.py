"""Pictures and videos for looking at: contact sheets, label strips, mp4 files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

LABEL_HEIGHT = 16
MARGIN = 4
PAPER = (245, 245, 245)
INK = (20, 20, 20)


def to_bytes(frames: torch.Tensor) -> np.ndarray:
    """Frames [..., 3, h, w] in 0..1 to bytes [..., h, w, 3]; values outside are clipped."""
    return (frames.float().clamp(0, 1) * 255).round().byte().movedim(-3, -1).cpu().numpy()


def contact_sheet(clips: Sequence[torch.Tensor], labels: Sequence[Sequence[str]], columns: int = 4) -> Image.Image:
    """First, middle and last frame of every clip [f, 3, h, w], each clip above its lines of text."""
    if not clips or len(clips) != len(labels):
        raise ValueError(f"a contact sheet takes as many labels as clips, got {len(clips)} clips, {len(labels)} labels")
    height, width = clips[0].shape[-2:]
    lines = max(len(label) for label in labels)
    cell_width = 3 * width + 2 * MARGIN
    cell_height = height + lines * LABEL_HEIGHT + 2 * MARGIN
    columns = min(columns, len(clips))
    sheet = Image.new("RGB", (columns * cell_width, -(-len(clips) // columns) * cell_height), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for number, (clip, label) in enumerate(zip(clips, labels, strict=True)):
        left = number % columns * cell_width + MARGIN
        top = number // columns * cell_height + MARGIN
        for place, frame in enumerate((0, len(clip) // 2, len(clip) - 1)):
            sheet.paste(Image.fromarray(to_bytes(clip[frame])), (left + place * width, top))
        for row, text in enumerate(label):
            draw.text((left, top + height + 1 + row * LABEL_HEIGHT), text, fill=INK, font=font)
    return sheet


def save(picture: Image.Image, file: Path) -> None:
    """Writes a picture, with the folders it needs."""
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file)
