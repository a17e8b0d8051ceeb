"""Conditioning cut to one segment: what belongs to frames is cut, everything else stays whole (host.md 2.6).

Whether a tensor belongs to frames is known by its name, never by a size that happens to fit. Start images that a model
gets as extra channels are cut like everything else: the first segment has the image, and later ones have what the long
video has at their place, which is the form of "no image" that the host's nodes write behind it, mask channels included.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ...timeline.fades import take_frames
from ...timeline.timeline import Segment

FRAME_DIM = 2
"""Where video latents [batch, channels, frames, height, width] have their frames."""

Resize = Callable[..., Any]
"""The `resize_cond_for_context_window` of newer hosts' models."""


@dataclass(frozen=True)
class PerFrame:
    """How the frames of a long latent lie in a model input.

    dim: dimension of the frames; per_frame: entries for each latent frame; first: latent frame of the first entry,
    where those before it have none (a reference image).
    length: `exact`, one entry for every frame; `longer`, more do no harm; `any`, the model fills what is missing.
    """

    dim: int
    per_frame: int = 1
    first: int = 0
    length: Literal["exact", "longer", "any"] = "exact"

    def cut(self, name: str, tensor: torch.Tensor, segment: Segment, frames: int) -> torch.Tensor | None:
        """The entries of `segment` in a latent of that many frames; None when there are none.

        In each later segment the frame that the first entry would precede has none either: models leave the first
        `first` frames of whatever they get alone. Raises ValueError naming the input when its length does not fit, or
        when a loop would have to go round in it.
        """
        found, expected = tensor.shape[self.dim], (frames - self.first) * self.per_frame
        if (self.length == "exact" and found != expected) or (self.length == "longer" and found < expected):
            raise ValueError(
                f"MaskGuidedKVShare: the conditioning's {name} covers {found / self.per_frame + self.first:g} latent "
                f"frames, but the timeline plans {frames}. Give the node that makes it the length of the timeline."
            )
        start = segment.start * self.per_frame
        if segment.stop > frames and (self.first or self.length != "exact"):
            raise ValueError(
                f"MaskGuidedKVShare: the conditioning's {name} cannot go round in a loop. Take loop out of the "
                "timeline, or remove the node that adds it."
            )
        if segment.stop > frames:
            return take_frames(tensor, self.dim, start, segment.length * self.per_frame)
        stop = min((segment.stop - self.first) * self.per_frame, found)
        return tensor.narrow(self.dim, start, stop - start) if start < stop else None


PER_FRAME: dict[str, PerFrame] = {
    "c_concat": PerFrame(2),
    "denoise_mask": PerFrame(2),
    "control_video": PerFrame(2),
    "camera_conditions": PerFrame(2),
    "vace_context": PerFrame(3),
    "pose_latents": PerFrame(2, first=1, length="any"),
    "face_pixel_values": PerFrame(2, per_frame=4, first=1, length="any"),
    "time_dim_replace": PerFrame(2, length="any"),
}
"""Inputs of the host's models that have frames, by the host's name."""

AUDIO: dict[int, PerFrame] = {
    5: PerFrame(1, length="longer"),
    4: PerFrame(3, per_frame=4, length="longer"),
}
"""`audio_embed` by its number of dimensions: HuMo [batch, frames, window, layers, width], Wan S2V [batch, layers,
width, pictures]."""

OF_THE_START = frozenset({"guiding_frame_index", "reference_motion"})
"""Inputs that say that the video's first frames are given, or stand for what came before them; later segments have
none."""

WHOLE = frozenset(
    {
        "attention_mask",
        "c_crossattn",
        "clip_fea",
        "clip_fea_ref",
        "clip_text_pooled",
        "crossattn_controlnet",
        "fps",
        "frame_rate",
        "guidance",
        "num_tokens",
        "ofs",
        "ref_latent",
        "ref_latents",
        "reference_latent",
        "time_dim_concat",
        "txt_byt5",
        "vace_strength",
        "y",
    }
)
"""Inputs that hold for the whole video: texts, reference images, numbers."""


