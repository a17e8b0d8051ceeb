"""The figures of docs/concepts.md: how a film is cut, what is shared, where from, when, and in which order.
`python3 dev.py bench concept_pictures [--folder docs/pictures] [--only NAME ...]`

They are drawings, not results: nothing is run.
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from devtools.environment import ROOT, say
from kvshare_core.config import DITCTRL

from .help_pictures import SOURCE, TARGET
from .pictures import INK, PAPER, save

FOLDER = ROOT / "docs" / "pictures"
WIDTH = 760
PALE, LINE, GREEN = (222, 225, 220), (150, 154, 148), (92, 148, 92)
SCENES = (TARGET, (92, 148, 92), (150, 96, 160), (190, 150, 60))
"""Colours of segments."""
Box = tuple[float, float, float, float]


def film() -> Image.Image:
    """Prompts, the segments that they get, and the film that these become."""
    prompts = ("a fox runs through snow", "a fox crosses a bridge", "a fox sleeps")
    picture, draw = _paper(250)
    left, length, overlap = 110, 236, 36
    _text(draw, (12, 32), "prompts")
    _text(draw, (12, 112), "segments")
    _text(draw, (12, 208), "film")
    for number, prompt in enumerate(prompts):
        start = left + number * (length - overlap)
        middle = start + length / 2
        box = (start + 24, 12, start + length - 24, 52)
        draw.rounded_rectangle(box, 6, fill=(255, 255, 255), outline=SCENES[number], width=2)
        _text(draw, (middle, 32), prompt, 14, "mm")
        draw.line((middle, 52, middle, 78 + 24 * (number % 2)), fill=SCENES[number], width=2)
        top = 78 + 28 * (number % 2)
        draw.rectangle((start, top, start + length, top + 26), fill=SCENES[number])
        _text(draw, (middle, top + 13), f"segment {number + 1}", 14, "mm", (255, 255, 255))
        if number:
            _overlap(draw, (start, 150, start + overlap, 186))
    end = left + 3 * length - 2 * overlap
    for number in range(3):
        start = left + number * (length - overlap)
        draw.rectangle((start, 192, start + length, 224), fill=SCENES[number])
    for number in (1, 2):
        start = left + number * (length - overlap)
        for x in range(overlap):
            colour = _mixed(SCENES[number - 1], SCENES[number], x / overlap)
            draw.line((start + x, 192, start + x, 224), fill=colour)
    draw.rectangle((left, 192, end, 224), outline=INK)
    return picture


def sharing() -> Image.Image:
    """What the subject and the background of a segment attend to."""
    picture, draw = _paper(270)
    frames = ((60, 40, 320, 210), (440, 40, 700, 210))
    places = ((0.35, 0.6), (0.6, 0.4))
    for frame, place, colour, name in zip(frames, places, (SOURCE, TARGET), ("segment 1", "segment 2"), strict=True):
        draw.rectangle(frame, fill=PALE, outline=INK)
        _text(draw, ((frame[0] + frame[2]) / 2, 22), name, 17, "mm")
        x, y = _inside(frame, place)
        draw.ellipse((x - 30, y - 30, x + 30, y + 30), fill=colour)
        _text(draw, (x, y), "fox", 15, "mm", (255, 255, 255))
        _text(draw, (frame[0] + 10, frame[1] + 8), "background", 14, "la", (90, 94, 88))
    (x, y), (u, v) = _inside(frames[0], places[0]), _inside(frames[1], places[1])
    _arrow(draw, (u - 32, v + 4), (x + 34, y - 4), SOURCE)
    _loop(draw, (u + 30, v - 8), TARGET)
    _loop(draw, (frames[1][2] - 42, frames[1][1] + 24), LINE)
    _text(
        draw,
        (12, 228),
        "The fox of segment 2 looks at itself and at the fox of segment 1, so it becomes the same fox.",
        15,
    )
    _text(draw, (12, 248), "Its background looks at itself only, so the place can change.", 15)
    return picture


def sources() -> Image.Image:
    """From which segments the later ones take keys, for every value of `sources`."""
    kinds: Mapping[str, Callable[[int], Sequence[int]]] = {
        "first": lambda number: [0],
        "previous": lambda number: [number - 1],
        "first and previous": lambda number: sorted({0, number - 1}),
    }
    picture, draw = _paper(3 * 84 + 12)
    for row, (name, of) in enumerate(kinds.items()):
        top = 44 + row * 84
        _text(draw, (12, top + 13), name)
        for number in range(4):
            start = 190 + number * 140
            draw.rectangle((start, top, start + 110, top + 26), fill=SCENES[number])
            _text(draw, (start + 55, top + 13), f"segment {number + 1}", 14, "mm", (255, 255, 255))
            for source in of(number) if number else ():
                lift = 12 + 8 * (number - source)
                _bow(draw, (start + 45, top), (190 + source * 140 + 65, top), lift)
    return picture


def when() -> Image.Image:
    """In which steps and blocks segments share: by default, and as in the paper."""
    picture, draw = _paper(292)
    first, last, blocks = DITCTRL.start_step, DITCTRL.end_step, DITCTRL.end_layer
    squares = {
        "the defaults: everywhere": (0.0, 1.0, 0.0, 1.0),
        f"the paper: steps {first} to {last - 1} of 50, the last sixth": (
            first / 50,
            last / 50,
            DITCTRL.start_layer / blocks,
            1.0,
        ),
    }
    for column, (name, (start, stop, upper, lower)) in enumerate(squares.items()):
        left, top, width, height = 70 + column * 370, 44, 290, 190
        _text(draw, (left, 22), name, 15)
        draw.rectangle((left, top, left + width, top + height), fill=PALE, outline=INK)
        shared = (left + start * width, top + upper * height, left + stop * width, top + lower * height)
        draw.rectangle(shared, fill=SOURCE, outline=INK)
        _text(draw, (left, top + height + 8), "noise", 14, "la")
        _text(draw, (left + width, top + height + 8), "finished", 14, "ra")
        _text(draw, (left + width / 2, top + height + 8), "steps", 14, "ma")
        _text(draw, (left - 10, top), "first", 14, "ra")
        _text(draw, (left - 10, top + height), "last", 14, "rd")
        _text(draw, (left - 10, top + height / 2), "blocks", 14, "rm")
    _text(draw, (12, 270), "Orange: in these steps and blocks, later segments also look at earlier ones.", 15)
    return picture


def orders() -> Image.Image:
    """Which segment is computed when, for every value of `order`: a film of four segments in four steps."""
    steps, segments = 4, 4
    together = [(segment, step) for step in range(steps) for segment in range(segments)]
    kinds = {
        "lockstep": together,
        "sources_first": [(0, step) for step in range(steps)] + together,
        "chain": [(segment, step) for segment in range(segments) for step in range(steps)],
    }
    cell, left = 27, 160
    picture, draw = _paper(len(kinds) * (segments * 18 + 40) + 26)
    for row, (name, calls) in enumerate(kinds.items()):
        top = 14 + row * (segments * 18 + 40)
        _text(draw, (12, top + segments * 9), name)
        for segment in range(segments):
            draw.line((left, top + segment * 18 + 9, left + 20 * cell, top + segment * 18 + 9), fill=PALE, width=2)
            _text(draw, (left - 8, top + segment * 18 + 9), str(segment + 1), 12, "rm")
        for time, (segment, step) in enumerate(calls):
            box = (left + time * cell, top + segment * 18, left + (time + 1) * cell - 3, top + segment * 18 + 16)
            draw.rectangle(box, fill=_mixed(PALE, SCENES[segment], (step + 1) / steps))
        _text(draw, (left + len(calls) * cell, top + segments * 18 + 4), f"{len(calls)} evaluations", 12, "ra")
    _text(
        draw,
        (12, picture.height - 18),
        "Left to right: time. A row is a segment; the darker, the less noise is left.",
        15,
    )
    return picture


FIGURES: Mapping[str, Callable[[], Image.Image]] = {
    "film": film,
    "sharing": sharing,
    "sources": sources,
    "when": when,
    "orders": orders,
}


def _paper(height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", (WIDTH, height), PAPER)
    return picture, ImageDraw.Draw(picture)


def _text(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int = 16,
    anchor: str = "lm",
    colour: tuple[int, int, int] = INK,
) -> None:
    draw.text(place, text, fill=colour, font=ImageFont.load_default(size=size), anchor=anchor)


def _mixed(one: Sequence[int], other: Sequence[int], part: float) -> tuple[int, int, int]:
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _inside(frame: Box, place: tuple[float, float]) -> tuple[float, float]:
    return frame[0] + place[0] * (frame[2] - frame[0]), frame[1] + place[1] * (frame[3] - frame[1])


def _overlap(draw: ImageDraw.ImageDraw, box: Box) -> None:
    """A bracket under an overlap."""
    left, top, right, bottom = box
    draw.line((left, top, left, bottom), fill=LINE)
    draw.line((right, top, right, bottom), fill=LINE)
    _text(draw, ((left + right) / 2, (top + bottom) / 2), "blend", 12, "mm", (90, 94, 88))


def _arrow(
    draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float], colour: tuple[int, ...]
) -> None:
    draw.line((*start, *end), fill=colour, width=4)
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    sides = [
        (end[0] - 16 * math.cos(angle + turn), end[1] - 16 * math.sin(angle + turn))
        for turn in (math.pi / 7, -math.pi / 7)
    ]
    draw.polygon([end, *sides], fill=colour)


def _loop(draw: ImageDraw.ImageDraw, place: tuple[float, float], colour: tuple[int, ...]) -> None:
    """An arrow from something to itself."""
    x, y = place
    draw.arc((x, y - 16, x + 32, y + 16), 200, 480, fill=colour, width=4)
    tip = (x + 10, y + 15)
    draw.polygon([tip, (tip[0] + 13, tip[1] - 9), (tip[0] + 13, tip[1] + 7)], fill=colour)


def _bow(draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float], lift: float) -> None:
    """A bow over two boxes, with its tip at the second."""
    draw.arc((end[0], end[1] - lift, start[0], start[1] + lift), 180, 360, fill=SOURCE, width=3)
    x, y = end
    draw.polygon([(x, y), (x - 6, y - 10), (x + 8, y - 10)], fill=SOURCE)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="the figures of docs/concepts.md")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to draw them")
    parser.add_argument("--only", nargs="+", choices=tuple(FIGURES), default=tuple(FIGURES), help="which ones")
    options = parser.parse_args()
    for name in options.only:
        save(FIGURES[name]().quantize(64), options.folder / f"{name}.png")
        say(f"figure: {name}")


if __name__ == "__main__":
    main()
