"""What a run has to say to its user: in the log, in the editor's line while it runs, and in the record."""

import logging

from .progress import RunProgress

log = logging.getLogger("kvshare")


class Notices:
    """Collects the notices of one run, each of which is said at once."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._progress: RunProgress | None = None

    def show_in(self, progress: RunProgress) -> None:
        """Says them in the editor too, those said before as well."""
        self._progress = progress
        for message in self.said:
            progress.say(message)

    def __call__(self, message: str) -> None:
        """Says a notice."""
        log.warning("Mask-Guided KV Share: %s", message)
        self.said.append(message)
        if self._progress is not None:
            self._progress.say(message)
