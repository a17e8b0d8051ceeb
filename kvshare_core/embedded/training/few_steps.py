"""Makes the embedded transformers draw in 4 to 8 steps without guidance, by a low-rank addition.

The way from noise to picture is cut into as many phases as there are steps at the least. From any place in a phase the
model learns the straight way to where the guided original arrives at the end of that phase, which this follows by a few
small steps: a consistency model of each phase (Phased Consistency Models, Wang et al. 2024, section 3), whose end is
computed instead of learned, since the originals are small. What one step can do, several can: they go along the same
straight way. Guidance becomes part of the model (Meng et al. 2023), so that a step costs one evaluation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ..files import weight_file
from ..latents import fit_basis
from ..layouts import with_unread_inputs
from ..vocabulary import PAD, WORD_IDS
from .denoiser import Denoiser, DenoiserRecipe, Drawn, make_pool
from .loop import Report, Schedule, TrainingRun
from .low_rank import add_low_rank, low_rank_state

PHASES = 4
"""The least number of steps that the result is made for."""


@dataclass(frozen=True)
class FewStepRecipe:
    """Everything that decides the result of a distillation besides the original and the machine's rounding.

    `sampling_shift` is that of the noise schedule that the host samples the layout with, `guidance` what the original
    is guided by, and `teacher_steps` how many steps it takes in each phase, the noisiest first. Every training step is
    about one phase, in turn.
    """

    sampling_shift: float
    seed: int = 1
    steps: int = 2_000
    batch: int = 16
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    decay_fraction: float = 0.5
    ema_decay: float = 0.995
    rank: int = 5
    guidance: float = 4.0
    teacher_steps: tuple[int, ...] = (2, 2, 3, 6)

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.steps, self.learning_rate, self.warmup_steps, self.decay_fraction, self.ema_decay)


def shifted(level: torch.Tensor, shift: float) -> torch.Tensor:
    """Noise levels of a schedule that goes evenly through `level` before it is shifted."""
    return shift * level / (1 + (shift - 1) * level)


def draw_places(count: int, phase: int, generator: torch.Generator) -> torch.Tensor:
    """`count` stratified places [n] in the unshifted schedule, within `phase` of PHASES, the noisiest first. Of the
    first phase every fourth is its very beginning, where all sampling begins."""
    part = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    if phase == 0:
        part[::4] = 0
    return 1 - (phase + part) / PHASES


@torch.no_grad()
def guided_way(
    teacher: Callable[..., torch.Tensor],
    start: torch.Tensor,
    drawn: Drawn,
    place: torch.Tensor,
    phase: int,
    recipe: FewStepRecipe,
) -> torch.Tensor:
    """Mean velocity [n, channels, t, h, w] of the guided original from `start`, latents at `place` [n] in `phase`, to
    the end of that phase. Of the scenes `drawn` the captions are used, and what the model reads beside the noise."""
    ids = torch.cat([drawn.ids, torch.full_like(drawn.ids, WORD_IDS[PAD])])
    given = drawn.condition.repeat(2, 1, 1, 1, 1)
    end = 1 - (phase + 1) / PHASES
    steps = recipe.teacher_steps[phase]
    latents = start
    sigmas = [
        shifted(torch.lerp(place, torch.full_like(place, end), step / steps), recipe.sampling_shift)
        for step in range(steps + 1)
    ]
    for now, following in pairwise(sigmas):
        noisy = torch.cat([latents.repeat(2, 1, 1, 1, 1), given], dim=1)
        conditioned, unconditioned = teacher(noisy, now.repeat(2), ids).float().chunk(2)
        velocity = unconditioned + recipe.guidance * (conditioned - unconditioned)
        latents = latents + (following - now).reshape(-1, 1, 1, 1, 1) * velocity
    return (latents - start) / (sigmas[-1] - sigmas[0]).reshape(-1, 1, 1, 1, 1)


def load_original(original: DenoiserRecipe, transformer_file: Path, text_file: Path) -> Denoiser:
    """A trained transformer with its text encoder, frozen. Raises FileNotFoundError without one of the files."""
    model = Denoiser(original.shape, original.known_words)
    for part, file in ((model.transformer, transformer_file), (model.text, text_file)):
        weights = load_file(weight_file(file.parent, file.name))
        part.load_state_dict({name: tensor.float() for name, tensor in with_unread_inputs(weights).items()})
    return model.requires_grad_(False)


def train_few_steps(
    recipe: FewStepRecipe,
    original: DenoiserRecipe,
    files: tuple[Path, Path],
    checkpoint: Path,
    device: torch.device,
    report: Report,
) -> Denoiser:
    """Distils the model that `original` gave, whose transformer and text encoder are in `files`, or resumes from
    `checkpoint`. Returns it with the averaged additions."""
    torch.manual_seed(recipe.seed)
    teacher, model, average = (load_original(original, *files).to(device) for _ in range(3))
    for student in (model, average):
        add_low_rank(student.transformer, recipe.rank)
        student.to(device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    run = TrainingRun(model, average, [optimizer], recipe.schedule, checkpoint, save_every=100)
    if run.start >= recipe.steps:
        return average

    pool = make_pool(original, fit_basis(), recipe.seed + run.start)
    generator = torch.Generator().manual_seed(recipe.seed + run.start + 1)
    follow, forward = (torch.compile(part, dynamic=False) for part in (teacher, model))
    for step in range(run.start, recipe.steps):
        pool.add(original.fresh_per_step)
        drawn = Drawn(*(tensor.to(device) for tensor in pool.draw(recipe.batch)))
        phase = step % PHASES
        place = draw_places(recipe.batch, phase, generator).to(device)
        noise = torch.randn(drawn.latents.shape, generator=generator).to(device)
        sigma = shifted(place, recipe.sampling_shift)
        weight = sigma.reshape(-1, 1, 1, 1, 1)
        noisy = weight * noise + (1 - weight) * drawn.latents
        with torch.autocast(device.type, torch.bfloat16):
            target = guided_way(follow, noisy, drawn, place, phase, recipe)
            velocity = forward(torch.cat([noisy, drawn.condition], dim=1), sigma, drawn.ids)
        run.update(step, (velocity.float() - target).square().mean(), report)
    return average


def save_few_steps(average: Denoiser, file: Path) -> None:
    """Writes the additions as half-precision safetensors."""
    save_file({name: tensor.half().contiguous() for name, tensor in low_rank_state(average.transformer).items()}, file)
