"""The computer's own memory as a place for tensors of a compute device, with transfers beside the computation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

PAGE_BYTES = 1 << 20
SLAB_PAGES = 16


class PinnedMemoryError(torch.OutOfMemoryError):
    """The computer's memory has no room for more keys and values."""


class Slabs(Protocol):
    """Where a lane's memory comes from and goes back to."""

    def take(self, size: int) -> torch.Tensor:
        """So many bytes of the computer's memory, uint8 [size], pinned where that can be. Raises RuntimeError when none
        are left."""
        ...

    def give_back(self, slab: torch.Tensor) -> None:
        """Takes back what `take` gave, to which no transfer is under way."""
        ...


class TorchSlabs:
    """Memory that torch pins, and keeps for itself when it is given back."""

    def take(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def give_back(self, slab: torch.Tensor) -> None:
        pass


class _PlainSlabs(TorchSlabs):
    """Memory for devices whose transfers block anyway."""

    def take(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8)


@dataclass(frozen=True)
class HostCopy:
    """Tensors laid end to end over pages of bytes, and what they were."""

    pages: list[torch.Tensor]
    forms: tuple[tuple[torch.Size, torch.dtype], ...]


@dataclass(frozen=True)
class _Leaving:
    """Tensors that are being copied away; the stream that they were made on waits for `done` before their memory is
    used again."""

    tensors: Sequence[torch.Tensor]
    made_on: torch.cuda.Stream
    done: torch.cuda.Event


@dataclass(frozen=True)
class Fetched:
    """Tensors on their way back to the device; `arrived` is None where transfers block."""

    tensors: list[torch.Tensor]
    arrived: torch.cuda.Event | None


class HostLane:
    """Moves tensors between one device and the computer's memory.

    On CUDA the memory is pinned and every transfer runs on one stream of the lane's own. That single stream is what
    keeps reuse safe: a page is only ever touched by that stream, so a transfer into a reused page comes after all
    earlier transfers of that page without anybody waiting. Other devices copy in place, blocking.

    Tokens kept differ from pass to pass with the masks, so memory is handed out as equal pages rather than as buffers
    of a tensor's size: every free page fits, and an entry wastes less than one. Pages come in slabs whose size is a
    power of two, to which torch would round pinned memory up anyway. They are reused until the lane is closed. Where
    `slabs` could pin none, transfers are right and slow: CUDA lets the CPU wait for them.

    The CPU runs ahead of the device, and memory that only the device has yet to finish with cannot be used again. So
    that tensors do not pile up there, the lane keeps those that it handed over until `take_back`, and those that it
    copies away until `let_go`. From then on its stream waits for what the caller has queued, so that later fetches get
    the memory of the former, and the caller's stream waits for the copies, so that its next results get the memory of
    the latter; the CPU waits for neither.

    Not thread-safe: the owner serialises calls.
    """

    def __init__(self, device: torch.device, slabs: Slabs | None = None) -> None:
        """slabs: where memory comes from on CUDA, torch for None."""
        self.device = device
        self.allocated_bytes = 0
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._source = (slabs or TorchSlabs()) if device.type == "cuda" else _PlainSlabs()
        self._slabs: list[torch.Tensor] = []
        self._free: list[torch.Tensor] = []
        self._handed_over: list[torch.Tensor] = []
        self._leaving: list[_Leaving] = []

    def save(self, tensors: Sequence[torch.Tensor]) -> HostCopy:
        """Starts copying `tensors` of the lane's device to the computer's memory.

        The caller may drop them at once. Raises PinnedMemoryError when no memory is left.
        """
        tensors = [tensor.detach().contiguous() for tensor in tensors]
        pages = self._take(-(-sum(tensor.nbytes for tensor in tensors) // PAGE_BYTES))
        if self._stream is None:
            _copy(tensors, pages, to_pages=True, non_blocking=False)
        else:
            # The tensors are still being computed on the caller's stream, and their memory must not be given to
            # somebody else before this stream has read it.
            made_on, done = torch.cuda.current_stream(self.device), torch.cuda.Event()
            self._stream.wait_stream(made_on)
            with torch.cuda.stream(self._stream):
                _copy(tensors, pages, to_pages=True, non_blocking=True)
            done.record(self._stream)
            self._leaving.append(_Leaving(tensors, made_on, done))
        return HostCopy(pages, tuple((tensor.shape, tensor.dtype) for tensor in tensors))

    def fetch(self, copy: HostCopy) -> Fetched:
        """Starts bringing `copy` to the device; `hand_over` makes the result usable."""
        if self._stream is None:
            tensors = self._empty(copy)
            _copy(tensors, copy.pages, to_pages=False, non_blocking=False)
            return Fetched(tensors, None)
        # Allocated for this stream, so that the transfer need not wait for anything the caller has queued.
        with torch.cuda.stream(self._stream):
            tensors = self._empty(copy)
            _copy(tensors, copy.pages, to_pages=False, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(self._stream)
        return Fetched(tensors, arrived)

    def hand_over(self, fetched: Fetched, to_take_back: bool) -> list[torch.Tensor]:
        """The tensors; work queued on the caller's stream from here on waits for them to arrive. to_take_back: whether
        `take_back` is called once they have been used; otherwise they may be used for as long as they are kept."""
        if fetched.arrived is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(fetched.arrived)
            if to_take_back:
                self._handed_over.extend(fetched.tensors)
            else:
                for tensor in fetched.tensors:
                    tensor.record_stream(stream)
        return fetched.tensors

    def take_back(self) -> None:
        """Makes the memory of everything handed over free for later fetches. The caller has queued all its work with
        it, and queues no more."""
        if self._stream is not None and self._handed_over:
            self._stream.wait_stream(torch.cuda.current_stream(self.device))
            self._handed_over.clear()

    def let_go(self) -> None:
        """Makes the memory of everything saved free for the caller, whose work from here on waits for the copies."""
        for leaving in self._leaving:
            leaving.made_on.wait_event(leaving.done)
        self._leaving.clear()

    def release(self, copy: HostCopy) -> None:
        """Makes the copy's pages free for later ones, also while a transfer of theirs is still under way."""
        self._free.extend(copy.pages)
        copy.pages.clear()

    def close(self) -> None:
        """Gives all memory back once transfers have ended. Every copy has been released; the lane may be used again."""
        self.take_back()
        self.let_go()
        if self._stream is not None and self._slabs:
            self._stream.synchronize()
        self._free.clear()
        while self._slabs:
            self._source.give_back(self._slabs.pop())
        self.allocated_bytes = 0

    def _empty(self, copy: HostCopy) -> list[torch.Tensor]:
        return [torch.empty(shape, dtype=dtype, device=self.device) for shape, dtype in copy.forms]

    def _take(self, count: int) -> list[torch.Tensor]:
        while len(self._free) < count:
            self._free.extend(self._new_pages())
        kept = len(self._free) - count
        taken = self._free[kept:]
        del self._free[kept:]
        return taken

    def _new_pages(self) -> Sequence[torch.Tensor]:
        size = PAGE_BYTES * SLAB_PAGES
        try:
            # Pages outlive the mode they were made in, and an inference tensor cannot be written outside of it.
            with torch.inference_mode(False):
                slab = self._source.take(size)
                pages = slab.split(PAGE_BYTES)
        except RuntimeError as reason:
            raise PinnedMemoryError(
                f"KV Sharing Memory Settings: no memory left for {size >> 20} MiB more of source keys beside the "
                f"{self.allocated_bytes >> 20} MiB already kept; choose dtype 'fp8', place 'device' or fewer layers."
            ) from reason
        self.allocated_bytes += size
        self._slabs.append(slab)
        return pages


def _copy(tensors: Sequence[torch.Tensor], pages: list[torch.Tensor], to_pages: bool, non_blocking: bool) -> None:
    for data, page in _pieces(tensors, pages):
        if to_pages:
            page.copy_(data, non_blocking=non_blocking)
        else:
            data.copy_(page, non_blocking=non_blocking)


def _pieces(tensors: Sequence[torch.Tensor], pages: list[torch.Tensor]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Views of equal length, of the contiguous `tensors`' bytes in order and of the place of each in `pages`."""
    place = 0
    for tensor in tensors:
        data = tensor.flatten().view(torch.uint8)
        done = 0
        while done < data.numel():
            page, start = divmod(place, PAGE_BYTES)
            length = min(PAGE_BYTES - start, data.numel() - done)
            yield data[done : done + length], pages[page][start : start + length]
            done += length
            place += length
