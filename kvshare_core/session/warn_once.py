"""Warnings of one run, each said once."""

from collections.abc import Callable


class WarnOnce:
    """Passes every message on to `warn` the first time, and never again."""

    def __init__(self, warn: Callable[[str], None]):
        self._warn = warn
        self._given: set[str] = set()

    def __call__(self, message: str) -> None:
        if message not in self._given:
            self._given.add(message)
            self._warn(message)