def slice_conditioning(
    cond: dict[str, Any], x_in: torch.Tensor, segment: Segment, window: Any, resize: Resize | None = None
) -> dict[str, Any]:
    """A copy of `cond` for one segment of the long latent `x_in`. Its uuid is derived, so that caches keyed by it do
    not mix segments.

    window: the segment as the host's context window; resize: the host's own cutting, where it has one, asked for inputs
    that are not known here. Raises ValueError for what cannot be cut, naming it and what to do.
    """
    frames = x_in.shape[FRAME_DIM]
    result = {**cond, "uuid": uuid.uuid5(cond["uuid"], str(segment.index))}
    if segment.length == frames:
        return result
    if cond.get("control") is not None:
        raise ValueError(
            "MaskGuidedKVShare: a ControlNet is applied to the conditioning, and its control video is not cut into "
            "segments. Remove the Apply ControlNet nodes in front of the sampler, or plan a video of one segment."
        )
    _check_area(cond.get("area"), frames)
    mask = cond.get("mask")
    if isinstance(mask, torch.Tensor) and mask.ndim == 4 and mask.shape[1] > 1:
        result["mask"] = PerFrame(1).cut("mask", mask, segment, frames)
    model_conds: dict[str, Any] = {}
    for name, value in cond["model_conds"].items():
        piece = _slice_input(name, value, x_in, segment, window, resize)
        if piece is not None:
            model_conds[name] = piece
    return {**result, "model_conds": model_conds}


def _check_area(area: Any, frames: int) -> None:
    """Areas are (height, width, y, x) or (frames, height, width, first frame, y, x) in latent steps."""
    if area is not None and len(area) == 6 and (area[3] > 0 or area[0] < frames):
        raise ValueError(
            "MaskGuidedKVShare: a conditioning area covers only a part of the frames, which segments cannot have. Let "
            "it cover the whole time (temporal 1, z 0), and give the prompt a place in the timeline instead."
        )


def _slice_input(
    name: str, value: Any, x_in: torch.Tensor, segment: Segment, window: Any, resize: Resize | None
) -> Any:
    """One input of the model (an object of `comfy.conds`) for a segment; None when the segment has none."""
    frames = x_in.shape[FRAME_DIM]
    tensor = getattr(value, "cond", None)
    if name in WHOLE:
        return value
    if name in OF_THE_START:
        return value if segment.start == 0 else None
    if name == "context_latents":
        return value._copy_with([_context_latent(latent, segment, frames) for latent in tensor or ()])
    if not isinstance(tensor, torch.Tensor):
        return _known_to_host(name, value, x_in, window, resize) or value
    layout = AUDIO.get(tensor.ndim) if name == "audio_embed" else PER_FRAME.get(name)
    if layout is not None:
        piece = layout.cut(name, tensor, segment, frames)
        return None if piece is None else value._copy_with(piece)
    resized = _known_to_host(name, value, x_in, window, resize)
    if resized is not None:
        return resized
    if tensor.ndim == x_in.ndim and tensor.shape[FRAME_DIM] == frames:
        return value._copy_with(PerFrame(FRAME_DIM).cut(name, tensor, segment, frames))
    if frames in tensor.shape[1:]:
        raise ValueError(
            f"MaskGuidedKVShare: the conditioning has an input '{name}' of shape {list(tensor.shape)} that may belong "
            f"to the {frames} latent frames one by one, and KV Share does not know how to cut it. Remove the node that "
            "adds it, or plan a video of one segment."
        )
    return value


def _known_to_host(name: str, value: Any, x_in: torch.Tensor, window: Any, resize: Resize | None) -> Any:
    return None if resize is None else resize(name, value, window, x_in, x_in.device, retain_index_list=[])


def _context_latent(latent: torch.Tensor, segment: Segment, frames: int) -> torch.Tensor | None:
    """A latent shown beside the video: another video of its length is cut along with it, a picture stays."""
    if latent.ndim > FRAME_DIM and latent.shape[FRAME_DIM] == frames:
        return PerFrame(FRAME_DIM).cut("context_latents", latent, segment, frames)
    return latent
