"""The icon and the banner under which the Comfy Registry and ComfyUI-Manager list the pack.
`python3 dev.py bench registry_pictures [--folder docs/pictures]`
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from devtools.environment import ROOT, say

from .help_pictures import SOURCE
from .pictures import save

FOLDER = ROOT / "docs" / "pictures"
ICON, BANNER = (400, 400), (1260, 540)
"""Sizes: the registry takes icons of up to 400 pixels, and banners of 21 to 9."""
SMOOTH = 4
"""Drawn so many times as large and then reduced, for smooth edges."""
NIGHT, INK, FAINT = (24, 28, 36), (240, 240, 240), (160, 190, 230)
SKIES = ((52, 78, 130), (66, 116, 84), (150, 108, 62))
"""Backgrounds of three scenes; the subject is the same in all of them."""


def icon() -> Image.Image:
    """Three frames with one subject, from its source to where it is taken up."""
    picture, draw = _canvas(ICON)
    _frames(draw, (24, 70), (168, 150), 92, 55)
    return picture.resize(ICON, Image.Resampling.LANCZOS)


def banner() -> Image.Image:
    """The name, what it is, and three frames with one subject."""
    picture, draw = _canvas(BANNER)
    _text(draw, (70, 86), "KV Share", 96, INK)
    _text(draw, (74, 206), "one long video from several prompts,", 36, FAINT)
    _text(draw, (74, 254), "with the same subject throughout", 36, FAINT)
    _text(draw, (74, 420), "for ComfyUI: no training, no extra weights", 28, FAINT)
    _frames(draw, (700, 90), (250, 220), 130, 70)
    return picture.resize(BANNER, Image.Resampling.LANCZOS)


def _canvas(size: tuple[int, int]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", (size[0] * SMOOTH, size[1] * SMOOTH), NIGHT)
    return picture, ImageDraw.Draw(picture)


def _text(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, colour: tuple[int, int, int]
) -> None:
    font = ImageFont.load_default(size=size * SMOOTH)
    draw.text((place[0] * SMOOTH, place[1] * SMOOTH), text, fill=colour, font=font)


def _frames(draw: ImageDraw.ImageDraw, place: tuple[int, int], size: tuple[int, int], along: int, down: int) -> None:
    """Frames of `size`, each `along` and `down` from the one before, and a line through their subjects."""
    spots: list[tuple[float, float]] = []
    for number, sky in enumerate(SKIES):
        left, top = place[0] + number * along, place[1] + number * down
        box = (left, top, left + size[0], top + size[1])
        draw.rounded_rectangle(_large(box), 10 * SMOOTH, fill=sky, outline=INK, width=3 * SMOOTH)
        spots.append((left + along * 0.5, top + size[1] * 0.5))
    (first, last), radius = (spots[0], spots[-1]), along * 0.28
    draw.line(_large((*first, *last)), fill=INK, width=5 * SMOOTH)
    for x, y in spots:
        ring = _large((x - radius, y - radius, x + radius, y + radius))
        draw.ellipse(ring, fill=SOURCE, outline=INK, width=3 * SMOOTH)


def _large(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    return left * SMOOTH, top * SMOOTH, right * SMOOTH, bottom * SMOOTH


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="the icon and the banner for the registry")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to draw them")
    options = parser.parse_args()
    for name, picture in (("icon", icon()), ("banner", banner())):
        save(picture.quantize(96), options.folder / f"{name}.png")
        say(f"{name}: {picture.width} x {picture.height}")


if __name__ == "__main__":
    main()
