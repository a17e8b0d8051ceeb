"""Means over storyboards and their confidence intervals by bootstrap."""

from collections.abc import Sequence

import torch

ROUNDS = 1000
LEVEL = 0.95

Contributions = Sequence[Sequence[float]]
"""What each storyboard gives to a mean; some give nothing, some several values."""


def mean(contributions: Contributions) -> float | None:
    """Mean over all values; None where there are none."""
    count = sum(len(values) for values in contributions)
    return sum(sum(values) for values in contributions) / count if count else None


def interval(contributions: Contributions, seed: int, rounds: int = ROUNDS) -> list[float] | None:
    """The middle 95 % of the means of as many storyboards drawn with repetition, [low, high]; None without a mean.

    Draws that give no value are left out.
    """
    return _middle(*_sums(contributions), seed, rounds)


def interval_of_difference(
    first: Contributions, second: Contributions, seed: int, rounds: int = ROUNDS
) -> list[float] | None:
    """The same for mean(first) - mean(second) of the same storyboards, drawn together."""
    if mean(first) is None or mean(second) is None:
        return None
    draws = _draws(len(first), seed, rounds)
    return _quantiles(_means(*_sums(first), draws) - _means(*_sums(second), draws))


def _sums(contributions: Contributions) -> tuple[torch.Tensor, torch.Tensor]:
    sums = torch.tensor([sum(values) for values in contributions], dtype=torch.float64)
    return sums, torch.tensor([len(values) for values in contributions], dtype=torch.float64)


def _middle(sums: torch.Tensor, counts: torch.Tensor, seed: int, rounds: int) -> list[float] | None:
    return _quantiles(_means(sums, counts, _draws(len(sums), seed, rounds))) if bool(counts.any()) else None


def _draws(count: int, seed: int, rounds: int) -> torch.Tensor:
    return torch.randint(count, (rounds, count), generator=torch.Generator().manual_seed(seed))


def _means(sums: torch.Tensor, counts: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    return sums[draws].sum(1) / counts[draws].sum(1)


def _quantiles(means: torch.Tensor) -> list[float]:
    tails = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
    return torch.quantile(means[means.isfinite()], tails).tolist()
