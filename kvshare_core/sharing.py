"""Who sees whose keys: the configuration turned into query groups. (architecture.md 5; DiTCtrl section 3.3.)"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .attention import KeyValuePart, QueryGroup
from .config import KVShareConfig
from .families.base import AttentionCall
from .kv_bank import BankEntry


@dataclass(frozen=True)
class TokenSplit:
    """Indices of one latent's subject and background tokens."""

    subject: torch.Tensor
    background: torch.Tensor


def split_tokens(mask: torch.Tensor) -> TokenSplit:
    """Splits tokens by a boolean mask [tokens]."""
    return TokenSplit(mask.nonzero().squeeze(1), (~mask).nonzero().squeeze(1))


def own_bias(config: KVShareConfig) -> float:
    """Log-weight of a token's own keys."""
    if config.mode == "extend":
        return 0.0
    return -math.inf if config.strength >= 1.0 else math.log(1.0 - config.strength)


def sharing_groups(
    own: AttentionCall, split: TokenSplit | None, sources: Sequence[BankEntry], config: KVShareConfig
) -> list[QueryGroup] | None:
    """Query groups of one latent's self-attention, or None when nothing foreign is to be seen.

    Without a split all queries see all source keys. With one, subject queries see the sources' subject; background
    queries keep to their own keys, or see the sources' background too where `share_background` asks for it. Sources
    without a single token leave a group as it was.
    """
    own_part = KeyValuePart(own.key, own.value)
    if split is None:
        parts = _with_sources(own_part, [(entry.key, entry.value) for entry in sources], own.token_dim, config)
        return None if parts is None else [QueryGroup(None, parts)]
    subject = _with_sources(own_part, [(entry.key, entry.value) for entry in sources], own.token_dim, config)
    background = _with_sources(
        own_part,
        [
            (entry.background_key, entry.background_value)
            for entry in sources
            if entry.background_key is not None and entry.background_value is not None
        ],
        own.token_dim,
        config,
    )
    if subject is None and background is None:
        return None
    return [
        QueryGroup(split.subject, subject or (own_part,)),
        QueryGroup(split.background, background or (own_part,)),
    ]


def _with_sources(
    own: KeyValuePart,
    sources: Sequence[tuple[torch.Tensor, torch.Tensor]],
    token_dim: int,
    config: KVShareConfig,
) -> tuple[KeyValuePart, ...] | None:
    found = [(key, value) for key, value in sources if key.shape[token_dim] > 0]
    if not found:
        return None
    bias = math.log(config.strength)
    return (
        KeyValuePart(own.key, own.value, own_bias(config)),
        *(KeyValuePart(key, value, bias) for key, value in found),
    )
