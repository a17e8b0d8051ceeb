"""What computing on a device needs: uploads that never make the CPU wait, and chunks that bound temporary memory."""

import torch

STAGED_COPIES = ("cuda",)
"""Device types whose non-blocking copies have already staged ordinary (pageable) CPU memory when the call returns."""

STAGED_BYTES = 1 << 16
"""Most bytes of ordinary memory that CUDA copies aside at once. For more the CPU may wait for all that the device has
been told to do (CUDA driver API, "API synchronization behavior")."""

CHUNK_ELEMENTS = 1 << 24
"""Most elements of a temporary tensor that is computed in chunks."""


def upload(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor` on `device`; from the CPU without waiting where that is safe even if `tensor` is dropped at once."""
    at_once = tensor.device.type == "cpu" and device.type in STAGED_COPIES
    if at_once and tensor.nbytes > STAGED_BYTES:
        # torch keeps pinned memory until the copy has been made, and uses it again.
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=at_once)


def chunk_length(elements_each: int, limit: int | None = None) -> int:
    """How many items of `elements_each` elements a chunk holds, at least one; limit: elements of a chunk,
    CHUNK_ELEMENTS for None."""
    return max(1, (CHUNK_ELEMENTS if limit is None else limit) // max(1, elements_each))
