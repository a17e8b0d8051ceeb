"""Error messages of the nodes."""

from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def named_errors(node: str) -> Generator[None]:
    """Prefixes the core's ValueErrors, which name the input and the fix, with the node's name."""
    try:
        yield
    except ValueError as error:
        if str(error) == printable(str(error)) and str(error).startswith(f"{node}: "):
            raise
        raise ValueError(printable(f"{node}: {error}")) from error


def printable(text: str) -> str:
    """`text` that every console and JSON can hold, whatever users typed: halves of characters are escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
