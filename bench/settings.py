"""How films are sampled: in 20 steps with guidance, and in few steps without, by the models' LoRAs for that.

Sampler, scheduler and the shift of each model's schedule are those of the example workflows in all of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kvshare_core.embedded.files import WEIGHTS
from kvshare_core.embedded.training.__main__ import FEW_STEPS

from .pipeline import GUIDANCE, STEPS, Model, Pipeline, load_pipeline


@dataclass(frozen=True)
class Setting:
    """One way to sample. cfg: 1 is without guidance; few_steps: by the model's LoRA for 4 to 8 steps, loaded as a LoRA
    node loads it."""

    name: str
    steps: int
    cfg: float
    few_steps: bool = False


GUIDED = Setting("20-steps", STEPS, GUIDANCE)
"""What everything was measured with before there were others: rows without a setting are of this one."""
SETTINGS: Mapping[str, Setting] = {
    setting.name: setting
    for setting in (GUIDED, Setting("8-steps", 8, 1.0, few_steps=True), Setting("4-steps", 4, 1.0, few_steps=True))
}
FEW_STEP_PARTS: Mapping[Model, str] = {
    "cross-attention": "denoiser-few-steps",
    "joint-attention": "joint-few-steps",
    "one-stream-attention": "one-stream-few-steps",
}
"""What `dev.py train` calls the LoRA of each model."""


def setting_of(row: Mapping[str, Any]) -> str:
    """The setting of a row of a results file."""
    return row.get("setting", GUIDED.name)


def missing(models: Iterable[Model], settings: Iterable[Setting], weights: Path = WEIGHTS) -> str | None:
    """Which of the models lack their LoRA for few steps in the folder `weights`, and how it is made; None where none
    does or none of the settings needs it."""
    if not any(setting.few_steps for setting in settings):
        return None
    problems: list[str] = []
    for model in dict.fromkeys(models):
        if model not in FEW_STEP_PARTS:
            problems.append(f"{model} has none")
        elif not (weights / FEW_STEPS[FEW_STEP_PARTS[model]][2]).is_file():
            part = FEW_STEP_PARTS[model]
            problems.append(f"{model} needs {FEW_STEPS[part][2]} in {weights}: python3 dev.py train {part}")
    if not problems:
        return None
    return f"LoRAs for few steps are missing ({'; '.join(problems)}). Make them, or choose {GUIDED.name}."


def usable(models: Iterable[Model], weights: Path = WEIGHTS) -> tuple[list[Setting], str | None]:
    """The settings for which no LoRA of `models` is missing, those that have none aside, and what is missing for the
    others; None where nothing is."""
    made = [model for model in models if model in FEW_STEP_PARTS]
    problem = missing(made, SETTINGS.values(), weights)
    return [setting for setting in SETTINGS.values() if not (setting.few_steps and problem)], problem


@cache
def pipeline_of(model: Model, few_steps: bool, weights: Path = WEIGHTS) -> Pipeline:
    """The model of this process, with its LoRA for few steps, from the folder `weights`, where that is wanted. Raises
    FileNotFoundError without its file."""
    if not few_steps:
        return load_pipeline(model)
    plain = pipeline_of(model, False)
    from kvshare_core.embedded.model import with_few_steps

    return plain.with_model(with_few_steps(plain.model, model, weights))
