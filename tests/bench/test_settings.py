"""Settings of sampling: their LoRAs, and films in few steps by an embedded model."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.form import ROOT
from bench.kept import Task
from bench.methods import METHODS
from bench.pipeline import load_pipeline
from bench.quality import run_task
from bench.settings import FEW_STEP_PARTS, GUIDED, SETTINGS, missing, pipeline_of, setting_of, usable
from kvshare_core.embedded.files import TRANSFORMER_FILE, WEIGHTS
from kvshare_core.embedded.model import FEW_STEPS_FILES
from kvshare_core.embedded.training.__main__ import FEW_STEPS
from kvshare_core.embedded.training.low_rank import ALPHA, DOWN, PREFIX, UP

FEW = SETTINGS["8-steps"]


def save_lora(folder: Path, size: float) -> None:
    """A LoRA of the cross-attention model's queries, named as training names them, of that size."""
    torch.manual_seed(0)
    lora: dict[str, torch.Tensor] = {}
    for name, weight in load_file(WEIGHTS / TRANSFORMER_FILE).items():
        if name.endswith("self_attn.q.weight"):
            layer = PREFIX + name.removesuffix(".weight")
            lora[f"{layer}.{DOWN}"] = torch.randn(2, weight.shape[1])
            lora[f"{layer}.{UP}"] = size * torch.randn(weight.shape[0], 2)
            lora[f"{layer}.{ALPHA}"] = torch.tensor(2.0)
    assert lora
    save_file(lora, folder / FEW_STEPS_FILES["cross-attention"])


def test_the_parts_of_training_are_those_whose_files_the_models_load() -> None:
    files = {model: FEW_STEPS[part][2] for model, part in FEW_STEP_PARTS.items()}
    assert files == {model: FEW_STEPS_FILES[model] for model in FEW_STEP_PARTS}


def test_the_names_of_settings_say_their_steps_and_only_few_steps_are_without_guidance() -> None:
    for setting in SETTINGS.values():
        assert setting.name == f"{setting.steps}-steps"
        assert setting.few_steps == (setting.cfg == 1.0) == (setting != GUIDED)


def test_missing_loras_are_named_with_the_command_that_makes_them(tmp_path: Path) -> None:
    everything = tuple(SETTINGS.values())
    assert missing(["cross-attention", "vit3d"], [GUIDED], tmp_path) is None
    told = missing(["cross-attention", "vit3d"], everything, tmp_path)
    assert told is not None
    assert "python3 dev.py train denoiser-few-steps" in told and FEW_STEPS_FILES["cross-attention"] in told
    assert "vit3d has none" in told
    (tmp_path / FEW_STEPS_FILES["cross-attention"]).touch()
    assert missing(["cross-attention"], everything, tmp_path) is None
    told = missing(["cross-attention", "joint-attention"], everything, tmp_path)
    assert told is not None and "train joint-few-steps" in told and "denoiser-few-steps" not in told


def test_settings_whose_loras_are_missing_are_left_out_and_named(tmp_path: Path) -> None:
    settings, told = usable(["cross-attention", "vit3d"], tmp_path)
    assert settings == [GUIDED] and told is not None and "train denoiser-few-steps" in told and "vit3d" not in told
    (tmp_path / FEW_STEPS_FILES["cross-attention"]).touch()
    assert usable(["cross-attention", "vit3d"], tmp_path) == ([*SETTINGS.values()], None)


def test_a_row_from_before_there_were_settings_is_guided() -> None:
    rows = json.loads((ROOT / "bench" / "results" / "quality.json").read_text(encoding="utf-8"))["rows"]
    assert {setting_of(row) for row in rows} <= set(SETTINGS)
    assert setting_of({"model": "cross-attention"}) == GUIDED.name
    assert setting_of({"setting": FEW.name}) == FEW.name


def test_a_film_in_few_steps_is_made_by_the_model_with_its_lora(tmp_path: Path) -> None:
    strong, none = tmp_path / "strong", tmp_path / "none"
    for folder, size in ((strong, 0.2), (none, 0.0)):
        folder.mkdir()
        save_lora(folder, size)

    def made(folder: Path | None) -> torch.Tensor:
        few = folder is not None
        model = pipeline_of("cross-attention", few, folder) if few else load_pipeline("cross-attention")
        return model.single_clips(["a red circle moves left on grass"], 5, 2, 1.0)

    plain = made(None)
    torch.testing.assert_close(made(none), plain)
    assert (made(strong) - plain).abs().max() > 0.02
    # The model without the LoRA is as it was.
    assert torch.equal(made(None), plain)
    with pytest.raises(FileNotFoundError, match=r"few_steps\.safetensors"):
        pipeline_of("cross-attention", True, tmp_path / "nowhere")


def test_the_task_of_a_setting_is_sampled_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bool, int, float]] = []

    class Remembers:
        def __init__(self, few_steps: bool):
            self.few_steps = few_steps

        def generate_all(self, films: object, seeds: object, *, steps: int, cfg: float, **_: object) -> list[object]:
            asked.append((self.few_steps, steps, cfg))
            return []

    def remembers(_model: str, few_steps: bool) -> Remembers:
        return Remembers(few_steps)

    monkeypatch.setattr("bench.quality.pipeline_of", remembers)
    monkeypatch.setattr("bench.quality.embedder", lambda: None)
    for setting in SETTINGS.values():
        assert run_task(Task(setting, "joint-attention", 3, "scenes", "kvshare", METHODS["kvshare"], ())) == []
    assert asked == [(setting.few_steps, setting.steps, setting.cfg) for setting in SETTINGS.values()]
