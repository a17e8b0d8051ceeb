"""Attention written out in float64 with every score in memory: what all fast paths are measured against.

Nothing here uses the pack's attention or sharing code; who sees whom is written down once more, as one matrix of
biases.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from kvshare_core.config import KVShareConfig


def heads_together(tensor: torch.Tensor) -> torch.Tensor:
    """[rows, heads, tokens, head_dim] as [rows, tokens, heads * head_dim]."""
    return tensor.transpose(1, 2).flatten(2)


def heads_apart(tensor: torch.Tensor, heads: int, token_dim: int) -> torch.Tensor:
    """Either layout as float64 [rows, heads, tokens, head_dim]."""
    if token_dim == 1:
        rows, tokens, width = tensor.shape
        tensor = tensor.reshape(rows, tokens, heads, width // heads).permute(0, 2, 1, 3)
    return tensor.double()


def dense_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    heads: int = 0,
    token_dim: int = 2,
    bias: torch.Tensor | None = None,
    scale: float | None = None,
) -> torch.Tensor:
    """Softmax attention with an additive `bias` that broadcasts to [rows, heads, queries, keys]; float64
    [rows, queries, heads * head_dim]. Key heads are repeated where there are fewer of them."""
    q, k, v = (heads_apart(tensor, heads, token_dim) for tensor in (query, key, value))
    k, v = (tensor.repeat_interleave(q.shape[1] // k.shape[1], 1) for tensor in (k, v))
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias.double()
    weights = torch.exp(scores - scores.amax(-1, keepdim=True))
    output = torch.einsum("bhqk,bhkd->bqhd", weights / weights.sum(-1, keepdim=True), v)
    return output.flatten(2)


@dataclass(frozen=True)
class Tokens:
    """One segment's sequence: where its video stands, and what is known of its tokens.

    subject: boolean mask of the video's tokens, or of several subjects the number of each token's own, -1 for the
    background; None where nothing splits them. hidden: boolean, keys that the call's mask hides, over the whole
    sequence. soft: what that mask adds to the others. dropped: video tokens left out of the bank.
    """

    length: int
    video: range
    subject: torch.Tensor | None = None
    hidden: torch.Tensor | None = None
    soft: torch.Tensor | None = None
    dropped: frozenset[int] = frozenset()

    def subject_at(self, place: int) -> int:
        """The subject that the video token at `place` of the sequence belongs to; -1 for the background."""
        return self._owners[place - self.video.start]

    @cached_property
    def _owners(self) -> list[int]:
        if self.subject is None:
            return [0] * len(self.video)
        return (self.subject.long() - int(self.subject.dtype == torch.bool)).tolist()

    def is_hidden(self, place: int) -> bool:
        return self.hidden is not None and bool(self.hidden[place])


def joint_sharing_bias(
    config: KVShareConfig,
    strength: float,
    own: Tokens,
    sources: Sequence[Tokens],
    frame_tokens: int = 0,
    seers: Sequence[frozenset[int]] | None = None,
) -> torch.Tensor:
    """Biases [tokens, tokens * (1 + sources)] for every pair of a query and a key: the own sequence's keys first, then
    the whole sequence of each source. frame_tokens: tokens of one latent frame, for position `frame`. seers: for each
    source the subjects that see it, -1 for the background; None for all of them."""
    own_weight = 0.0
    if config.mode != "extend":
        own_weight = math.log(1 - strength) if strength < 1 else -math.inf
    bias = torch.full((own.length, own.length * (1 + len(sources))), -math.inf, dtype=torch.float64)
    for query in range(own.length):
        sees_foreign = False
        for number, source in enumerate(sources, start=1):
            for key in range(source.length):
                seer = None if seers is None else seers[number - 1]
                if _sees(config, own, query, source, key, frame_tokens, seer):
                    bias[query, number * own.length + key] = math.log(strength)
                    sees_foreign = True
        for key in range(own.length):
            if own.is_hidden(key):
                continue
            replaceable = key in own.video or config.share_text
            if config.mode == "swap" and sees_foreign:
                replaceable = key in own.video and own.subject_at(query) == own.subject_at(key)
            bias[query, key] = own_weight if sees_foreign and replaceable else 0.0
            if own.soft is not None:
                bias[query, key] += own.soft[key]
        if config.mode == "swap" and sees_foreign:
            foreign = bias[query, own.length :]
            kin = sum(own.subject_at(query) == own.subject_at(key) for key in own.video)
            foreign += math.log(kin / int((~foreign.isneginf()).sum()))
    return bias


def _sees(
    config: KVShareConfig,
    own: Tokens,
    query: int,
    source: Tokens,
    key: int,
    frame_tokens: int,
    seers: frozenset[int] | None,
) -> bool:
    """Whether the token `query` of a segment sees the token `key` of a source."""
    query_in_video, key_in_video = query in own.video, key in source.video

    def takes_part_as(subject: int) -> bool:
        return (subject >= 0 or config.share_background) and (seers is None or subject in seers)

    takes_part = takes_part_as(own.subject_at(query)) if query_in_video else config.share_text
    if not takes_part or source.is_hidden(key):
        return False
    if not key_in_video:
        return config.share_text
    if key - source.video.start in source.dropped:
        return False
    if not query_in_video:
        return takes_part_as(source.subject_at(key))
    if own.subject_at(query) != source.subject_at(key):
        return False
    if config.position == "frame":
        return (query - own.video.start) // frame_tokens == (key - source.video.start) // frame_tokens
    return True


def sharing_bias(
    config: KVShareConfig, tokens: int, own_mask: torch.Tensor | None, source_masks: Sequence[torch.Tensor | None]
) -> torch.Tensor:
    """`joint_sharing_bias` of sequences that are all video, at the strength of `config`.

    own_mask, source_masks: boolean subject masks [tokens], or None where no mask splits the tokens.
    """
    own, *sources = (Tokens(tokens, range(tokens), mask) for mask in (own_mask, *source_masks))
    return joint_sharing_bias(config, config.strength, own, sources)
