"""The family of a MODEL and what the model is."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from ...families import find_family
from ...families.base import Family, FamilyInfo

NATIVE_FRAMES_ATTACHMENT = "kvshare_native_frames"
"""Attachment of a MODEL with the latent frames of the clips it was trained on, where they differ from its family's."""

SOURCE_ATTACHMENT = "kvshare_source"
"""Attachment of a MODEL with its `ModelSource`, from Load Video DiT."""

Loader = Literal["Load Video DiT", "Load Diffusion Model", "Load Checkpoint"]
"""A node that loads models from files."""


@dataclass(frozen=True)
class ModelSource:
    """Where a MODEL was loaded from, in names that mean the same on another machine."""

    loader: Loader
    name: str
    """As the loader's list has it."""
    options: tuple[tuple[str, Any], ...] = ()
    """What else the host's loader was told, plain values and dtypes; of Load Video DiT the name of the precision."""


def model_info(model: Any) -> tuple[Family, FamilyInfo]:
    """The family of a MODEL and what the model is. Raises families.UnsupportedModelError."""
    latent_format = model.get_model_object("latent_format")
    family, info = find_family(model.get_model_object("diffusion_model"), latent_format.latent_channels)
    native_frames = model.get_attachment(NATIVE_FRAMES_ATTACHMENT)
    return family, info if native_frames is None else replace(info, native_frames=native_frames)
