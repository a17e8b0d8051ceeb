"""Error messages of the nodes."""

from collections.abc import Generator
from contextlib import contextmanager

UNEXPECTED = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError)
"""What Python raises on values of another kind."""


@contextmanager
def named_errors(node: str) -> Generator[None]:
    """Prefixes errors with the node's name: the core's ValueErrors, which name the input and the fix, those of the
    system, such as a full disk, and those that Python raises where an input is not of its kind. The host's own, an
    interrupt or too little memory, pass as they are."""
    try:
        yield
    except ValueError as error:
        if str(error) != printable(str(error)):
            # The host writes the error's cause too, on a console that cannot hold it, which would end its worker.
            raise ValueError(printable(f"{node}: {error}")) from None
        if str(error).startswith(f"{node}: "):
            raise
        raise ValueError(f"{node}: {error}") from error
    except OSError as error:
        raise OSError(error.errno, printable(f"{node}: {error.strerror or error}"), error.filename) from error
    except UNEXPECTED as error:
        raise ValueError(
            printable(
                f"{node}: {type(error).__name__}: {str(error)[:500]}. An input is not what the node expects; see what "
                "is connected to it. If that is right, please report this with the workflow."
            )
        ) from error


def printable(text: str) -> str:
    """`text` that every console and JSON can hold, whatever users typed: halves of characters are escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
