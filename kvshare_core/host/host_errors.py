"""Errors of the host's loaders, with messages that name the input."""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from comfy.model_management import InterruptProcessingException


@contextmanager
def host_errors(complaint: str) -> Generator[None]:
    """Turns whatever a loader of the host raises into a ValueError: `complaint`, a colon and the host's message.

    Running out of memory and interrupts pass through, because the host handles them.
    """
    try:
        yield
    except (torch.cuda.OutOfMemoryError, MemoryError, InterruptProcessingException):
        raise
    except Exception as reason:
        raise ValueError(f"{complaint}: {str(reason).strip() or type(reason).__name__}") from reason
