"""Warnings of one run, each said once."""

from collections.abc import Callable


class WarnOnce:
    """Passes every message on to `warn` the first time, and never again; of messages of one kind only the first."""

    def __init__(self, warn: Callable[[str], None]):
        self._warn = warn
        self._given: set[str] = set()

    def __contains__(self, message: str) -> bool:
        return message in self._given

    def __call__(self, message: str, kind: str | None = None) -> None:
        said = message if kind is None else kind
        if said not in self._given:
            self._given.add(said)
            self._warn(message)
