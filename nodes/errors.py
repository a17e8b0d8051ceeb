"""Error messages of the nodes."""

from collections.abc import Generator
from contextlib import contextmanager

from ..kvshare_core.host.own_errors import named_after

UNEXPECTED = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError)
"""What Python raises on values of another kind."""


@contextmanager
def named_errors(node: str) -> Generator[None]:
    """Prefixes errors with the node's name: the core's ValueErrors, which name the input and the fix, those of the
    system, such as a full disk, those that Python raises where an input is not of its kind, and those of torch that the
    pack's own code ran into. Those of the host and of other packs pass as they are, and so does an interrupt; too
    little memory stays what the host knows as that."""
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
    except RuntimeError as error:
        named = named_after(error, node)
        if named is None:
            raise
        raise named from error


def printable(text: str) -> str:
    """`text` that every console and JSON can hold, whatever users typed: halves of characters are escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
