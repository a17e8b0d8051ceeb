"""Keys and values of earlier segments, kept for the length of one model call on the long latent.

(docs/architecture.md#evaluation-orders: sharing within one step needs the keys of one step only.)
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from ..config import MemorySettings
from .fp8 import quantise, restore
from .pinned_memory import Fetched, HostCopy, HostLane, Slabs

EVERY_HEAD = slice(None)
"""All heads of a tensor."""

Chunk = tuple[int, int]
"""A part of the host's batch: the list of conditioning it comes from and its place in that list."""


class BankKey(NamedTuple):
    """Where keys came from."""

    segment: int
    block: int
    chunk: Chunk
    row: int


@dataclass(frozen=True)
class StoredTokens:
    """Keys and values [1 row, key heads, tokens, head_dim] of some tokens of one latent.

    tokens: their places [tokens], ascending, int64 on the CPU: in the segment's grid of video tokens, or just counted
    where these are text tokens. Raises ValueError when the numbers of tokens differ.
    """

    key: torch.Tensor
    value: torch.Tensor
    tokens: torch.Tensor

    def __post_init__(self) -> None:
        counts = self.key.shape[2], self.value.shape[2], self.tokens.shape[0]
        if counts[0] != counts[1] or counts[0] != counts[2]:
            raise ValueError(f"stored tokens: keys, values and places are of {sorted(set(counts))} tokens")

    def on(self, device: torch.device) -> "StoredTokens":
        """The same tokens with keys and values on `device`."""
        if self.key.device == device:
            return self
        return StoredTokens(self.key.to(device), self.value.to(device), self.tokens)

    def of_heads(self, heads: slice) -> "StoredTokens":
        """The same tokens with some key heads alone, not copied."""
        return StoredTokens(self.key[:, heads], self.value[:, heads], self.tokens)


@dataclass(frozen=True)
class BankEntry:
    """What one block of one segment leaves for later segments; None for a part that it does not leave."""

    subjects: tuple[StoredTokens | None, ...]
    """The tokens of each subject, or one part with all video tokens where no mask splits them."""
    background: StoredTokens | None = None
    """What no subject claims, where that is shared too."""
    text: StoredTokens | None = None
    """The tokens outside the video, kept only with `share_text`."""
    origin: float = 0.0
    """Position in time of the video's first frame, as in families.base.CallSite."""

    @property
    def parts(self) -> tuple[StoredTokens | None, ...]:
        """All parts, as `of_parts` takes them."""
        return (*self.subjects, self.background, self.text)

    @classmethod
    def of_parts(cls, parts: Sequence[StoredTokens | None], origin: float = 0.0) -> "BankEntry":
        """The entry with these `parts`."""
        *subjects, background, text = parts
        return cls(tuple(subjects), background, text, origin)

    def on(self, device: torch.device) -> "BankEntry":
        """The same entry on `device`: hosts with several may run a later segment's forward on another."""
        if all(part is None or part.key.device == device for part in self.parts):
            return self
        return BankEntry.of_parts([None if part is None else part.on(device) for part in self.parts], self.origin)

    def of_heads(self, heads: slice) -> "BankEntry":
        """The same entry with some key heads alone, not copied."""
        if heads == EVERY_HEAD:
            return self
        return BankEntry.of_parts([None if part is None else part.of_heads(heads) for part in self.parts], self.origin)


@dataclass(frozen=True)
class _Part:
    """A StoredTokens without its tensors; place: where it stands among its entry's parts."""

    place: int
    tokens: torch.Tensor
    dtypes: tuple[torch.dtype, torch.dtype]
    quantised: bool


@dataclass
class _Stored:
    """An entry as it is kept: on the device in `tensors`, or in the computer's memory in `copy`, moved by `lane`."""

    parts: list[_Part]
    places: int
    origin: float
    consumers: int | None
    device_bytes: int
    tensors: list[torch.Tensor] | None = None
    lane: HostLane | None = None
    copy: HostCopy | None = None
    fetched: Fetched | None = None

    @property
    def bytes(self) -> int:
        return self.device_bytes + sum(part.tokens.nbytes for part in self.parts)


