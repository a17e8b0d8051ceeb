"""The LoRAs that make the embedded models draw in few steps: as files, and how they are trained."""

from dataclasses import replace
from pathlib import Path

import comfy.sd
import pytest
import torch

from kvshare_core.embedded.model import (
    CROSS_ATTENTION,
    FEW_STEPS_FILES,
    JOINT_ATTENTION,
    ONE_STREAM_ATTENTION,
    EmbeddedKind,
    with_few_steps,
)
from kvshare_core.embedded.training import few_steps
from kvshare_core.embedded.training.denoiser import (
    JOINT_RECIPE,
    Denoiser,
    DenoiserRecipe,
    Drawn,
    Shape,
    save_weights,
)
from kvshare_core.embedded.training.few_steps import (
    PHASES,
    FewStepRecipe,
    draw_places,
    guided_way,
    load_original,
    save_few_steps,
    shifted,
    train_few_steps,
)
from kvshare_core.embedded.training.joint_transformer import JointShape
from kvshare_core.embedded.training.low_rank import add_low_rank, additions
from kvshare_core.embedded.training.one_stream_transformer import OneStreamShape
from kvshare_core.embedded.training.transformer import TransformerShape
from tests.support.latent_bases import latent_basis
from tests.support.present import known
from tests.tiny.models import lively_state_dict

RECIPE = FewStepRecipe(sampling_shift=8.0)
FEW = (1, 1, 1, 2)
"""Steps of the original, of a short run."""
SHAPES: tuple[tuple[EmbeddedKind, Shape], ...] = (
    (CROSS_ATTENTION, TransformerShape(ffn_dim=64, layers=2)),
    (JOINT_ATTENTION, JointShape(double_blocks=1, single_blocks=2)),
    (ONE_STREAM_ATTENTION, OneStreamShape(layers=2)),
)


def lively(shape: Shape) -> Denoiser:
    """A model with weights that all do something."""
    torch.manual_seed(0)
    model = Denoiser(shape, 38).requires_grad_(False)
    model.transformer.load_state_dict(lively_state_dict(model.transformer))
    return model


def gentle(shape: Shape) -> Denoiser:
    """A model that predicts something smooth, as a trained one does."""
    torch.manual_seed(0)
    model = Denoiser(shape, 38).requires_grad_(False)
    for parameter in model.transformer.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape))
    return model


@pytest.mark.parametrize(("attention", "shape"), SHAPES, ids=lambda value: value if isinstance(value, str) else "")
def test_the_hosts_lora_loader_adds_what_was_trained(attention: EmbeddedKind, shape: Shape, tmp_path: Path) -> None:
    known(attention)
    model = lively(shape)
    before = {name: tensor.clone() for name, tensor in model.transformer.state_dict().items()}
    host = comfy.sd.load_diffusion_model_state_dict(dict(before), model_options={"dtype": torch.float32})
    add_low_rank(model.transformer, rank=4)
    layers = dict(additions(model.transformer))
    for layer in layers.values():
        torch.nn.init.normal_(layer.up.weight, std=0.1)
    save_few_steps(model, tmp_path / FEW_STEPS_FILES[attention])
    patched = with_few_steps(host, attention, tmp_path)
    assert len(patched.patches) == len(layers) > 10
    patched.patch_model()
    after = patched.model.diffusion_model.state_dict()
    for name in before.keys() & after.keys():
        layer = layers.pop(name.removesuffix(".weight"), None)
        expected = before[name] if layer is None else before[name] + layer.up.weight @ layer.down.weight
        torch.testing.assert_close(after[name], expected, atol=2e-3, rtol=2e-3)
    assert not layers
    patched.unpatch_model()


@pytest.mark.parametrize(("attention", "shape"), SHAPES, ids=lambda value: value if isinstance(value, str) else "")
def test_an_addition_begins_as_none_and_is_all_that_is_trained(attention: EmbeddedKind, shape: Shape) -> None:
    model = lively(shape)
    inputs = (torch.randn(2, 16, 2, 4, 4), torch.tensor([0.3, 0.9]), torch.randint(38, (2, 16)))
    expected = model(*inputs)
    add_low_rank(model.transformer, rank=4)
    assert torch.equal(model(*inputs), expected)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained and all(name.endswith(("down.weight", "up.weight")) for name in trained)


def test_the_phases_are_passed_from_noise_to_picture() -> None:
    generator = torch.Generator().manual_seed(0)
    for phase in range(PHASES):
        place = draw_places(64, phase, generator)
        assert ((place > 1 - (phase + 1) / PHASES) & (place <= 1 - phase / PHASES)).all()
        assert ((place == 1).sum() >= 16) == (phase == 0)
    assert shifted(torch.tensor([0.0, 0.25, 1.0]), 8.0).tolist() == pytest.approx([0.0, 8 / 11, 1.0])


