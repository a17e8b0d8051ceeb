"""What an attention call's own mask hides, as indices: padding of a prompt never needs a mask tensor."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import torch

from ..devices import upload
from .weighed_words import WeighedWords

HIDDEN = -1e4
"""Additive masks down to this or below hide a key: hosts write the lowest number of the dtype there."""


ODD_MASK = "attention comes with a mask that hides video or depends on the query"
"""What is said of calls whose mask no KeyMask can tell."""


@dataclass(frozen=True)
class KeyMask:
    """What one batch row may look at in an attention call. Equal masks compare equal; tensors do not take part.

    hidden: places of the hidden keys. outside: indices of the tokens outside the video, None when there are none.
    visible, visible_outside: indices of the keys that are not hidden, of all and of those outside the video; None when
    none is hidden, and of all a slice where they stand together. key_bias: [1, tokens], what the mask adds to visible
    keys; None for nothing. words: those that are weighed for the row; None for none. All on the device.
    """

    hidden: tuple[int, ...] = ()
    softness: tuple[float, ...] = ()
    outside: torch.Tensor | None = field(default=None, compare=False)
    visible: torch.Tensor | slice | None = field(default=None, compare=False)
    visible_outside: torch.Tensor | None = field(default=None, compare=False)
    key_bias: torch.Tensor | None = field(default=None, compare=False)
    words: WeighedWords | None = None


def read_key_mask(mask: torch.Tensor | None, key: torch.Tensor, video: slice) -> list[KeyMask] | None:
    """For every batch row of `key` [rows, heads, tokens, head_dim] what `mask` hides; None when the mask differs from
    query to query or from head to head, hides tokens of the video, or does not fit.

    Hidden tokens of the video are left to the host: as source keys nobody could say who may see them.

    mask: boolean (True is visible) or additive, of any shape that the host broadcasts to [rows, heads, queries, keys];
    two dimensions mean [queries, keys]. Reading it costs one transfer to the CPU.
    """
    rows, _, tokens, _ = key.shape
    inside = torch.zeros(tokens, dtype=torch.bool)
    inside[video] = True
    outside = None if bool(inside.all()) else upload((~inside).nonzero().squeeze(1), key.device)
    if mask is None:
        return [KeyMask(outside=outside)] * rows
    per_row = _rows_of(mask)
    if per_row is None or per_row.shape[0] not in (1, rows) or per_row.shape[1] != tokens:
        return None
    seen: dict[tuple[tuple[int, ...], tuple[float, ...]], KeyMask] = {}
    masks: list[KeyMask] = []
    for row in per_row.cpu().expand(rows, -1):
        hidden = ~row if row.dtype == torch.bool else row <= HIDDEN
        if bool((hidden & inside).any()):
            return None
        soft = torch.zeros(tokens) if row.dtype == torch.bool else row.float().masked_fill(hidden, 0.0)
        name = (tuple(hidden.nonzero().squeeze(1).tolist()), tuple(soft.tolist()) if bool(soft.any()) else ())
        if name not in seen:
            seen[name] = KeyMask(
                *name,
                outside=outside,
                visible=_chosen(~hidden, key.device) if name[0] else None,
                visible_outside=upload((~hidden & ~inside).nonzero().squeeze(1), key.device) if name[0] else None,
                key_bias=upload(soft[None], key.device) if name[1] else None,
            )
        masks.append(seen[name])
    return masks


def hide(mask: KeyMask, places: Collection[int], tokens: int, video: slice, device: torch.device) -> KeyMask | None:
    """`mask` of a sequence of that many tokens with the keys at `places` hidden too; None when no key is left."""
    hidden = tuple(sorted({*mask.hidden, *places}))
    left = torch.ones(tokens, dtype=torch.bool)
    left[list(hidden)] = False
    if not bool(left.any()):
        return None
    visible = _chosen(left, device)
    left[video] = False
    return replace(mask, hidden=hidden, visible=visible, visible_outside=upload(left.nonzero().squeeze(1), device))


def weigh_words(
    mask: KeyMask, weights: Mapping[int, float], normalised: bool, tokens: int, video: slice, device: torch.device
) -> KeyMask | None:
    """`mask` of a sequence of that many tokens, whose video stands at `video`, with the words at the places `weights`
    weighed; None when that leaves the video nothing to attend to. normalised: as in WeighedWords."""
    hidden = set(mask.hidden)
    places = {place: weight for place, weight in sorted(weights.items()) if place not in hidden}
    by_weight: dict[float, list[int]] = {}
    for place, weight in places.items():
        by_weight.setdefault(weight, []).append(place)
    left = torch.ones(tokens, dtype=torch.bool)
    left[[*hidden, *places]] = False
    if not bool(left.any()) and not any(by_weight):
        return None
    outside = torch.ones(tokens, dtype=torch.bool)
    outside[video] = False
    others = outside.clone()
    others[list(places)] = False
    words = WeighedWords(
        tuple(places.items()),
        normalised,
        tuple((weight, upload(torch.tensor(found), device)) for weight, found in by_weight.items()),
        _chosen(left, device),
        upload((left & outside).nonzero().squeeze(1), device),
        upload(others.nonzero().squeeze(1), device),
    )
    return replace(mask, words=words)


def _chosen(marked: torch.Tensor, device: torch.device) -> torch.Tensor | slice:
    """Where `marked` [tokens], on the CPU, is true: a slice where that is one stretch, so that no key is copied, else
    indices on `device`."""
    places = marked.nonzero().squeeze(1)
    if len(places) == 0:
        return slice(0, 0)
    first, last = int(places[0]), int(places[-1])
    return slice(first, last + 1) if last - first + 1 == len(places) else upload(places, device)


def _rows_of(mask: torch.Tensor) -> torch.Tensor | None:
    """`mask` as [rows or 1, keys]; None when queries or heads differ in it."""
    if mask.ndim == 1:
        return mask[None]
    if mask.ndim == 2:
        mask = mask[None]
    if mask.ndim == 3:
        mask = mask[:, None]
    if mask.ndim != 4 or mask.shape[1] != 1 or mask.shape[2] != 1:
        return None
    return mask[:, 0, 0]