class KeyValueBank:
    """Holds entries until their last reader has come, their segment is released or everything is cleared.

    memory: where entries are kept and in which dtype; the place matters only where the compute device is not the CPU
    itself. budget_bytes: what place `auto` may keep on the device, None for no limit; `memory.budget_mib` is not read
    here, because 0 there means what the host layer finds free. slabs: where the computer's memory comes from, as in
    HostLane.

    Entries are taken over, not copied, unless they are views of something bigger: nobody may write to them after `put`
    or to what `get` returns. Safe to use from several threads.
    """

    def __init__(
        self, memory: MemorySettings | None = None, budget_bytes: int | None = None, slabs: Slabs | None = None
    ) -> None:
        self.memory = memory or MemorySettings()
        self._budget = budget_bytes
        self._slabs = slabs
        self._ahead: Sequence[BankKey] = ()
        """What the last call of `prefetch` asked for."""
        self._lock = threading.Lock()
        self._entries: dict[BankKey, _Stored] = {}
        self._lanes: dict[torch.device, HostLane] = {}
        self._held = self._peak = 0
        self._device = self._device_peak = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of all entries, wherever they are: keys, values, scales and places. Copies under way back to the
        device are not counted again."""
        return self._held

    @property
    def peak_bytes(self) -> int:
        """The largest `held_bytes` since this bank was made."""
        return self._peak

    @property
    def device_bytes(self) -> int:
        """Bytes on the compute device: of entries kept there, and of copies fetched and not yet handed out. Places are
        on the CPU and not part of it."""
        return self._device

    @property
    def peak_device_bytes(self) -> int:
        """The largest `device_bytes` since this bank was made."""
        return self._device_peak

    @property
    def moves(self) -> bool:
        """Whether entries have been moved off the device, so that `prefetch` may have something to fetch."""
        return bool(self._lanes)

    @property
    def reserved_bytes(self) -> int:
        """Bytes of the computer's memory taken for entries off the device, also while no entry uses them."""
        return sum(lane.allocated_bytes for lane in self._lanes.values())

    def put(self, key: BankKey, entry: BankEntry, consumers: int | None) -> None:
        """Stores `entry` for `consumers` calls of `get`, in place of an entry of the same key; 0 stores nothing, None
        allows any number of calls.

        Raises ValueError when `consumers` is negative and PinnedMemoryError when no memory is left.
        """
        if consumers is not None and consumers < 0:
            raise ValueError(f"key/value bank: {consumers} consumers; the number cannot be negative.")
        if consumers == 0:
            with self._lock:
                self._drop(key)
            return
        parts, tensors = _pack(entry, self.memory.dtype == "fp8")
        stored = _Stored(parts, len(entry.parts), entry.origin, consumers, sum(tensor.nbytes for tensor in tensors))
        with self._lock:
            self._drop(key)
            lane = None if self._stays_on_device(stored.device_bytes) else self._lane(tensors[0].device)
            if lane is None:
                stored.tensors = tensors
                self._count(0, stored.device_bytes)
            else:
                stored.lane, stored.copy = lane, lane.save(tensors)
            self._count(stored.bytes, 0)
            self._entries[key] = stored

    def get(self, key: BankKey) -> BankEntry | None:
        """The entry on its device and in its dtype, for one of its consumers; released after the last one.

        To be used until the next `prefetch`, `keep_segments` or `clear`: entries that come from the computer's memory
        then make room for others. None when there is none: that segment did not produce it (a step cache skipped its
        forward, for example), or all its consumers have been.
        """
        with self._lock:
            stored = self._entries.get(key)
            if stored is None:
                return None
            tensors = stored.tensors
            if tensors is None:
                tensors = self._bring_back(stored)
            # Before it counts as read: a reader that finds no memory may come again.
            entry = _unpack(stored, tensors)
            if stored.consumers is not None:
                stored.consumers -= 1
                if stored.consumers == 0:
                    self._drop(key)
        return entry

    def prefetch(self, keys: Sequence[BankKey]) -> None:
        """Starts bringing entries back to their device, each for its next reader; absent ones are passed over. What
        `get` returned before is used no more, and what the call before brought back and nobody read leaves the device
        again, unless there are several devices, each with readers of its own: one call's entries are there."""
        with self._lock:
            self._take_back()
            for key in self._ahead if len(self._lanes) < 2 else ():
                self._leave(key)
            self._ahead = keys
            for key in keys:
                stored = self._entries.get(key)
                if stored is not None:
                    self._fetch(stored)

    def let_go(self) -> None:
        """Gives the memory of what was put before, and has gone to the computer's, back to the device's computation,
        which waits for that where it has to."""
        with self._lock:
            for lane in self._lanes.values():
                lane.let_go()

    def leave_device(self) -> bool:
        """Moves every entry into the computer's memory and keeps later ones there too. Whether any entry moved.

        Raises PinnedMemoryError when none is left there.
        """
        with self._lock:
            self.memory = replace(self.memory, place="cpu")
            moved = False
            for stored in self._entries.values():
                if stored.tensors is None or (lane := self._lane(stored.tensors[0].device)) is None:
                    continue
                stored.lane, stored.copy, stored.tensors = lane, lane.save(stored.tensors), None
                self._count(0, -stored.device_bytes)
                moved = True
        return moved

    def turn_to_fp8(self) -> bool:
        """Keeps later entries in 8 bits, and at once those that are not in pinned memory. Whether they were not before.

        Raises ValueError on a device without 8-bit floats.
        """
        with self._lock:
            changed = self.memory.dtype != "fp8"
            self.memory = replace(self.memory, dtype="fp8")
            for stored in self._entries.values() if changed else ():
                if stored.tensors is None:
                    continue
                entry, before = _unpack(stored, stored.tensors), stored.device_bytes
                stored.parts, stored.tensors = _pack(entry, fp8=True)
                stored.device_bytes = sum(tensor.nbytes for tensor in stored.tensors)
                self._count(stored.device_bytes - before, stored.device_bytes - before)
        return changed

    def keep_segments(self, is_wanted: Callable[[int], bool]) -> None:
        """Releases the entries of all segments but the wanted. What `get` returned before is used no more."""
        self.let_go()
        with self._lock:
            self._take_back()
            for key in [key for key in self._entries if not is_wanted(key.segment)]:
                self._drop(key)

    def clear(self) -> None:
        """Releases everything; the peaks stay, and so does memory reserved for the next pass."""
        self.keep_segments(lambda _: False)

    def close(self) -> None:
        """Releases everything and gives back the computer's memory; the peaks stay."""
        self.clear()
        with self._lock:
            for lane in self._lanes.values():
                lane.close()

    def __len__(self) -> int:
        return len(self._entries)

    def _take_back(self) -> None:
        for lane in self._lanes.values():
            lane.take_back()

    def _lane(self, device: torch.device) -> HostLane | None:
        """The way off `device`; None where the device computes in the computer's memory already."""
        if device.type == "cpu":
            return None
        if device not in self._lanes:
            self._lanes[device] = HostLane(device, self._slabs)
        return self._lanes[device]

    def _stays_on_device(self, size: int) -> bool:
        if self.memory.place == "auto":
            return self._budget is None or self._device + size <= self._budget
        return self.memory.place == "device"

    def _fetch(self, stored: _Stored) -> None:
        if stored.lane is not None and stored.copy is not None and stored.fetched is None:
            stored.fetched = stored.lane.fetch(stored.copy)
            self._count(0, stored.device_bytes)

    def _leave(self, key: BankKey) -> None:
        """Drops the copy on the device of an entry that nobody has read."""
        stored = self._entries.get(key)
        if stored is not None and stored.fetched is not None:
            stored.fetched = None
            self._count(0, -stored.device_bytes)

    def _bring_back(self, stored: _Stored) -> list[torch.Tensor]:
        self._fetch(stored)
        assert stored.lane is not None and stored.fetched is not None
        # With several devices one may still use what another has done with.
        tensors = stored.lane.hand_over(stored.fetched, to_take_back=len(self._lanes) == 1)
        stored.fetched = None
        self._count(0, -stored.device_bytes)
        return tensors

    def _drop(self, key: BankKey) -> None:
        stored = self._entries.pop(key, None)
        if stored is None:
            return
        if stored.lane is not None and stored.copy is not None:
            stored.lane.release(stored.copy)
        on_device = stored.tensors is not None or stored.fetched is not None
        self._count(-stored.bytes, -stored.device_bytes if on_device else 0)

    def _count(self, held: int, on_device: int) -> None:
        self._held += held
        self._device += on_device
        self._peak = max(self._peak, self._held)
        self._device_peak = max(self._device_peak, self._device)


