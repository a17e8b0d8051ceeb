"""Files for resuming a long video: the latent, its noise mask, the timeline and the subject masks.

A file is in safetensors format; everything but the tensors is JSON in its metadata.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from comfy.nested_tensor import NestedTensor
from comfy.utils import pack_latents

from ...plain_values import from_document, parse_json, to_document
from ...record.record import KVShareRecord, RecordedMasks
from ...timeline.pictures import video_shape
from ...timeline.timeline import FRAME_DIM, Timeline
from ..running import signatures_above
from .run_checks import check_timeline
from .user_files import change_of, names_of, new_file, path_of, refused

SUFFIX = ".kvshare.safetensors"
WRITER = "Long Video Save"
CONTENT = "kvshare_long_video"
"""Key of the JSON in a file's metadata."""

FORMAT = 1
"""The number of the JSON's format; see plain_values on when it rises."""


@dataclass(frozen=True)
class LongVideoFile:
    """What a file holds."""

    timeline: Timeline
    samples: tuple[torch.Tensor, ...]
    """The latent of the video [batch, channels, latent frames, height, width], or of a batch of pictures [latent
    frames, channels, height, width], and that of the audio if there is any."""
    noise_mask: tuple[torch.Tensor, ...] = ()
    """One for each of `samples`; empty for none."""
    batch_index: tuple[int, ...] = ()
    """For each latent of the batch, which of the seed's noises it has; empty when that is its index in the batch."""
    masks: RecordedMasks | None = None

    @property
    def latent(self) -> dict[str, Any]:
        """The host's LATENT."""
        latent: dict[str, Any] = {"samples": _joined(self.samples)}
        if self.noise_mask:
            latent["noise_mask"] = _joined(self.noise_mask)
        if self.batch_index:
            latent["batch_index"] = list(self.batch_index)
        return latent

    @property
    def record(self) -> KVShareRecord:
        """The record of the run that found the masks; empty when there are none."""
        record = KVShareRecord()
        record.put(self.masks, None)
        return record


def file_of(timeline: Timeline, latent: dict[str, Any], record: KVShareRecord | None) -> LongVideoFile:
    """What to save of a timeline's latent, with the masks of the run that made it. Raises ValueError for the latent of
    another timeline."""
    samples = _parts(latent["samples"])
    if not _is_of(timeline, samples[0]):
        raise ValueError(
            f"latent: it has the shape {list(samples[0].shape)}, but the timeline has {timeline.latent_frames} latent "
            "frames. Connect the latent of the same timeline."
        )
    mask = latent.get("noise_mask")
    # As the sampler had it when the run ended.
    joined = samples[0] if len(samples) == 1 else pack_latents(samples)[0]
    return LongVideoFile(
        timeline,
        samples,
        () if mask is None else _parts(mask),
        tuple(latent.get("batch_index") or ()),
        None if record is None else record.findings(joined, signatures_above("latent")).masks,
    )


def save(content: LongVideoFile, prefix: str) -> tuple[str, str]:
    """Writes a new file into the host's output folder and returns its subfolder and its name.

    prefix: of the name; may contain a subfolder and the host's variables; the host refuses a path outside its folder.
    """
    tensors: dict[str, torch.Tensor] = {}
    document = to_document(content, tensors, FORMAT)
    new = new_file(prefix, SUFFIX)
    on_cpu = {key: tensor.cpu().clone() for key, tensor in tensors.items()}
    safetensors.torch.save_file(on_cpu, str(new.path), {CONTENT: json.dumps(document)})
    return new.subfolder, new.path.name


def load(name: str) -> LongVideoFile:
    """Loads a file by its name in `file_names`. Raises ValueError for a name outside the host's folders, for a file
    that `save` has not written, and for one that a newer version of the pack wrote."""
    path = _path(name)
    tensors: dict[str, torch.Tensor] = {}
    try:
        with safetensors.safe_open(str(path), framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}
        content = from_document(LongVideoFile, parse_json(metadata[CONTENT]), tensors, FORMAT)
        check(content)
        return content
    except (KeyError, ValueError, OSError, safetensors.SafetensorError) as error:
        raise refused(name, WRITER, error) from error


def check(content: LongVideoFile) -> None:
    """Raises ValueError if what a file holds does not belong together."""
    check_timeline(content.timeline)
    frames, first = content.timeline.latent_frames, content.samples[0] if content.samples else torch.empty(0)
    if not _is_of(content.timeline, first):
        raise ValueError(f"its latent has the shape {list(first.shape)}, its timeline {frames} latent frames")
    if content.noise_mask and len(content.noise_mask) != len(content.samples):
        raise ValueError("it has not one noise mask for each latent")
    if content.masks is None:
        return
    check_timeline(content.masks.timeline)
    maps = [content.masks, *content.masks.subjects]
    for tensor in (tensor for one in maps for tensor in (one.heat, one.mask)):
        if tensor.ndim != 4 or tensor.shape[1] != content.masks.timeline.latent_frames or 0 in tensor.shape:
            raise ValueError(f"its masks have the shape {list(tensor.shape)}, which is not that of the film")


def _is_of(timeline: Timeline, samples: torch.Tensor) -> bool:
    """Whether a latent has the frames of the timeline."""
    shape = video_shape(samples.shape)
    return len(shape) == 5 and shape[FRAME_DIM] == timeline.latent_frames


def file_names() -> list[str]:
    """Names of saved files in the host's input and output folders, as `load` takes them."""
    return names_of(SUFFIX)


def fingerprint(name: str) -> str:
    """A text that changes when the file does."""
    return change_of(_path(name))


def _path(name: str) -> Path:
    return path_of(name, SUFFIX, WRITER)


def _parts(samples: Any) -> tuple[torch.Tensor, ...]:
    return (samples,) if isinstance(samples, torch.Tensor) else tuple(samples.unbind())


def _joined(parts: Sequence[torch.Tensor]) -> Any:
    return parts[0] if len(parts) == 1 else NestedTensor(list(parts))
