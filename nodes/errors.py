"""Error messages of the nodes."""

from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def named_errors(node: str) -> Generator[None]:
    """Prefixes the core's ValueErrors, which name the input and the fix, with the node's name."""
    try:
        yield
    except ValueError as error:
        if str(error).startswith(f"{node}: "):
            raise
        raise ValueError(f"{node}: {error}") from error
