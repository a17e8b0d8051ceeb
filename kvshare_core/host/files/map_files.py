"""Writes the maps and masks of a run as files: numbers in safetensors, pictures, and an animation."""

import json
import re
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F

from ...record.map_pictures import kept_pictures, row_picture
from ...record.record import Findings
from .user_files import NewFolder, new_folder

INPUT = "mask_save_dir"
CONTENT = "kvshare_maps"
"""Key of the JSON in the file's metadata."""
FORMAT = 1
LONGEST_SIDE = 512
"""Pixels of the animation's longer side at most."""
QUALITY = 85
NO_IMAGEIO = (
    "mask_save_dir: the package imageio is missing. Install it into ComfyUI's Python (pip install imageio), or leave "
    "mask_save_dir empty."
)


def save_maps(findings: Findings, frames: torch.Tensor, folder: str) -> list[dict[str, Any]]:
    """Writes what a run found into a new folder below `folder` in the host's output folder, and returns the pictures as
    the host names them.

    frames: float [frames, h, w, 3] in 0..1 with the heat over them. Raises ValueError, naming the input, for a folder
    outside the output folder, and without imageio.
    """
    try:
        import imageio.v3 as imageio
    except ImportError as error:
        raise ValueError(NO_IMAGEIO) from error
    target = new_folder(folder, "run", INPUT)
    tensors, document = numbers_of(findings)
    safetensors.torch.save_file(tensors, str(target.path / "maps.safetensors"), {CONTENT: json.dumps(document)})
    for name, picture in _pictures(findings):
        imageio.imwrite(target.path / f"{name}.png", _bytes(picture))
    fps = _fps(findings)
    if frames.shape[0] > 1:
        small = _bytes(_small(frames))
        imageio.imwrite(target.path / "heat.webp", small, plugin="pillow", duration=1000 / fps, loop=0, quality=QUALITY)
    return [_named(target, path.name) for path in sorted(target.path.iterdir()) if path.suffix in (".png", ".webp")]


def numbers_of(findings: Findings) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors of a file, and what its metadata says of them."""
    tensors: dict[str, torch.Tensor] = {}
    document: dict[str, Any] = {"format": FORMAT, "subjects": [], "maps": []}
    masks, point = findings.masks, findings.point
    if masks is not None:
        tensors |= {"heat": masks.heat, "mask": masks.mask}
        document["prompts"] = [beat.prompt for beat in masks.timeline.beats]
        for number, subject in enumerate(masks.subjects):
            document["subjects"].append(subject.name)
            tensors |= {f"subject{number}.heat": subject.heat, f"subject{number}.mask": subject.mask}
        for step in masks.course:
            tensors[f"masks.step{step.step}"] = step.masks
    if point is not None:
        tensors |= {"point.heat": point.heat, "point.frames": point.frames}
        document["point"] = {"x": point.look.x, "y": point.look.y, "frame": point.look.picture}
    for kept in findings.maps:
        place = f"segment{kept.segment}.step{kept.step}.block{kept.block}"
        document["maps"].append(
            {"segment": kept.segment, "step": kept.step, "block": kept.block, "words": kept.words, "name": place}
        )
        tensors |= {f"{place}.{kind}": values for kind, values in kept.found().items()}
    return {name: values.contiguous().clone() for name, values in tensors.items()}, document


def _pictures(findings: Findings) -> list[tuple[str, torch.Tensor]]:
    """Names and pictures [h, w, 3] in 0..1 of the first video."""
    found: list[tuple[str, torch.Tensor]] = []
    for number, subject in enumerate(() if findings.masks is None else findings.masks.subjects):
        name = f"subject{number}_{_plain(subject.name)}"
        found += [(f"{name}_heat", row_picture(subject.heat[:1])), (f"{name}_mask", row_picture(subject.mask[:1]))]
    for kept in findings.maps:
        place = f"segment{kept.segment}_step{kept.step:02}_block{kept.block:02}"
        found += [(f"{place}_{kind}", picture) for kind, picture in kept_pictures(kept)]
    return found


def _plain(name: str) -> str:
    """A subject's name as a part of a file's."""
    return re.sub(r"[^\w-]+", "_", name)[:40].strip("_") or "subject"


def _fps(findings: Findings) -> float:
    timelines = [one.timeline for one in (findings.masks, findings.point) if one is not None]
    return timelines[0].fps if timelines and timelines[0].fps else 8.0


def _small(frames: torch.Tensor) -> torch.Tensor:
    height, width = frames.shape[1:3]
    factor = min(1.0, LONGEST_SIDE / max(height, width))
    size = max(1, round(height * factor)), max(1, round(width * factor))
    return F.interpolate(frames.movedim(-1, 1), size, mode="area").movedim(1, -1)


def _bytes(picture: torch.Tensor) -> Any:
    return (picture.detach().float().cpu().clamp(0, 1) * 255).round().byte().numpy()


def _named(folder: NewFolder, name: str) -> dict[str, Any]:
    return {"filename": name, "subfolder": folder.subfolder, "type": "output"}
