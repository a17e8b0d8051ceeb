"""Low-rank additions to a trained transformer (LoRA, Hu et al. 2021), in the files that the host's LoRA nodes load."""

from collections.abc import Iterator

import torch
from torch import nn

PREFIX = "diffusion_model."
"""What the host's names of a diffusion model's weights begin with."""
DOWN, UP, ALPHA = "lora_down.weight", "lora_up.weight", "alpha"


class LowRankLinear(nn.Module):
    """A frozen linear layer plus a product of two narrow ones, of which the second starts at zero."""

    def __init__(self, base: nn.Linear, rank: int):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.base(input) + self.up(self.down(input))


def add_low_rank(transformer: nn.Module, rank: int) -> None:
    """Freezes `transformer` and gives every linear layer of its blocks, but those that modulate, an addition of that
    rank."""
    transformer.requires_grad_(False)
    chosen = [
        name
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and "blocks." in name and "mod" not in name.lower() and "norm" not in name
    ]
    for name in chosen:
        parent, _, child = name.rpartition(".")
        layer = transformer.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        setattr(transformer.get_submodule(parent), child, LowRankLinear(layer, rank))


def additions(transformer: nn.Module) -> Iterator[tuple[str, LowRankLinear]]:
    """The layers that have an addition, with their names in the layout."""
    for name, module in transformer.named_modules():
        if isinstance(module, LowRankLinear):
            yield name, module


def low_rank_state(transformer: nn.Module) -> dict[str, torch.Tensor]:
    """The additions as the host reads them: down, up, and an alpha that equals the rank, which scales by one."""
    state: dict[str, torch.Tensor] = {}
    for name, layer in additions(transformer):
        state[f"{PREFIX}{name}.{DOWN}"] = layer.down.weight.detach()
        state[f"{PREFIX}{name}.{UP}"] = layer.up.weight.detach()
        state[f"{PREFIX}{name}.{ALPHA}"] = torch.tensor(float(layer.down.out_features))
    return state
