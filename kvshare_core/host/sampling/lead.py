"""Latent frames of a reference picture that the host's nodes put in front of a video (WanVaceToVideo with a
reference_image, WanAnimateToVideo).

They belong to no beat: the timeline has the frames after them. Every segment is evaluated with them in front, as a clip
of its own would be, so every segment has the reference. What becomes of them is the mean of all segments.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from ...families.model_inputs import InputLayout, PerFrame, ReferenceFrames
from ...timeline.timeline import FRAME_DIM
from ..conditioning.carried_image import CONCAT
from ..conditioning.slicing import COMMON_INPUTS
from .segment_window import Conditioning, SegmentWindow

FRONT = "kvshare_reference_frames"
"""Key in a conditioning under which the entries of the reference frames wait: by the input's name, the dimension that
is time and the entries."""

CalcCondBatch = Callable[..., list[torch.Tensor]]
"""The host's, of model, lists of conditioning, latent, timestep and model options."""


def lead_frames(
    references: ReferenceFrames | None, frames: int, planned: int, conds: Sequence[Conditioning | None]
) -> int:
    """How many of a latent's `frames` are reference frames in front of the `planned` ones; 0 where the conditioning,
    as the host's models get it, does not say so."""
    if references is None or frames <= planned:
        return 0
    inputs = [entry["model_conds"] for cond in conds for entry in cond or ()]
    given = [references.count(one[references.input].cond) for one in inputs if references.input in one]
    return frames - planned if given and min(given) >= frames - planned else 0


def check_front(references: ReferenceFrames, planned: int, conds: Sequence[Conditioning | None]) -> None:
    """Raises ValueError for conditioning with reference frames in front of `planned` ones, whose latent has none."""
    for one in (entry["model_conds"] for cond in conds for entry in cond or ()):
        tensor = one[references.input].cond if references.input in one else None
        more = 0 if tensor is None else tensor.shape[references.frame_dim] - planned
        if tensor is not None and 0 < more <= references.count(tensor):
            raise ValueError(
                f"Mask-Guided KV Share: the conditioning has {more} latent frame(s) of a reference picture in front of "
                "the video, but the latent has none. Connect the latent of the node that made it (WanVaceToVideo or "
                "WanAnimateToVideo) to the sampler, in place of Long Video Segmenter's."
            )


class Lead:
    """The reference frames of one model call. frames: how many; x_in: the whole latent; lists: of conditioning."""

    def __init__(self, frames: int, x_in: torch.Tensor, lists: int):
        self.video = x_in[:, :, frames:]
        self._frames, self._x_in = frames, x_in
        self._front = x_in[:, :, :frames]
        self._found: list[list[tuple[float, torch.Tensor]]] = [[] for _ in range(lists)]

    def without_front(self, entry: dict[str, Any], family_inputs: Mapping[str, InputLayout]) -> dict[str, Any]:
        """Conditioning of the video alone, which keeps the entries of the reference frames aside."""
        layouts: dict[str, InputLayout] = {**COMMON_INPUTS, **family_inputs}
        conds, front = dict(entry["model_conds"]), dict[str, tuple[int, torch.Tensor]]()
        for name, value in entry["model_conds"].items():
            content = getattr(value, "cond", None)
            layout = self._layout_of(content, layouts.get(name))
            if layout is not None and isinstance(content, torch.Tensor):
                count = self._frames * layout.per_frame
                rest = content.shape[layout.dim] - count
                front[name] = layout.dim, content.narrow(layout.dim, 0, count)
                conds[name] = value._copy_with(content.narrow(layout.dim, count, rest))
        return {**entry, "model_conds": conds, FRONT: front}

    def _layout_of(self, content: Any, stated: InputLayout | None) -> PerFrame | None:
        """How an input lies over the frames of the whole latent; None when it has no entries for the reference
        frames."""
        if not isinstance(content, torch.Tensor):
            return None
        if stated is None and content.ndim == 5 and content.shape[FRAME_DIM] == self._x_in.shape[FRAME_DIM]:
            return PerFrame(FRAME_DIM)
        layout = stated.get(content.ndim) if isinstance(stated, Mapping) else stated
        return layout if isinstance(layout, PerFrame) and not layout.first else None

    def around(self, calc_cond_batch: CalcCondBatch) -> CalcCondBatch:
        """The host's evaluation of a segment, for the video alone: with the reference frames in front, whose
        predictions are kept."""

        def calc(
            model: Any,
            conds: list[Conditioning | None],
            piece: torch.Tensor,
            timestep: torch.Tensor,
            model_options: dict[str, Any],
        ) -> list[torch.Tensor]:
            window: SegmentWindow = model_options["transformer_options"]["context_window"]
            window.lead = self._frames
            whole = torch.cat([self._front, piece], FRAME_DIM)
            fronted = [cond and [with_front(entry) for entry in cond] for cond in conds]
            outputs = calc_cond_batch(model, fronted, whole, timestep, model_options)
            if window.hides is None:
                for found, output in zip(self._found, outputs, strict=True):
                    found.append((window.evaluation.weight, output[:, :, : self._frames]))
            return [output[:, :, self._frames :] for output in outputs]

        return calc

    def whole(self, videos: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The predictions of the whole latent, one for each list, from those of the video."""
        found = (self._mean(fronts) for fronts in self._found)
        return [torch.cat([front, video], FRAME_DIM) for front, video in zip(found, videos, strict=True)]

    def _mean(self, found: Sequence[tuple[float, torch.Tensor]]) -> torch.Tensor:
        """As it was where nothing was evaluated."""
        if len(found) < 2:
            return found[0][1] if found else self._front
        total = sum(weight for weight, _ in found)
        return torch.stack([weight / total * front for weight, front in found]).sum(0)


def with_front(entry: dict[str, Any]) -> dict[str, Any]:
    """Conditioning of a segment with the entries of the reference frames in front."""
    conds = dict(entry["model_conds"])
    front: dict[str, tuple[int, torch.Tensor]] = entry[FRONT]
    for name, (dim, entries) in front.items():
        own = conds[name].cond
        sizes = [entries.shape[dim] if place == dim else size for place, size in enumerate(own.shape)]
        conds[name] = conds[name]._copy_with(torch.cat([entries.to(own).expand(*sizes), own], dim))
    return {**entry, "model_conds": conds}


def has_front(entries: Conditioning) -> bool:
    """Whether the reference frames give a model an image as input channels."""
    return all(CONCAT in entry.get(FRONT, {}) for entry in entries)


def inputs_behind(family_inputs: Mapping[str, InputLayout], frames: int) -> dict[str, InputLayout]:
    """The layouts of a family's inputs over the video behind that many reference frames: those that begin behind the
    model's own reference frame begin with the video. Raises ValueError where a model would not begin there."""
    return {name: _behind(layout, frames) for name, layout in family_inputs.items()}


def _behind(layout: InputLayout, frames: int) -> InputLayout:
    if not isinstance(layout, PerFrame) or not layout.first:
        return layout
    if layout.first != frames:
        raise ValueError(
            f"Mask-Guided KV Share: the conditioning has {frames} latent frames of reference pictures, and this model "
            f"takes {layout.first}. Give WanAnimateToVideo one picture as reference_image."
        )
    return replace(layout, first=0)
