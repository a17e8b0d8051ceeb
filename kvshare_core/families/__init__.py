"""The model families that keys and values can be shared in."""

from torch import nn

from .base import Family, FamilyInfo, UnsupportedModelError
from .cogvideox import CogVideoXFamily
from .cosmos import CosmosFamily
from .cosmos_predict2 import CosmosPredict2Family
from .hunyuan import HunyuanFamily
from .kandinsky5 import Kandinsky5Family
from .ltx2 import LTX2Family
from .ltxv import LTXVideoFamily
from .mochi import MochiFamily
from .wan import WanFamily

FAMILIES: tuple[Family, ...] = (
    WanFamily(),
    HunyuanFamily(),
    CogVideoXFamily(),
    MochiFamily(),
    LTXVideoFamily(),
    CosmosPredict2Family(),
    Kandinsky5Family(),
    CosmosFamily(),
    LTX2Family(),
)


def find_family(diffusion_model: nn.Module, latent_channels: int) -> tuple[Family, FamilyInfo]:
    """The family of a loaded diffusion model and its numbers. Raises UnsupportedModelError naming the model."""
    for family in FAMILIES:
        info = family.describe(diffusion_model, latent_channels)
        if info is not None:
            return family, info
    names = ", ".join(family.name for family in FAMILIES)
    raise UnsupportedModelError(
        f"the model is a {type(diffusion_model).__name__}, but KV Share works with video diffusion transformers of "
        f"these families: {names}. Load one of those."
    )