def scenes_of(latents: torch.Tensor) -> Drawn:
    return Drawn(latents, latents[:, :0], torch.full((len(latents), 16), 5))


def test_the_way_is_that_of_the_guided_original() -> None:
    """An original whose velocity is 1 with a caption and a quarter without: 0.25 + 4 * 0.75."""
    start = torch.randn(3, 16, 2, 4, 4)
    calls: list[torch.Tensor] = []

    def teacher(noisy: torch.Tensor, sigma: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        calls.append(sigma)
        said = (ids[:, 0] == 5).float()
        return torch.ones_like(noisy) * (0.25 + 0.75 * said).reshape(-1, 1, 1, 1, 1)

    way = guided_way(teacher, start, scenes_of(start), torch.tensor([0.5, 0.4, 0.3]), 2, RECIPE)
    torch.testing.assert_close(way, torch.full_like(way, 3.25))
    assert len(calls) == RECIPE.teacher_steps[2]
    assert torch.equal(calls[0][:3], shifted(torch.tensor([0.5, 0.4, 0.3]), 8.0))


@pytest.mark.parametrize("phase", range(PHASES))
def test_the_way_ends_where_many_small_steps_end(phase: int) -> None:
    """On a curved way, the more steps the original takes the nearer it comes to a step count without end."""

    def teacher(noisy: torch.Tensor, sigma: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return noisy * sigma.square().reshape(-1, 1, 1, 1, 1)

    start = torch.randn(2, 16, 1, 2, 2)
    place = draw_places(2, phase, torch.Generator().manual_seed(1))
    ways = [
        guided_way(teacher, start, scenes_of(start), place, phase, replace(RECIPE, teacher_steps=(steps,) * PHASES))
        for steps in (2, 8, 64)
    ]
    assert (ways[1] - ways[2]).abs().max() < 0.5 * (ways[0] - ways[2]).abs().max()


def error_of(student: Denoiser, teacher: Denoiser) -> float:
    """How far the student is from the way of the guided teacher, over all phases."""
    generator = torch.Generator().manual_seed(9)
    error = 0.0
    for phase in range(PHASES):
        start = torch.randn(4, 16, 5, 12, 12, generator=generator)
        drawn = Drawn(start, start[:, :0], torch.randint(2, 30, (4, 24), generator=generator))
        place = draw_places(4, phase, generator)
        way = guided_way(teacher, start, drawn, place, phase, replace(RECIPE, teacher_steps=FEW))
        with torch.no_grad():
            velocity = student(start, shifted(place, RECIPE.sampling_shift), drawn.ids)
        error += float((velocity - way).square().mean())
    return error


@pytest.mark.parametrize("original", [DenoiserRecipe(), JOINT_RECIPE], ids=["cross-attention", "joint-attention"])
def test_a_short_run_learns_resumes_and_leaves_the_original_alone(
    original: DenoiserRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few_steps, "fit_basis", latent_basis)
    shape = SHAPES[0][1] if original.text_tokens == 16 else SHAPES[1][1]
    original = replace(original, shape=shape, first_scenes=64, pool_scenes=64, fresh_per_step=1)
    files = (tmp_path / "transformer.safetensors", tmp_path / "text.safetensors")
    save_weights(gentle(shape), *files)
    seen: list[int] = []

    def report(step: int, steps: int, loss: float) -> None:
        seen.append(step)

    def train(steps: int) -> Denoiser:
        recipe = replace(
            RECIPE, steps=steps, batch=4, warmup_steps=1, learning_rate=1e-2, ema_decay=0.5, teacher_steps=FEW
        )
        with torch.compiler.set_stance("force_eager"):
            return train_few_steps(recipe, original, files, tmp_path / "few.pt", torch.device("cpu"), report)

    train(8)
    average = train(20)
    assert seen == list(range(1, 21))
    teacher = load_original(original, *files)
    assert error_of(average, teacher) < 0.9 * error_of(teacher, teacher)
    bases = {name: layer.base.weight for name, layer in additions(average.transformer)}
    loaded = teacher.transformer.state_dict()
    assert all(torch.equal(weight, loaded[f"{name}.weight"]) for name, weight in bases.items())
    assert all(layer.up.weight.abs().max() > 0 for _, layer in additions(average.transformer))


def test_without_the_original_the_error_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"python3 dev\.py train"):
        load_original(DenoiserRecipe(), tmp_path / "transformer.safetensors", tmp_path / "text.safetensors")
