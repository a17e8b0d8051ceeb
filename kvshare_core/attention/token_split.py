"""Which tokens of a segment's video are whose: every token is one subject's or the background's."""

from dataclasses import dataclass, field

import torch

from ..devices import upload


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
    """The newest two of `in_sequence`."""

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
        # Rows whose words are weighed take turns with rows whose words are not.
        self._places[:] = [*self._places[-1:], made]
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
