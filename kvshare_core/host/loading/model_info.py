"""The family of a MODEL and what the model is."""

from dataclasses import replace
from typing import Any

from ...families import find_family
from ...families.base import Family, FamilyInfo

NATIVE_FRAMES_ATTACHMENT = "kvshare_native_frames"
"""Attachment of a MODEL with the latent frames of the clips it was trained on, where they differ from its family's."""


def model_info(model: Any) -> tuple[Family, FamilyInfo]:
    """The family of a MODEL and what the model is. Raises families.UnsupportedModelError."""
    latent_format = model.get_model_object("latent_format")
    family, info = find_family(model.get_model_object("diffusion_model"), latent_format.latent_channels)
    native_frames = model.get_attachment(NATIVE_FRAMES_ATTACHMENT)
    return family, info if native_frames is None else replace(info, native_frames=native_frames)
