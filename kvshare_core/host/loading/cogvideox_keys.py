"""CogVideoX transformers as published: their weights under the host's names, and their positions.

The published files name their weights as diffusers' `CogVideoXTransformer3DModel` does. The host has a class of its own
(`comfy/ldm/cogvideo/model.py`), with the same weights in the same layout under other names. What the host cannot see in
the files is how the model marks positions; diffusers has that in a configuration file:

| model | rotates queries and keys | adds positions to tokens |
|---|---|---|
| 2B | no | sines and cosines, which are not in the file |
| 5B, 1.5 | yes | no |
| 5B image-to-video | yes | a learned table, `patch_embed.pos_embedding` |

ComfyUI 0.30.0 takes a model with a table for one that does not rotate, and one without a table for one that rotates.
In 5B it also stretches height and width by `spatial_interpolation_scale`, which is meant for sines and cosines: in
diffusers' pipelines the rotation counts tokens.
"""

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

HOST_NAMES: Mapping[str, str] = {
    "transformer_blocks.": "blocks.",
    ".attn1.to_q.": ".q.",
    ".attn1.to_k.": ".k.",
    ".attn1.to_v.": ".v.",
    ".attn1.to_out.0.": ".attn_out.",
    ".attn1.norm_q.": ".norm_q.",
    ".attn1.norm_k.": ".norm_k.",
    ".ff.net.0.proj.": ".ff_proj.",
    ".ff.net.2.": ".ff_out.",
    "time_embedding.linear_": "time_embedding_linear_",
    "ofs_embedding.linear_": "ofs_embedding_linear_",
}
"""Parts of published names, and the host's; all other parts are the same."""

PUBLISHED = frozenset({"transformer_blocks.0.norm1.linear.weight", "patch_embed.text_proj.weight"})
"""Weights that together only a published CogVideoX has."""

HEADS_OF_2B = 30

_Weight = TypeVar("_Weight")


def is_published(names: Collection[str]) -> bool:
    """Whether weights of these names are those of a CogVideoX transformer as published."""
    return PUBLISHED <= set(names)


def with_host_names(weights: Mapping[str, _Weight]) -> dict[str, _Weight]:
    """Published weights under the host's names; the values are the same objects."""
    return {_host_name(name): weight for name, weight in weights.items()}


def set_positions(diffusion_model: Any) -> None:
    """Sets how a model that the host has built from published weights marks positions; see above."""
    rotates = diffusion_model.num_attention_heads != HEADS_OF_2B
    diffusion_model.use_rotary_positional_embeddings = rotates
    diffusion_model.patch_embed.use_positional_embeddings = not rotates
    if rotates:
        # This one is used for the rotation only; the patch embedding has its own.
        diffusion_model.spatial_interpolation_scale = 1.0


def _host_name(published: str) -> str:
    for part, host_part in HOST_NAMES.items():
        published = published.replace(part, host_part)
    return published
