"""Who sees whose keys: the configuration turned into query groups. (architecture.md 5; DiTCtrl section 3.3.)"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from .attention import TOKEN_DIM, KeyValuePart, QueryGroup
from .config import KVShareConfig
from .devices import upload
from .kv_bank import BankEntry, StoredTokens


@dataclass(frozen=True)
class TokenSplit:
    """Places of one latent's subject and background tokens in its video grid: int64, ascending, on the CPU and, as
    `subject_index` and `background_index`, on the device of the model."""

    subject: torch.Tensor
    background: torch.Tensor
    subject_index: torch.Tensor
    background_index: torch.Tensor

    def on(self, device: torch.device) -> "TokenSplit":
        """The same with its indices on `device`: a host may spread one model call over several."""
        if self.subject_index.device == device:
            return self
        return TokenSplit(
            self.subject, self.background, self.subject_index.to(device), self.background_index.to(device)
        )


def split_tokens(mask: torch.Tensor, device: torch.device | str = "cpu") -> TokenSplit:
    """Splits tokens by a boolean mask [tokens] that lies on the CPU."""
    subject, background = mask.nonzero().squeeze(1), (~mask).nonzero().squeeze(1)
    device = torch.device(device)
    return TokenSplit(subject, background, upload(subject, device), upload(background, device))


@dataclass(frozen=True)
class OwnTokens:
    """The sequence of one attention call, [rows, heads, tokens, head_dim].

    video: where the video's tokens stand; outside: indices of all other tokens, None when there are none.
    visible, visible_outside: indices of the keys that the call's own mask does not hide, of all and of those outside
    the video; None when it hides none. key_bias: what the mask adds to the scores beyond hiding, [rows, tokens].
    """

    key: torch.Tensor
    value: torch.Tensor
    video: slice
    outside: torch.Tensor | None = None
    visible: torch.Tensor | None = None
    visible_outside: torch.Tensor | None = None
    key_bias: torch.Tensor | None = None

    def everything(self) -> KeyValuePart:
        """All keys that may be seen; several groups of queries share one copy."""
        return self._everything

    @cached_property
    def _everything(self) -> KeyValuePart:
        return self._part(self.visible, 0.0)

    def video_part(self, bias: float) -> KeyValuePart:
        """The video's keys, weighed by exp(bias)."""
        key_bias = None if self.key_bias is None else self.key_bias[:, self.video]
        return KeyValuePart(self.key[:, :, self.video], self.value[:, :, self.video], bias, key_bias)

    def outside_part(self, bias: float = 0.0) -> KeyValuePart | None:
        """The keys outside the video that may be seen, weighed by exp(bias): text, reference frames."""
        if self.outside is None:
            return None
        return self._part(self.outside if self.visible_outside is None else self.visible_outside, bias)

    def take_video(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the video tokens `places`, copied."""
        index = places + self.video.start
        return self.key.index_select(TOKEN_DIM, index), self.value.index_select(TOKEN_DIM, index)

    def _part(self, index: torch.Tensor | None, bias: float) -> KeyValuePart:
        if index is None:
            return KeyValuePart(self.key, self.value, bias, self.key_bias)
        key_bias = None if self.key_bias is None else self.key_bias.index_select(1, index)
        return KeyValuePart(
            self.key.index_select(TOKEN_DIM, index), self.value.index_select(TOKEN_DIM, index), bias, key_bias
        )


def own_bias(config: KVShareConfig, strength: float) -> float:
    """Log-weight of the segment's own keys that source keys stand in for, where source keys are seen."""
    if config.mode == "extend":
        return 0.0
    return -math.inf if strength >= 1.0 else math.log(1.0 - strength)


def sharing_groups(
    own: OwnTokens,
    split: TokenSplit | None,
    sources: Sequence[BankEntry],
    config: KVShareConfig,
    strength: float,
    frame_tokens: int = 0,
) -> list[QueryGroup] | None:
    """Query groups of one latent's attention, or None when nothing foreign is to be seen.

    Without a split all video queries see all source keys. With one, subject queries see the sources' subject;
    background queries keep to their own keys, or see the sources' background too where `share_background` asks for it.
    Queries outside the video keep to their own keys, except with `share_text`, where they see all that is kept of the
    source; then queries of the video see the source's text too, also where the source has no video token for them.
    Sources without a single token leave a group as it was. frame_tokens: tokens of one latent frame, for position
    `frame`.
    """
    subjects = [entry.subject for entry in sources]
    backgrounds = [entry.background for entry in sources if entry.background is not None]
    texts = [entry.text for entry in sources if entry.text is not None] if config.share_text else []
    view = _View(own, texts, config, strength)
    if split is None:
        return _unguided(own, subjects, texts, view)
    halves = (
        (split.background, split.background_index, backgrounds if config.share_background else None),
        (split.subject, split.subject_index, subjects),
    )
    if not any(view.foreign(seen) for _, _, seen in halves):
        return None
    groups: list[QueryGroup] = []
    for places, index, seen in halves:
        if seen is not None and config.position == "frame":
            groups += _frames(places, index, seen, view, frame_tokens)
        else:
            groups.append(view.group(index + own.video.start, seen))
    if own.outside is not None:
        groups.append(view.group(own.outside, [*subjects, *backgrounds] if texts else None))
    return groups


@dataclass(frozen=True)
class _View:
    """What a query sees of itself and of source tokens."""

    own: OwnTokens
    texts: Sequence[StoredTokens]
    config: KVShareConfig
    strength: float

    def group(self, queries: torch.Tensor, stored: Sequence[StoredTokens] | None) -> QueryGroup:
        """The group of `queries` that see `stored`, or their own keys alone when there is nothing to see."""
        return QueryGroup(queries, self.of(stored) or (self.own.everything(),))

    def foreign(self, stored: Sequence[StoredTokens] | None) -> list[KeyValuePart]:
        """The parts of sources that come with `stored`: its own and the shared text, without empty ones."""
        if stored is None:
            return []
        bias = math.log(self.strength)
        return [
            KeyValuePart(tokens.key, tokens.value, bias)
            for tokens in (*self.texts, *stored)
            if tokens.key.shape[TOKEN_DIM] > 0
        ]

    def of(self, stored: Sequence[StoredTokens] | None) -> tuple[KeyValuePart, ...] | None:
        """All parts for queries that see `stored`; None when nothing foreign is among them."""
        foreign = self.foreign(stored)
        if not foreign:
            return None
        if self.config.mode == "extend":
            return (self.own.everything(), *foreign)
        replaced = own_bias(self.config, self.strength)
        outside = self.own.outside_part(replaced if self.texts else 0.0)
        return (*([] if outside is None else [outside]), self.own.video_part(replaced), *foreign)


def _unguided(
    own: OwnTokens, subjects: Sequence[StoredTokens], texts: Sequence[StoredTokens], view: _View
) -> list[QueryGroup] | None:
    parts = view.of(subjects)
    if parts is None:
        return None
    if own.outside is None or texts:
        return [QueryGroup(None, parts)]
    video = torch.arange(own.video.start, own.video.stop, device=own.key.device)
    return [QueryGroup(video, parts), QueryGroup(own.outside, (own.everything(),))]


def _frames(
    places: torch.Tensor, index: torch.Tensor, stored: Sequence[StoredTokens], view: _View, frame_tokens: int
) -> list[QueryGroup]:
    """One group per latent frame of the video tokens `places`: it sees what is stored of the same frame only."""
    groups: list[QueryGroup] = []
    video = view.own.video
    for frame in range((video.stop - video.start) // frame_tokens):
        queries = _within(places, frame, frame_tokens)
        if queries.start == queries.stop:
            continue
        here = [_narrow(tokens, _within(tokens.tokens, frame, frame_tokens)) for tokens in stored]
        groups.append(view.group(index[queries] + video.start, here))
    return groups


def _within(places: torch.Tensor, frame: int, frame_tokens: int) -> slice:
    """The part of ascending `places` that lies in latent frame `frame`."""
    bounds = torch.searchsorted(places, torch.tensor([frame * frame_tokens, (frame + 1) * frame_tokens]))
    return slice(int(bounds[0]), int(bounds[1]))


def _narrow(stored: StoredTokens, part: slice) -> StoredTokens:
    return StoredTokens(stored.key[:, :, part], stored.value[:, :, part], stored.tokens[part])
