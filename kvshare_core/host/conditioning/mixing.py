"""Text between two prompts, for transition segments: interpolated prompt embeddings, as in DiTCtrl's released code.

Works on the host's processed conditioning: dictionaries with the inputs of the model in "model_conds", each an object
of `comfy.conds` that holds its value in `cond`.
"""

import uuid
from collections.abc import Mapping
from typing import Any

import torch

from ...families.model_inputs import InputLayout

TEXT = "c_crossattn"
"""Text embeddings [batch, tokens, width]."""

TEXT_MASK = "attention_mask"
"""Which tokens of TEXT the model attends to [batch, tokens]: 1 or 0, or in floating point a bias on their scores."""


def interpolate_conditioning(
    first: dict[str, Any], second: dict[str, Any], mix: float, family_inputs: Mapping[str, InputLayout]
) -> dict[str, Any]:
    """Conditioning between `first` (mix 0) and `second` (mix 1), the text token by token.

    A shorter text is padded with zeros, a token is kept if either mask keeps it, and where the family's inputs state a
    text length, it is the longer one. Other floating point tensors of
    equal shape, such as pooled text, are interpolated too; everything else comes from `first`. Mix 0 gives `first`
    itself; otherwise the uuid is derived from both and `mix`, so that caches keyed by it do not mix segments.

    Raises ValueError when text embeddings or their masks differ in more than their number of tokens.
    """
    if mix == 0:
        return first
    conds, other_conds = first["model_conds"], second["model_conds"]
    model_conds = dict(conds)
    for name in conds.keys() & other_conds.keys():
        if family_inputs.get(name) == "text length":
            model_conds[name] = conds[name]._copy_with(max(conds[name].cond, other_conds[name].cond))
        else:
            model_conds[name] = _between(name, conds[name], other_conds[name], mix)
    if (TEXT_MASK in conds) != (TEXT_MASK in other_conds) and TEXT in conds and TEXT in other_conds:
        # Hosts leave the mask out where every token is kept.
        unmasked, masked = (conds, other_conds) if TEXT_MASK in other_conds else (other_conds, conds)
        mask = masked[TEXT_MASK]
        whole = all_tokens_kept(mask.cond, unmasked[TEXT].cond)
        model_conds[TEXT_MASK] = _between(TEXT_MASK, mask, mask._copy_with(whole), mix)
    return {**first, "model_conds": model_conds, "uuid": uuid.uuid5(first["uuid"], f"{second['uuid']} {mix!r}")}


def all_tokens_kept(like: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """The mask [batch, tokens] that a text without a mask is equal to, in the form of the mask `like`."""
    return like.new_full(text.shape[:2], 0 if like.is_floating_point() else 1)


def _between(name: str, first: Any, second: Any, mix: float) -> Any:
    """The interpolation of two inputs of the model; `first` itself for inputs that have none."""
    one, other = getattr(first, "cond", None), getattr(second, "cond", None)
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        return first
    other = other.to(one.device)
    if name == TEXT_MASK:
        dropped = -torch.inf if one.is_floating_point() else 0
        return first._copy_with(torch.maximum(*_equally_long(name, one, other, dropped)))
    if name == TEXT:
        one, other = _equally_long(name, one, other, 0)
    if one.shape != other.shape or not one.is_floating_point() or not other.is_floating_point():
        return first
    return first._copy_with(torch.lerp(one, other.to(one.dtype), mix))


def _equally_long(
    name: str, first: torch.Tensor, second: torch.Tensor, padding: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both tensors [batch, tokens, ...] with `padding` after the shorter one's tokens."""
    sizes, other_sizes = list(first.shape), list(second.shape)
    if sizes[:1] + sizes[2:] != other_sizes[:1] + other_sizes[2:]:
        raise ValueError(
            f"Mask-Guided KV Share: {name} has the shapes {sizes} and {other_sizes} in neighbouring prompts; only the "
            "number of tokens, the second size, may differ. Encode all prompts with the same text encoder."
        )
    tokens = max(sizes[1], other_sizes[1])
    return _padded(first, tokens, padding), _padded(second, tokens, padding)


def _padded(tensor: torch.Tensor, tokens: int, padding: float) -> torch.Tensor:
    missing = tensor.new_full((tensor.shape[0], tokens - tensor.shape[1], *tensor.shape[2:]), padding)
    return torch.cat([tensor, missing], 1)
