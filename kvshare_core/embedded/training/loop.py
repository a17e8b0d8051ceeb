"""What the trainers share: learning-rate schedule, averaged weights, checkpoints."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

Report = Callable[[int, int, float], None]
"""Called every step with the steps done, the steps in all, and the running mean of the loss."""

LOSS_MEMORY = 0.99


@dataclass(frozen=True)
class Schedule:
    """Length of a run, its learning rate over time, and how slowly the averaged weights follow."""

    steps: int
    learning_rate: float
    warmup_steps: int
    decay_fraction: float
    ema_decay: float

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, constant, then linear to zero over the last `decay_fraction` of the run."""
        left = (self.steps - step) / (self.steps * self.decay_fraction)
        return self.learning_rate * min(1.0, (step + 1) / self.warmup_steps, max(left, 0.0))


class TrainingRun:
    """A model in training with its averaged copy; resumes from `checkpoint` where that exists.

    `start` is the first step to do. The checkpoint is rewritten every `save_every` steps and at the end.
    """

    def __init__(
        self,
        model: nn.Module,
        average: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        schedule: Schedule,
        checkpoint: Path,
        save_every: int,
    ):
        self.model = model
        self.average = average.requires_grad_(False)
        self.optimizers = optimizers
        self.schedule = schedule
        self.checkpoint = checkpoint
        self.save_every = save_every
        self.start = 0
        self.loss: float | None = None
        average.load_state_dict(model.state_dict())
        if checkpoint.exists():
            self._resume()

    def update(self, step: int, loss: torch.Tensor, report: Report) -> None:
        """Finishes step `step`: gradients of `loss`, optimizers, averages, report, checkpoint."""
        loss.backward()
        nn.utils.clip_grad_norm_((p for p in self.model.parameters() if p.requires_grad), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.schedule.learning_rate_at(step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        decay = min(self.schedule.ema_decay, (step + 1) / (step + 10))
        get_ema_multi_avg_fn(decay)(list(self.average.parameters()), list(self.model.parameters()), step)
        value = loss.item()
        self.loss = value if self.loss is None else LOSS_MEMORY * self.loss + (1 - LOSS_MEMORY) * value
        report(step + 1, self.schedule.steps, self.loss)
        if (step + 1) % self.save_every == 0 or step + 1 == self.schedule.steps:
            self._save(step + 1)

    def _resume(self) -> None:
        saved = torch.load(self.checkpoint, map_location=next(self.model.parameters()).device, weights_only=True)
        self.start = saved["step"]
        self.loss = saved["loss"]
        self.model.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)

    def _save(self, step: int) -> None:
        """Replaces the checkpoint in one move, so that an interrupted write leaves the old one."""
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.checkpoint.with_suffix(".partial")
        torch.save(
            {
                "step": step,
                "loss": self.loss,
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            },
            temporary,
        )
        temporary.replace(self.checkpoint)


def checkpoint_loss(checkpoint: Path) -> float:
    """The running mean of the loss when `checkpoint` was written."""
    return torch.load(checkpoint, map_location="cpu", weights_only=True)["loss"]