def _pack(entry: BankEntry, fp8: bool) -> tuple[list[_Part], list[torch.Tensor]]:
    """The entry's parts, and its tensors one after the other. Text is few tokens and keeps its dtype."""
    parts: list[_Part] = []
    tensors: list[torch.Tensor] = []
    for place, stored in enumerate(entry.parts):
        if stored is None:
            continue
        dtypes = (stored.key.dtype, stored.value.dtype)
        part = _Part(place, _owned(stored.tokens), dtypes, fp8 and stored is not entry.text)
        parts.append(part)
        for tensor in (stored.key, stored.value):
            tensors.extend(quantise(tensor) if part.quantised else [_owned(tensor)])
    return parts, tensors


def _unpack(stored: _Stored, tensors: list[torch.Tensor]) -> BankEntry:
    """The entry with all its parts, absent ones included."""
    found: list[StoredTokens | None] = [None] * stored.places
    rest = iter(tensors)
    for part in stored.parts:
        if part.quantised:
            key, value = (restore(next(rest), next(rest), dtype) for dtype in part.dtypes)
        else:
            key, value = next(rest), next(rest)
        found[part.place] = StoredTokens(key, value, part.tokens)
    return BankEntry.of_parts(found, stored.origin)


def _owned(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor`, copied when it is a view that would keep more than its own bytes alive."""
    tensor = tensor.detach()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
