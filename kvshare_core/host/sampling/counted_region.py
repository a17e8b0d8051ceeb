"""A region of code that several threads may be in at once, of which only the first in and the last out matter."""

import threading
from abc import ABC, abstractmethod
from types import TracebackType


class CountedRegion(ABC):
    """A context that begins when the first comes in and ends when the last goes out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0

    @abstractmethod
    def begin(self) -> None:
        """Called when nothing was inside."""

    @abstractmethod
    def end(self) -> None:
        """Called when nothing is inside any more, also after an error."""

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self.begin()
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self.end()
