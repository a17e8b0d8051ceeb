"""A measured preset as an image: bars for every block, drawn with Pillow, which the host brings."""

import torch
from PIL import Image, ImageDraw, ImageFont

from ...probe.figures import BlockFigures
from ...probe.measured_preset import MeasuredPreset

PLOTS = {
    "masks: map agrees with where the words act": "agreement",
    "masks: contrast of the map": "contrast",
    "share: pull towards the other clip": "pull",
    "share: change within the subject": "within",
    "share: change beside the subject": "beside",
    "every token alone": "alone",
    "keys moved in time": "moved",
}
"""Titles and the figures below them."""

PURPOSES = {"agreement": "masks", "contrast": "masks", "pull": "share", "within": "share", "beside": "share"}
"""The purpose whose chosen blocks are marked in a plot."""

BAR, GAP, MARGIN, PLOT, TITLE, NUMBERS = 14, 6, 12, 70, 18, 14
"""Pixels: width of a bar and of the gap between two, border, height of a plot, of its title and its numbers."""

PAPER, INK, PLAIN, CHOSEN = (24, 26, 30), (215, 218, 222), (110, 118, 130), (240, 160, 60)


def draw_chart(preset: MeasuredPreset) -> torch.Tensor:
    """The figures as an IMAGE [1, height, width, 3]; the chosen blocks are highlighted."""
    plots = {title: name for title, name in PLOTS.items() if any(_value(row, name) for row in preset.figures)}
    wide = max(MARGIN * 2 + len(preset.figures) * (BAR + GAP), 320)
    row = TITLE + PLOT + NUMBERS
    picture = Image.new("RGB", (wide, 2 * MARGIN + TITLE + row * len(plots)), PAPER)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default()
    draw.text((MARGIN, MARGIN), f"{preset.model_class}: {preset.subject}", INK, font)
    for number, (title, name) in enumerate(plots.items()):
        top = MARGIN + TITLE + number * row
        draw.text((MARGIN, top), title, INK, font)
        chosen = preset.blocks(PURPOSES[name]) if name in PURPOSES else ()
        _draw_bars(draw, font, top + TITLE, [_value(found, name) for found in preset.figures], chosen)
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.reshape(1, picture.height, picture.width, 3) / 255


def _draw_bars(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    top: int,
    values: list[float],
    chosen: tuple[int, ...],
) -> None:
    high, low = max(0.0, *values), min(0.0, *values)
    scale = (PLOT - 4) / (high - low)
    zero = top + high * scale
    for block, value in enumerate(values):
        left = MARGIN + block * (BAR + GAP)
        ends = sorted((zero, zero - value * scale))
        draw.rectangle((left, ends[0], left + BAR, ends[1]), CHOSEN if block in chosen else PLAIN)
        draw.text((left, top + PLOT), str(block), INK, font)


def _value(row: BlockFigures, name: str) -> float:
    """One number of a figure: the mean if there are several noise levels, 0 if there is no number."""
    value = getattr(row, name)
    if isinstance(value, tuple):
        return sum(value) / len(value)
    return value or 0.0
