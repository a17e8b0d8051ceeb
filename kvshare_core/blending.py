"""Window weights: how overlapping segments become one latent."""

import torch


def window_weights(length: int, overlap_before: int, overlap_after: int) -> torch.Tensor:
    """Weights of one segment's latent frames, [length] in (0, 1].

    The weight rises linearly over the frames shared with the segment before and falls over those shared with the
    segment after, so that two neighbours sum to one on every shared frame. Elsewhere it is one.
    """
    frame = torch.arange(length, dtype=torch.float64)
    rising = (frame + 1) / (overlap_before + 1)
    falling = (length - frame) / (overlap_after + 1)
    return torch.minimum(rising, falling).clamp(max=1.0)


def triangle_weights(length: int) -> torch.Tensor:
    """DiTCtrl's weights of one segment's latent frames, [length] in (0, 1]: the same for every segment, the middle
    frame highest (ditctrl.md 3.4)."""
    rising = 2 * (torch.arange(length, dtype=torch.float64) + 0.5) / length
    return torch.minimum(rising, 2 - rising)


class OverlapAdd:
    """Adds weighted segments to a long tensor and divides by the sum of weights at the end."""

    def __init__(self, like: torch.Tensor, dim: int):
        self.dim = dim
        self.total = torch.zeros_like(like)
        self.weight = torch.zeros(like.shape[dim], dtype=torch.float64)

    def add(self, start: int, piece: torch.Tensor, weights: torch.Tensor) -> None:
        """Adds `piece`, which covers positions [start, start + len(weights)) of `dim`."""
        shape = [1] * piece.ndim
        shape[self.dim] = len(weights)
        scaled = piece * weights.to(piece).reshape(shape)
        self.total.narrow(self.dim, start, len(weights)).add_(scaled)
        self.weight[start : start + len(weights)] += weights

    def result(self) -> torch.Tensor:
        """The blended tensor. Raises ValueError when some position was never covered."""
        if bool((self.weight <= 0).any()):
            raise ValueError("blending: some latent frames belong to no segment")
        shape = [1] * self.total.ndim
        shape[self.dim] = len(self.weight)
        return self.total / self.weight.to(self.total).reshape(shape)
