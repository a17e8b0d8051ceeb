"""Which errors are the pack's own, and how they name a node, where the host would report them at another or at none."""

import os
import sysconfig
from collections.abc import Generator
from contextlib import contextmanager
from traceback import walk_tb

import torch
from comfy.model_management import InterruptProcessingException

SAMPLING_NODE = "Mask-Guided KV Share"
NODES = (
    "Attention Mask Preview",
    "DiTCtrl Config (paper)",
    "KV Share Workers",
    "KV Sharing Config",
    "KV Sharing Load Preset",
    "KV Sharing Mask Settings",
    "KV Sharing Memory Settings",
    "KV Sharing Probe",
    "Load Video DiT",
    "Long Video Beat Images",
    "Long Video Continue",
    "Long Video Decode Loop",
    "Long Video Load",
    "Long Video Redo Beat",
    "Long Video Save",
    "Long Video Segmenter",
    SAMPLING_NODE,
)
"""What the pack's nodes are called where users see them."""
CORE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


@contextmanager
def own_errors() -> Generator[None]:
    """Puts the name of the node that patches the model in front of errors of the pack while it is sampled. Errors of
    the host, the model and other packs pass as they are, and so do interrupts."""
    try:
        yield
    except InterruptProcessingException:
        raise
    except Exception as error:
        named = named_after(error, SAMPLING_NODE)
        if named is None:
            raise
        raise named from error


def named_after(error: Exception, node: str) -> Exception | None:
    """An error of the pack with the name of `node` in front; running out of memory stays what the host knows as that.
    None for the errors of others, and for one that names a node already."""
    message = str(error).strip() or type(error).__name__
    if not _is_own(error) or _names_a_node(message):
        return None
    kind = next((kind for kind in (torch.OutOfMemoryError, ValueError) if isinstance(error, kind)), RuntimeError)
    return kind(f"{node}: {message}")


def _is_own(error: Exception) -> bool:
    """Whether the pack's own code raised `error`, or called the library that did."""
    files = [frame.f_code.co_filename for frame, _ in walk_tb(error.__traceback__)]
    last = next((file for file in reversed(files) if not file.startswith(LIBRARIES)), "")
    return last.startswith(CORE + os.sep)


def _names_a_node(message: str) -> bool:
    """Whether a message begins with the name of a node, as in `KV Sharing Config: strength is ...`."""
    start, colon, _ = message.partition(": ")
    return bool(colon) and start in NODES
