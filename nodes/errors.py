"""What a user reads when a node cannot do its work."""

from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def named_errors(node: str) -> Generator[None]:
    """Puts the node's name in front of the core's complaints, which name the input and the fix."""
    try:
        yield
    except ValueError as error:
        if str(error).startswith(f"{node}: "):
            raise
        raise ValueError(f"{node}: {error}") from error
