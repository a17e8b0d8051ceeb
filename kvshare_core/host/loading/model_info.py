"""What is known of a MODEL: its family and its numbers."""

from dataclasses import replace
from typing import Any

from ...families import find_family
from ...families.base import Family, FamilyInfo

NATIVE_FRAMES_ATTACHMENT = "kvshare_native_frames"
"""Attachment of a MODEL whose clips are shorter or longer than its family's: latent frames it was trained on."""


def model_info(model: Any) -> tuple[Family, FamilyInfo]:
    """Family and numbers of a MODEL. Raises families.UnsupportedModelError."""
    latent_format = model.get_model_object("latent_format")
    family, info = find_family(model.get_model_object("diffusion_model"), latent_format.latent_channels)
    native_frames = model.get_attachment(NATIVE_FRAMES_ATTACHMENT)
    return family, info if native_frames is None else replace(info, native_frames=native_frames)
