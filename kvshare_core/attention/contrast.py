"""How sharply a subject's queries tell the parts of the source's subject apart: the contrast of its keys.

A key is the mean of its subject's keys and what sets it apart from them. The mean decides how much the source is looked
at, the rest at which of its tokens; scaling the rest alone keeps the former (GRAG, docs/laboratory.md#ideas-of-others).
"""

from dataclasses import replace

import torch

from ..bank.bank import BankEntry, StoredTokens
from .parts import TOKEN_DIM


def with_contrast(entry: BankEntry, contrast: float, kept: BankEntry) -> BankEntry:
    """The entry with each subject's keys moved from their mean, `contrast` times as far as they are from it.

    kept: the entry that the keys come from, whose own keys stay as they are; others are changed in place.
    """
    if contrast == 1:
        return entry
    subjects = tuple(
        None if stored is None else _contrasted(stored, contrast, None if stored is known else stored.key)
        for stored, known in zip(entry.subjects, kept.subjects, strict=True)
    )
    return replace(entry, subjects=subjects)


def _contrasted(stored: StoredTokens, contrast: float, into: torch.Tensor | None) -> StoredTokens:
    """into: what is to hold the new keys; None for a new tensor."""
    rest = stored.key.mean(TOKEN_DIM, keepdim=True) * (1 - contrast)
    return replace(stored, key=torch.add(rest, stored.key, alpha=contrast, out=into))
