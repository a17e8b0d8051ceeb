"""Data of nodes for the mask viewer in the frontend, with images in the host's folder of temporary files."""

import os
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io, ui

from ...record.record import Findings
from ...record.viewing import described_film, described_point, sheet_of, shown_frames, shown_maps, small_frames

PREFIX = "kvshare_view"
FRAME_QUALITY = 85
FASTEST = 0
"""How hard to try to make a WebP file small."""

MOST_FILES = 400
"""Pictures of ours that stay in the host's folder of temporary files, which it empties only when it starts."""


def view_of(findings: Findings, images: torch.Tensor, **chosen: Any) -> dict[str, list[Any]]:
    """The answer that shows what a run found over its decoded frames [frames, h, w, 3]; empty when it found nothing.

    chosen: values of the node's own inputs, which the viewer shows first.
    """
    masks, point = findings.masks, findings.point
    timeline = masks.timeline if masks is not None else None if point is None else point.timeline
    if timeline is None:
        return {}
    frames = shown_frames(timeline.frames)
    small = small_frames(images, frames)
    answer = described_film(timeline, frames, images.shape[0] // timeline.frames)
    answer |= {"picture": _save_frames(sheet_of(small)), "size": [small.shape[2], small.shape[1]]}
    answer["notices"] = findings.notices
    answer["point"] = None if point is None else described_point(point)
    answer["maps"] = [
        {
            "kind": shown.kind,
            "name": shown.name,
            "picture": _save_exactly(shown.sheet),
            "size": [shown.grid[1], shown.grid[0]],
            "words": shown.words,
            "steps": shown.steps,
        }
        for shown in shown_maps(masks, point, frames)
    ]
    forget_oldest(Path(folder_paths.get_temp_directory()))
    return {PREFIX: [{**answer, **chosen}]}


def forget_oldest(folder: Path) -> None:
    """Removes the oldest pictures of the viewer from `folder`, beyond MOST_FILES of them."""
    with os.scandir(folder) as entries:
        found = sorted(
            ((entry.stat().st_mtime_ns, entry.path) for entry in entries if entry.name.startswith(PREFIX)), reverse=True
        )
    for _, path in found[MOST_FILES:]:
        # Another preview may have removed it already.
        Path(path).unlink(missing_ok=True)


def _save_frames(sheet: torch.Tensor) -> dict[str, Any]:
    return ui.ImageSaveHelper.save_animated_webp(
        [sheet], PREFIX, io.FolderType.temp, None, 1.0, lossless=False, quality=FRAME_QUALITY, method=FASTEST
    )


def _save_exactly(sheet: torch.Tensor) -> dict[str, Any]:
    return ui.ImageSaveHelper.save_images([sheet], PREFIX, io.FolderType.temp, None)[0]
