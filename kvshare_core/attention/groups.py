"""Turns the configuration into query groups: which queries attend to which keys.

(docs/architecture.md#the-algebra-of-sharing; DiTCtrl, arXiv 2412.18597, section 3.3.)
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import torch

from ..bank.bank import BankEntry, StoredTokens
from ..config import SharingRules
from ..devices import upload
from .parts import TOKEN_DIM, KeyValuePart, QueryGroup


@dataclass(frozen=True)
class TokenPlaces:
    """Which tokens of a segment's video: indices into its grid, int64 [tokens], ascending."""

    on_cpu: torch.Tensor
    """The indices on the CPU, to compute with without waiting for the device."""
    on_device: torch.Tensor
    """The same indices where the model computes, to gather with."""

    @classmethod
    def of(cls, places: torch.Tensor, device: torch.device) -> "TokenPlaces":
        """`places`, which are on the CPU, for a model on `device`."""
        return cls(places, upload(places, device))

    def on(self, device: torch.device) -> "TokenPlaces":
        """The same places for a model on `device`."""
        return TokenPlaces(self.on_cpu, upload(self.on_device, device))


@dataclass(frozen=True)
class TokenSplit:
    """One latent's video tokens, divided: every token is one subject's or the background's."""

    subjects: tuple[TokenPlaces, ...]
    """The tokens of each subject, in the order of the plan's cast."""
    background: TokenPlaces
    """The tokens that no subject claims."""
    _places: "list[SequencePlaces]" = field(default_factory=list["SequencePlaces"], compare=False, repr=False)
    """The newest of `in_sequence`."""

    def on(self, device: torch.device) -> "TokenSplit":
        """The same split for a model on `device`: a host may spread one model call over several."""
        if self.background.on_device.device == device:
            return self
        return TokenSplit(tuple(places.on(device) for places in self.subjects), self.background.on(device))

    def in_sequence(self, start: int, outside: torch.Tensor | None) -> "SequencePlaces":
        """Where the same tokens stand in a sequence whose video begins at `start`; outside: indices of the keys outside
        the video that may be seen, None for none. Made once for all blocks."""
        for known in self._places:
            if known.start == start and known.outside is outside:
                return known
        parts = [
            places.on_device + start if start else places.on_device for places in (self.background, *self.subjects)
        ]
        made = SequencePlaces(start, outside, tuple(parts))
        self._places[:] = [made]
        return made


@dataclass(frozen=True)
class SequencePlaces:
    """The parts of a split, background first, as indices of a sequence; the arguments of `TokenSplit.in_sequence`."""

    start: int
    outside: torch.Tensor | None
    parts: tuple[torch.Tensor, ...]
    _rests: dict[int, torch.Tensor] = field(default_factory=dict[int, torch.Tensor], compare=False, repr=False)

    def rest(self, number: int) -> torch.Tensor:
        """The keys that may be seen and are not of part `number`."""
        if number not in self._rests:
            others = [part for place, part in enumerate(self.parts) if place != number]
            self._rests[number] = torch.cat([*([] if self.outside is None else [self.outside]), *others])
        return self._rests[number]


def split_tokens(masks: torch.Tensor, device: torch.device | str = "cpu") -> TokenSplit:
    """Splits tokens by boolean masks on the CPU: [tokens] of the only subject, or [subjects, tokens] without a token in
    common."""
    device = torch.device(device)
    masks = masks.reshape(-1, masks.shape[-1])
    return TokenSplit(
        tuple(TokenPlaces.of(mask.nonzero().squeeze(1), device) for mask in masks),
        TokenPlaces.of((~masks.any(0)).nonzero().squeeze(1), device),
    )


