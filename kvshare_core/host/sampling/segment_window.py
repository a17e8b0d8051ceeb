"""One segment in the form in which the host's models expect a context window."""

import copy
import uuid
from collections.abc import Sequence
from typing import Any

import torch
from comfy.context_windows import ContextWindowABC

from ...plan.schedule import Evaluation
from ...timeline.fades import take_frames
from ...timeline.timeline import FRAME_DIM
from .. import COMMON_TAG, is_prompt
from ..conditioning.controls import Controls
from ..conditioning.mixing import TEXT
from .packed_latent import AudioWindow

Conditioning = list[dict[str, Any]]


class SegmentWindow(ContextWindowABC):
    """One segment in the form in which the host's models expect a context window.

    shape: latent frames, height and width; places: of each conditioning, by the number of the list it is in and its
        uuid, the place in that list, which stays the same however the host splits and orders its batches;
    packed: how many values video and audio have together, None for a video alone; modality_windows: the audio's own
        window, which the host looks for by that name;
    prompts: index of the list that begins with the beat's prompt, None when no list does, because guiders order their
        lists as they like; common: whether that is the prompt of all beats, which has none of the beat's words;
    routes: of a conditioning with several texts, by its uuid, the tokens of each; hides: a subject whose words this
        evaluation hides, or None; lead: latent frames of a reference picture in front of the segment; controls: the
        run's ControlNets of segments, None where they cannot be cut; text_tokens: length of the prompt's text, None
        when no list begins with it.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        latent: torch.Tensor,
        packed: int | None = None,
        modality_windows: dict[int, AudioWindow] | None = None,
    ):
        total_frames = latent.shape[FRAME_DIM]
        segment = evaluation.segment
        self.evaluation = evaluation
        self.segment = segment
        self.shape = (segment.length, *latent.shape[FRAME_DIM + 1 :])
        self.packed = packed
        self.modality_windows = modality_windows or {}
        self.places: dict[tuple[int, uuid.UUID], int] = {}
        self.prompts: int | None = None
        self.routes: dict[uuid.UUID, tuple[int, ...]] = {}
        self.common = False
        self.hides: int | None = None
        self.lead = 0
        self.controls: Controls | None = None
        self.text_tokens: int | None = None
        self.index_list = [frame % total_frames for frame in range(segment.start, segment.stop)]
        self.dim = FRAME_DIM
        self.context_length = segment.length
        self.context_overlap = 0
        self.total_frames = total_frames
        self.center_ratio = (segment.start + segment.stop) / 2 / total_frames
        self.causal_anchor_index = None

    def take(self, conds: Sequence[Conditioning | None]) -> None:
        """Takes the lists of conditioning that the segment is evaluated with."""
        self.places = {
            (index, cond["uuid"]): place
            for index, entries in enumerate(conds)
            for place, cond in enumerate(entries or ())
        }
        own = next(
            ((index, entries[0]) for index, entries in enumerate(conds) if entries and is_prompt(entries[0])), None
        )
        self.prompts = None if own is None else own[0]
        self.common = any(COMMON_TAG in entry for entries in conds for entry in entries or ())
        text = None if own is None else own[1]["model_conds"].get(TEXT)
        self.text_tokens = None if text is None else int(text.cond.shape[1])

    def hiding(self, subject: int, prompt: Conditioning) -> tuple["SegmentWindow", Conditioning]:
        """The same window without the words of a subject, for the list of conditioning that begins with the prompt, and
        that list with new uuids: caches of other nodes that are keyed by uuid must not take this evaluation."""
        window, renamed = copy.copy(self), [{**entry, "uuid": uuid.uuid4()} for entry in prompt]
        names = [entry["uuid"] for entry in renamed]
        window.places = {(self.prompts or 0, name): place for place, name in enumerate(names)}
        window.routes = {
            name: self.routes[entry["uuid"]]
            for name, entry in zip(names, prompt, strict=True)
            if entry["uuid"] in self.routes
        }
        window.hides = subject
        return window, renamed

    def get_tensor(
        self,
        full: torch.Tensor,
        device: torch.device | None = None,
        dim: int | None = None,
        retain_index_list: list[int] | None = None,
    ) -> torch.Tensor:
        piece = take_frames(full, self.dim if dim is None else dim, self.segment.start, self.segment.length)
        return piece if device is None else piece.to(device)

    def add_window(self, full: torch.Tensor, to_add: torch.Tensor, dim: int | None = None) -> torch.Tensor:
        frames = torch.tensor(self.index_list, device=full.device)
        return full.index_add_(self.dim if dim is None else dim, frames, to_add)
