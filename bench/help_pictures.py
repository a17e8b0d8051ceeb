"""The pictures of the help pages: what the values of `position`, `layer_preset`, `mask_kind` and `mask_start` do. The
first two are plain figures; the others show masks of real runs, outlined on their frames.

python -m bench.help_pictures [--folder web/docs/pictures] [--only NAME ...]
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from devtools.environment import ROOT, say
from kvshare_core.config import KVShareConfig, MaskKind, MaskSettings, MaskStart
from kvshare_core.families import wan
from kvshare_core.families.block_presets import GENERAL, best_preset

from .methods import Method
from .pictures import INK, PAPER, save, to_bytes
from .pipeline import Clip, Pipeline, load_pipeline

FOLDER = ROOT / "web" / "docs" / "pictures"
FILM = ("a circle moving right over night", "a circle moving down over grass")
SUBJECT, SEED = "circle", 4
SHOWN = 6
"""Frames of a film that are shown."""
SIDE, GAP, LABEL = 112, 6, 104
"""Pixels of a frame's side, between frames, and for the name of a row."""
SOURCE, TARGET, KEYS = (222, 120, 45), (60, 105, 190), (222, 120, 45)
BLOCKS, HEADS = 30, 12
"""Of Wan 2.1 1.3B."""


def position() -> Image.Image:
    """For every value a frame of the source above one of the target: rings show where it finds the source's keys."""
    now, before = (0.68, 0.62), (0.3, 0.35)
    rings: Mapping[str, Sequence[tuple[float, float]]] = {
        "centred": [now],
        "same": [before],
        "gap": [before, (before[0] - 0.06, before[1] - 0.06), (before[0] - 0.12, before[1] - 0.12)],
        "matched": [(now[0] + x, now[1] + y) for x in (-0.07, 0.07) for y in (-0.07, 0.07)],
        "frame": [before],
    }
    sheet = Image.new("RGB", (GAP + len(rings) * (SIDE + GAP), 2 * (SIDE + GAP) + 26), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for column, (name, places) in enumerate(rings.items()):
        left = GAP + column * (SIDE + GAP)
        draw.text((left + 2, 3), name, fill=INK, font=font)
        upper, lower = (left, 26), (left, 26 + SIDE + GAP)
        for corner in (upper, lower):
            draw.rectangle((*corner, corner[0] + SIDE, corner[1] + SIDE), fill=(225, 228, 222), outline=INK)
        _disc(draw, upper, before, SOURCE)
        _disc(draw, lower, now, TARGET)
        for place in places:
            _ring(draw, lower, place, 0.05 if name == "matched" else 0.17)
    return sheet


def layer_preset() -> Image.Image:
    """The blocks that share, of a model of 30."""
    family = best_preset(wan.PRESETS[BLOCKS, HEADS], "share")
    rows: Mapping[str, Sequence[int]] = {
        "custom": range(BLOCKS),
        **{name: GENERAL[name].of(BLOCKS).blocks for name in ("middle", "late")},
        "family": () if family is None else family.blocks,
    }
    width, height = 16, 26
    sheet = Image.new("RGB", (LABEL + BLOCKS * width + GAP, len(rows) * (height + GAP) + 24), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for row, (name, blocks) in enumerate(rows.items()):
        top = GAP + row * (height + GAP)
        draw.text((GAP, top + 4), name, fill=INK, font=font)
        for block in range(BLOCKS):
            left = LABEL + block * width
            colour = SOURCE if block in blocks else (205, 208, 204)
            draw.rectangle((left, top, left + width - 3, top + height), fill=colour)
    for block in (0, 10, 20, 29):
        draw.text(
            (LABEL + block * width - 2, sheet.height - 20), str(block), fill=INK, font=ImageFont.load_default(size=11)
        )
    return sheet


def mask_kind(pipeline: Callable[[str], Pipeline]) -> Image.Image:
    """A film with the mask of every kind."""
    kinds: tuple[MaskKind, ...] = ("appearance", "contrast", "threshold")
    masks: Mapping[str, MaskSettings] = {kind: MaskSettings(kind=kind) for kind in kinds}
    return _masked(pipeline("cross-attention"), masks)


def mask_start(pipeline: Callable[[str], Pipeline]) -> Image.Image:
    """A film of the model whose attention maps show little, with both beginnings of its masks."""
    starts: tuple[MaskStart, ...] = ("effect", "maps")
    masks: Mapping[str, MaskSettings] = {start: MaskSettings(start=start) for start in starts}
    return _masked(pipeline("one-stream-attention"), masks)


def _masked(pipeline: Pipeline, masks: Mapping[str, MaskSettings]) -> Image.Image:
    sheet, draw, font = _sheet(len(masks), SHOWN)
    for row, (name, settings) in enumerate(masks.items()):
        method = Method(KVShareConfig(masks=settings))
        clip = pipeline.generate(FILM, seed=SEED, overlap=0, method=method, subject=SUBJECT)
        top = GAP + row * (SIDE + GAP)
        draw.text((GAP, top + SIDE // 2 - 8), name, fill=INK, font=font)
        for column in range(SHOWN):
            frame = round(column * (len(clip.frames) - 1) / (SHOWN - 1))
            sheet.paste(_outlined(clip, frame), (LABEL + column * (SIDE + GAP), top))
    return sheet


def _outlined(clip: Clip, frame: int) -> Image.Image:
    """A frame with a black and white line around its mask."""
    assert clip.masks is not None
    size = (SIDE, SIDE)
    picture = F.interpolate(clip.frames[frame][None], size=size, mode="nearest")[0]
    mask = F.interpolate(clip.masks[frame].float()[None, None], size=size, mode="nearest")[0, 0] > 0.5
    for width, colour in ((5, 0.0), (2, 1.0)):
        grown = F.max_pool2d(mask.float()[None], 2 * width + 1, 1, width)[0] > 0
        picture = torch.where((grown & ~mask)[None], torch.full_like(picture, colour), picture)
    return Image.fromarray(to_bytes(picture))


def _sheet(rows: int, columns: int) -> tuple[Image.Image, ImageDraw.ImageDraw, ImageFont.FreeTypeFont]:
    size = (LABEL + columns * (SIDE + GAP), GAP + rows * (SIDE + GAP))
    sheet = Image.new("RGB", size, PAPER)
    font = ImageFont.load_default(size=15)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return sheet, ImageDraw.Draw(sheet), font


def _disc(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], place: tuple[float, float], colour: tuple[int, ...]
) -> None:
    draw.ellipse(_box(corner, place, 0.13), fill=colour)


def _ring(draw: ImageDraw.ImageDraw, corner: tuple[int, int], place: tuple[float, float], radius: float) -> None:
    draw.ellipse(_box(corner, place, radius), outline=KEYS, width=4)


def _box(corner: tuple[int, int], place: tuple[float, float], radius: float) -> tuple[float, float, float, float]:
    (left, top), (x, y) = corner, place
    sides = (
        left + SIDE * (x - radius),
        top + SIDE * (y - radius),
        left + SIDE * (x + radius),
        top + SIDE * (y + radius),
    )
    return sides


def main() -> None:
    """The command line."""
    figures = {"position": position, "layer_preset": layer_preset}
    runs = {"mask_kind": mask_kind, "mask_start": mask_start}
    names = (*figures, *runs)
    parser = argparse.ArgumentParser(description="the pictures of the help pages")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to draw them")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="which ones")
    options = parser.parse_args()
    for name in options.only:
        picture = figures[name]() if name in figures else runs[name](load_pipeline)  # pyright: ignore[reportArgumentType]
        save(picture.quantize(64), options.folder / f"{name}.png")
        say(f"help picture: {name}")


if __name__ == "__main__":
    main()
