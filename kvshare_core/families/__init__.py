"""The model families in which keys and values can be shared. ComfyUI is not imported here: a family describes the
host's modules and calls, and generic code in `host/` applies what it states.

A new family is one file with a class that has everything in `base.Family`, and one line in FAMILIES:

1. `describe`: recognise the host's model class; state blocks, heads, patch, compression and native frames.
2. `classify`: list the attention calls of one forward in their order, and check each by its number of tokens.
3. `rope_scheme`: how keys are rotated, or None with the reason.
4. `inputs`: everything that the host's `extra_conds` adds for this class, and how it is cut over time, or why not;
   `audio`: what is packed into the latent beside the video, or None.
5. `text_encoders`: the host's `CLIPType`, the files, and which rows of the embedding are the prompt's.
6. `image_channels`: how its models take the images of a video, or None.
7. Tests: a tiny model in `tests/tiny/`, a line in `tests/support/family_cases.py` (all contracts run on it), its text
   encoder in `tests/tiny/encoders.py`, and the released sizes in `bench/plans.py`.
"""

from typing import Any

from .base import Family, FamilyInfo, UnsupportedModelError
from .cogvideox import CogVideoXFamily
from .cosmos import CosmosFamily
from .cosmos_predict2 import CosmosPredict2Family
from .hunyuan import HunyuanFamily
from .kandinsky5 import Kandinsky5Family
from .ltx2 import LTX2Family
from .ltxv import LTXVideoFamily
from .minimax_h3 import MiniMaxH3Family
from .mochi import MochiFamily
from .unet import UNetFamily
from .vit3d import ViT3DFamily
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
    MiniMaxH3Family(),
    UNetFamily(),
    ViT3DFamily(),
)


def find_family(diffusion_model: Any, latent_channels: int) -> tuple[Family, FamilyInfo]:
    """The family of a loaded diffusion model and what the model is. Raises UnsupportedModelError naming the model."""
    for family in FAMILIES:
        info = family.describe(diffusion_model, latent_channels)
        if info is not None:
            return family, info
    names = ", ".join(family.name for family in FAMILIES)
    raise UnsupportedModelError(
        f"the model is a {type(diffusion_model).__name__}, but KV Share works with models of these families: {names}. "
        "Load one of those."
    )
