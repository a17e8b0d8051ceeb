"""The idea of the pack in plain torch: a segment of a video attends to the subject of an earlier segment.

    python examples/shared_attention.py

Shapes: B batch, H heads, L tokens, D channels of a head; Lq queries, Lk keys; T and S tokens of the subject in the
segment and in its source. The pack does this in kvshare_core/attention; docs/architecture.md has the algebra.
"""

import math

import torch
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Attention over some of the keys, and the log-sum-exp of its scores."""
    scores = q @ k.mT * q.shape[-1] ** -0.5  # B H Lq Lk
    lse = scores.logsumexp(-1, keepdim=True)  # B H Lq 1
    return (scores - lse).exp() @ v, lse  # B H Lq D


def merge(parts: list[tuple[Tensor, Tensor]], biases: list[float]) -> Tensor:
    """Attention over all parts together, each weighed by exp(bias): exact, and without a mask."""
    outputs = torch.stack([output for output, _ in parts])  # P B H Lq D
    weights = torch.stack([lse + bias for (_, lse), bias in zip(parts, biases, strict=True)]).softmax(0)  # P B H Lq 1
    return (weights * outputs).sum(0)  # B H Lq D


def shared_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, source: tuple[Tensor, Tensor, Tensor], strength: float
) -> Tensor:
    """Self-attention of a segment, in which the subject also attends to the subject of a source.

    q, k, v: of the segment, B H L D; mask: its subject, bool L; source: keys, values and mask of the earlier segment.
    strength, 0 to 1: the part of the own subject that the source's subject replaces (mode `swap`, the pack's default).
    """
    source_k, source_v, source_mask = source
    own, rest, shown = (which.nonzero()[:, 0] for which in (mask, ~mask, source_mask))  # T, L - T, S
    output, _ = attention(q, k, v)  # B H L D: what the background keeps
    if strength == 0 or len(own) == 0 or len(shown) == 0:
        return output
    subject = q[:, :, own]  # B H T D
    parts = [
        attention(subject, k[:, :, rest], v[:, :, rest]),
        attention(subject, k[:, :, own], v[:, :, own]),
        attention(subject, source_k[:, :, shown], source_v[:, :, shown]),
    ]
    left = math.log(1 - strength) if strength < 1 else -math.inf
    output[:, :, own] = merge(parts, [0.0, left, math.log(strength * len(own) / len(shown))])
    return output


def main() -> None:
    """Prints where the subject's attention goes: every key's value says where the key comes from."""
    torch.manual_seed(0)
    frames, height, width = 3, 4, 6
    column = torch.arange(frames * height * width) % width  # L
    source_mask, mask = column < 2, column > 2  # the subject has moved to the right, and has grown
    q, k, source_k = torch.randn(3, 1, 2, len(column), 8)  # each B H L D
    background, own, source = torch.eye(3)  # the three origins
    v = torch.where(mask[:, None], own, background).expand(1, 2, -1, -1)  # B H L 3
    source_v = source.expand(1, 2, len(column), -1)  # B H L 3
    print("strength   background   own subject   source's subject")
    for strength in (0.0, 0.25, 0.5, 0.75, 1.0):
        output = shared_attention(q, k, v, mask, (source_k, source_v, source_mask), strength)
        shares = output[:, :, mask].mean((0, 1, 2))  # 3
        print("{:8.2f}   {:10.0%}   {:11.0%}   {:16.0%}".format(strength, *shares.tolist()))


if __name__ == "__main__":
    main()
