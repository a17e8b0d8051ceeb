"""Keys and values in 8 bits: e4m3 with one scale per head, and how much that changes them."""

import torch

from ..devices import chunk_length

LARGEST = torch.finfo(torch.float8_e4m3fn).max


def quantise(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`tensor` [rows, heads, tokens, head_dim] as e4m3 of the same shape, and float32 scales [rows, heads, 1, 1].

    A head's scale is its largest magnitude / 448, so the error relative to a head does not depend on how large its
    numbers are. A head of zeros stays zeros, and so does one whose largest magnitude is below 5e-36. A head that holds
    a NaN or an infinity is NaN throughout once restored: e4m3 has no infinity, and attention over such a key is NaN for
    every query of that head anyway, so the fault shows instead of hiding in a clamped number.

    Raises ValueError on a device without 8-bit floats.
    """
    if tensor.device.type == "mps":
        raise ValueError("KV Sharing Memory Settings: this device (mps) has no 8-bit floats; choose dtype 'model'.")
    tensor = tensor.detach()
    rows, heads, tokens, head_dim = tensor.shape
    stored = torch.empty_like(tensor, dtype=torch.float8_e4m3fn, memory_format=torch.contiguous_format)
    if tensor.numel() == 0:
        return stored, torch.ones(rows, heads, 1, 1, device=tensor.device)
    highest = torch.maximum(tensor.amax((2, 3), keepdim=True), -tensor.amin((2, 3), keepdim=True))
    scale = highest.float() / LARGEST
    scale = torch.where(scale < torch.finfo(torch.float32).tiny, 1.0, scale)
    step = chunk_length(rows * tokens * head_dim)
    for first in range(0, heads, step):
        some = slice(first, first + step)
        stored[:, some] = tensor[:, some].float() / scale[:, some]
    return stored, scale


def restore(stored: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The tensor that `quantise` made `stored` and `scale` of, in `dtype`."""
    # The product is computed in float32 and rounded once, without a float32 copy of the whole tensor on a GPU.
    restored = torch.empty_like(stored, dtype=dtype)
    return torch.mul(stored.to(dtype), scale, out=restored)


def quantisation_error(original: torch.Tensor, restored: torch.Tensor) -> float:
    """Root mean square of the difference over that of `original`: 0.02 is two percent.

    0 when both are all zeros or empty, infinite when only `original` is all zeros, NaN when either holds a NaN.
    """
    expected, found = original.cpu().double(), restored.cpu().double()
    error = float(torch.linalg.vector_norm(found - expected))
    return 0.0 if error == 0.0 else float(error / torch.linalg.vector_norm(expected))
