"""Names the node in errors of the pack while a model is sampled, which the host reports at the sampler."""

import os
import sysconfig
from collections.abc import Generator
from contextlib import contextmanager
from traceback import walk_tb

import torch
from comfy.model_management import InterruptProcessingException

NODE = "MaskGuidedKVShare"
CORE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


@contextmanager
def own_errors() -> Generator[None]:
    """Puts the node's name in front of errors of the pack. Errors of the host, the model and other packs pass as they
    are, and so do interrupts; running out of memory stays what the host knows as that."""
    try:
        yield
    except InterruptProcessingException:
        raise
    except Exception as error:
        if not _is_own(error):
            raise
        message = str(error).strip() or type(error).__name__
        if _names_a_node(message):
            raise
        kind = next((kind for kind in (torch.OutOfMemoryError, ValueError) if isinstance(error, kind)), RuntimeError)
        raise kind(f"{NODE}: {message}") from error


def _is_own(error: Exception) -> bool:
    """Whether the pack's own code raised `error`, or called the library that did."""
    files = [frame.f_code.co_filename for frame, _ in walk_tb(error.__traceback__)]
    last = next((file for file in reversed(files) if not file.startswith(LIBRARIES)), "")
    return last.startswith(CORE + os.sep)


def _names_a_node(message: str) -> bool:
    """Whether a message begins with the id of a node, as in `KVShareConfig: strength is ...`."""
    start, colon, _ = message.partition(": ")
    return bool(colon) and start.isidentifier() and start[0].isupper()