@dataclass(frozen=True)
class OwnTokens:
    """The sequence of one attention call, [rows, heads, tokens, head_dim].

    video: where the video's tokens stand; outside: indices of all other tokens, None when there are none.
    visible, visible_outside: the keys that the call's own mask does not hide, of all and of those outside the video, as
    in KeyMask; None when it hides none. key_bias: what the mask adds to the scores beyond hiding, [rows, tokens].
    """

    key: torch.Tensor
    value: torch.Tensor
    video: slice
    outside: torch.Tensor | None = None
    visible: torch.Tensor | slice | None = None
    visible_outside: torch.Tensor | None = None
    key_bias: torch.Tensor | None = None

    def everything(self) -> KeyValuePart:
        """All keys that may be seen; several groups of queries share one copy."""
        return self._everything

    @cached_property
    def _everything(self) -> KeyValuePart:
        if isinstance(self.visible, slice):
            return self._stretch(self.visible, 0.0)
        return KeyValuePart(self.key, self.value, 0.0, self.key_bias, self.visible).taken()

    def video_part(self, bias: float) -> KeyValuePart:
        """The video's keys, weighed by exp(bias)."""
        return self._stretch(self.video, bias)

    def outside_part(self, bias: float = 0.0) -> KeyValuePart | None:
        """The keys outside the video that may be seen, copied and weighed by exp(bias): text, reference frames."""
        return None if self.outside_keys is None else self.part_at(self.outside_keys, bias).taken()

    def part_at(self, index: torch.Tensor, bias: float = 0.0) -> KeyValuePart:
        """The keys at `index` of the sequence, weighed by exp(bias)."""
        return KeyValuePart(self.key, self.value, bias, self.key_bias, index)

    @property
    def outside_keys(self) -> torch.Tensor | None:
        """Indices of the keys outside the video that may be seen; None where all tokens are the video's."""
        return self.outside if self.outside is None or self.visible_outside is None else self.visible_outside

    def take_video(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the video tokens `places`, which are on the device, copied."""
        index = places + self.video.start if self.video.start else places
        return self.key.index_select(TOKEN_DIM, index), self.value.index_select(TOKEN_DIM, index)

    def stored(self, places: TokenPlaces) -> StoredTokens:
        """The video tokens at `places` as the bank keeps them."""
        return StoredTokens(*self.take_video(places.on_device), places.on_cpu)

    def _stretch(self, tokens: slice, bias: float) -> KeyValuePart:
        key_bias = None if self.key_bias is None else self.key_bias[:, tokens]
        return KeyValuePart(self.key[:, :, tokens], self.value[:, :, tokens], bias, key_bias)


def sharing_groups(
    own: OwnTokens,
    split: TokenSplit | None,
    sources: Sequence[BankEntry],
    rules: SharingRules,
    frame_tokens: int = 0,
) -> Iterator[QueryGroup] | None:
    """Query groups of one latent's attention, one at a time, or None when nothing foreign is to be seen.

    Without a split all video queries see all source keys. With one, queries of a subject see what the sources leave of
    that subject; background queries keep to their own keys, or see the sources' background too where `share_background`
    asks for it. Queries outside the video keep to their own keys, except with `share_text`, where they see all of the
    sources; then queries of the video see the text of their sources too, also of one that has no video token for them.
    Sources without a single token leave a group as it was. frame_tokens: tokens of one latent frame, for position
    `frame`.
    """
    builder = GroupBuilder(own, rules)
    subjects = [
        _foreign_tokens(sources, [entry.subjects[number] for entry in sources], rules)
        for number in range(1 if split is None else len(split.subjects))
    ]
    if split is None:
        return _unguided(own, subjects[0], builder)
    background = _foreign_tokens(sources, [entry.background for entry in sources], rules)
    assignments = [
        (split.background, background if rules.share_background else ForeignTokens()),
        *zip(split.subjects, subjects, strict=True),
    ]
    if not any(builder.sees_foreign(seen) for _, seen in assignments):
        return None
    texts = _foreign_tokens(sources, [entry.text for entry in sources], rules).texts
    video = [tokens for seen in (*subjects, background) for tokens in seen.video]
    beside = ForeignTokens(texts, video) if texts else ForeignTokens()
    return _guided(builder, assignments, split.in_sequence(own.video.start, own.outside_keys), beside, frame_tokens)


def _guided(
    builder: "GroupBuilder",
    assignments: Sequence[tuple[TokenPlaces, "ForeignTokens"]],
    sequence: SequencePlaces,
    beside: "ForeignTokens",
    frame_tokens: int,
) -> Iterator[QueryGroup]:
    """The groups of all video tokens by what they see, in the order of `sequence`, and of those outside the video,
    which see `beside`."""
    own, tokens = builder.own, sequence.parts
    for number, (places, seen) in enumerate(assignments):
        same_kind = SameKindTokens(tokens[number], partial(sequence.rest, number))
        if seen.video and builder.rules.frame_locked:
            yield from _frames(places.on_cpu, same_kind, seen, builder, frame_tokens)
        else:
            yield builder.group(tokens[number], seen, same_kind)
    if own.outside is not None:
        yield builder.group(own.outside, beside)


@dataclass(frozen=True)
class SameKindTokens:
    """The segment's own video tokens of the same kind as what is seen of a source, and all other keys that may be
    seen: indices in the sequence."""

    tokens: torch.Tensor
    rest: Callable[[], torch.Tensor]
    parts: tuple[KeyValuePart, KeyValuePart] | None = None
    """What `GroupBuilder.own_parts` gives for them, where several groups use it; None to make it anew."""


@dataclass(frozen=True)
class ForeignTokens:
    """What some queries see of their sources: text, and tokens of the video."""

    texts: Sequence[StoredTokens] = ()
    video: Sequence[StoredTokens] = ()


def _foreign_tokens(
    sources: Sequence[BankEntry], parts: Sequence[StoredTokens | None], rules: SharingRules
) -> ForeignTokens:
    """What is seen of the `sources` by queries that see `parts` of them, one or None for each."""
    texts = [
        entry.text
        for entry, part in zip(sources, parts, strict=True)
        if rules.share_text and part is not None and entry.text is not None
    ]
    return ForeignTokens(texts, [part for part in parts if part is not None])


@dataclass(frozen=True)
class GroupBuilder:
    """What a query sees of itself and of source tokens."""

    own: OwnTokens
    rules: SharingRules

    @property
    def _own_bias(self) -> float:
        """Log-weight of the own keys that source keys stand in for."""
        weight = self.rules.own_weight
        return math.log(weight) if weight > 0 else -math.inf

    def group(self, queries: torch.Tensor, seen: ForeignTokens, same_kind: SameKindTokens | None = None) -> QueryGroup:
        """The group of `queries` that see `seen`, or their own keys alone when there is nothing to see."""
        return QueryGroup(queries, self.parts_of(seen, same_kind) or (self.own.everything(),))

    @staticmethod
    def sees_foreign(seen: ForeignTokens) -> bool:
        """Whether there is any token of `seen`."""
        return any(tokens.key.shape[TOKEN_DIM] > 0 for tokens in (*seen.texts, *seen.video))

    def foreign_parts(self, seen: ForeignTokens, weight: float = 1.0) -> list[KeyValuePart]:
        """The parts of `seen`, without empty ones; weight: what they count for at full strength."""
        bias = math.log(self.rules.strength * weight)
        return [
            KeyValuePart(tokens.key, tokens.value, bias)
            for tokens in (*seen.texts, *seen.video)
            if tokens.key.shape[TOKEN_DIM] > 0
        ]

    def own_parts(self, same_kind: SameKindTokens) -> tuple[KeyValuePart, KeyValuePart]:
        """In mode `swap`, the own keys that count in full, and those of the same kind that source keys stand in for."""
        return self.own.part_at(same_kind.rest()), self.own.part_at(same_kind.tokens, self._own_bias)

    def parts_of(self, seen: ForeignTokens, same_kind: SameKindTokens | None = None) -> tuple[KeyValuePart, ...] | None:
        """All parts for queries that see `seen`; None when nothing foreign is among them, or no query is there in mode
        `swap`. Without `same_kind` the whole video is of one kind."""
        foreign = self.foreign_parts(seen)
        if not foreign:
            return None
        if self.rules.mode == "extend":
            return (self.own.everything(), *foreign)
        if self.rules.mode == "swap":
            if same_kind is not None and same_kind.tokens.numel() == 0:
                return None
            return self._swapped(seen, sum(part.key.shape[TOKEN_DIM] for part in foreign), same_kind)
        replaced = self._own_bias
        outside = self.own.outside_part(replaced if seen.texts else 0.0)
        return (*([] if outside is None else [outside]), self.own.video_part(replaced), *foreign)

    def _swapped(self, seen: ForeignTokens, count: int, same_kind: SameKindTokens | None) -> tuple[KeyValuePart, ...]:
        """All parts where `count` source tokens take over a part of what the own tokens of their kind count for."""
        if same_kind is None:
            outside = self.own.outside_part()
            kept, same = ([] if outside is None else [outside]), self.own.video_part(self._own_bias)
        else:
            rest, same = same_kind.parts or self.own_parts(same_kind)
            kept = [rest]
        return (*kept, same, *self.foreign_parts(seen, same.count / count))


def _unguided(own: OwnTokens, seen: ForeignTokens, builder: GroupBuilder) -> Iterator[QueryGroup] | None:
    parts = builder.parts_of(seen)
    if parts is None:
        return None
    if own.outside is None or seen.texts:
        return iter([QueryGroup(None, parts)])
    video = torch.arange(own.video.start, own.video.stop, device=own.key.device)
    return iter([QueryGroup(video, parts), QueryGroup(own.outside, (own.everything(),))])


def _frames(
    places: torch.Tensor, same_kind: SameKindTokens, seen: ForeignTokens, builder: GroupBuilder, frame_tokens: int
) -> Iterator[QueryGroup]:
    """One group per latent frame of the video tokens `places`, which `same_kind` has as indices: it attends to the text
    and to the stored tokens of the same frame only."""
    if builder.rules.mode == "swap":
        rest, same = builder.own_parts(same_kind)
        same_kind = replace(same_kind, parts=(rest.taken(), same.taken()))
    video = builder.own.video
    for frame in range((video.stop - video.start) // frame_tokens):
        queries = _within(places, frame, frame_tokens)
        if queries.start == queries.stop:
            continue
        here = [_narrow(tokens, _within(tokens.tokens, frame, frame_tokens)) for tokens in seen.video]
        yield builder.group(same_kind.tokens[queries], ForeignTokens(seen.texts, here), same_kind)


def _within(places: torch.Tensor, frame: int, frame_tokens: int) -> slice:
    """The part of ascending `places` that lies in latent frame `frame`."""
    bounds = torch.searchsorted(places, torch.tensor([frame * frame_tokens, (frame + 1) * frame_tokens]))
    return slice(int(bounds[0]), int(bounds[1]))


def _narrow(stored: StoredTokens, part: slice) -> StoredTokens:
    return StoredTokens(stored.key[:, :, part], stored.value[:, :, part], stored.tokens[part])
