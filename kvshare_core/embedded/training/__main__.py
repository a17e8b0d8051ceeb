"""Trains the embedded models and writes their weights and what was measured:
`python -m kvshare_core.embedded.training [all|PART]`, where PART is denoiser, image, joint, one-stream, vae, vit3d, or
one of the first four with -few-steps. The denoiser is the cross-attention model, image the image-to-video one that
begins with its weights, joint the joint-attention one, one-stream the one whose text and video share all weights; they
share the VAE. With -few-steps it is the LoRA that makes a finished model draw in 4 to 8 steps. vit3d, which `all`
leaves out, is a model of pixels: of the same scenes, or with --clips FOLDER of your own clips. An interrupted run goes
on where it stopped.
"""

import argparse
import json
import platform
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from ..files import (
    FEW_STEPS_FILE,
    IMAGE_FEW_STEPS_FILE,
    IMAGE_TRANSFORMER_FILE,
    JOINT_FEW_STEPS_FILE,
    JOINT_TEXT_ENCODER_FILE,
    JOINT_TRANSFORMER_FILE,
    ONE_STREAM_FEW_STEPS_FILE,
    ONE_STREAM_TEXT_ENCODER_FILE,
    ONE_STREAM_TRANSFORMER_FILE,
    RESULTS_FILE,
    TEXT_ENCODER_FILE,
    TRANSFORMER_FILE,
    VAE_FILE,
    VIT3D_FILE,
    WEIGHTS,
    weight_file,
)
from ..latents import LatentBasis, fit_basis
from . import denoiser, few_steps, vae, vit3d
from .clip_folder import read_clips
from .evaluation import evaluate
from .loop import checkpoint_loss
from .progress import Progress
from .transformer import parameter_count

DENOISERS = {
    "denoiser": (denoiser.DenoiserRecipe(), TRANSFORMER_FILE, TEXT_ENCODER_FILE),
    "image": (denoiser.IMAGE_RECIPE, IMAGE_TRANSFORMER_FILE, None),
    "joint": (denoiser.JOINT_RECIPE, JOINT_TRANSFORMER_FILE, JOINT_TEXT_ENCODER_FILE),
    "one-stream": (denoiser.ONE_STREAM_RECIPE, ONE_STREAM_TRANSFORMER_FILE, ONE_STREAM_TEXT_ENCODER_FILE),
}
"""Recipe and weight files of each transformer, by its part's name; one without a text encoder shares the first's."""
FEW_STEPS = {
    "denoiser-few-steps": ("denoiser", few_steps.FewStepRecipe(sampling_shift=8.0), FEW_STEPS_FILE),
    "image-few-steps": ("image", few_steps.FewStepRecipe(sampling_shift=8.0), IMAGE_FEW_STEPS_FILE),
    "joint-few-steps": ("joint", few_steps.FewStepRecipe(sampling_shift=7.0), JOINT_FEW_STEPS_FILE),
    "one-stream-few-steps": (
        "one-stream",
        few_steps.FewStepRecipe(sampling_shift=7.0, steps=1_200, batch=8),
        ONE_STREAM_FEW_STEPS_FILE,
    ),
}
"""The part of DENOISERS that each is made from, with the shift that the host samples it with, its recipe and file."""
VIT3D = "vit3d"
WORK = Path(__file__).resolve().parents[3] / ".dev" / "training"


def main(arguments: list[str]) -> None:
    """Runs the command line."""
    options = parse(arguments)
    try:
        train(options)
    except ValueError as error:
        sys.exit(str(error))


def train(options: argparse.Namespace) -> None:
    """Trains what the command line names. Raises ValueError, naming the option, for clips that cannot be used."""
    name = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    device = torch.device(name)
    if options.part == VIT3D:
        train_vit3d(options, device)
        return
    options.output.mkdir(parents=True, exist_ok=True)
    results = options.output / RESULTS_FILE
    for part in DENOISERS:
        if options.part in ("all", part) and not options.evaluate_only:
            record(results, part, train_denoiser(part, options.steps, options.work, options.output, device))
    for part in FEW_STEPS:
        if options.part in ("all", part) and not options.evaluate_only:
            record(results, part, train_few_steps(part, options.steps, options.work, options.output, device))
    if options.part in ("all", "vae"):
        basis = fit_basis()
        if not options.evaluate_only:
            record(results, "vae", train_vae(options.steps, basis, options.work, options.output, device))
        record(results, "vae", evaluate_vae(basis, options.output))


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line; a wrong one ends the program with a message."""
    parser = argparse.ArgumentParser(prog="python -m kvshare_core.embedded.training", description=__doc__)
    parser.add_argument(
        "part", nargs="?", choices=("all", *DENOISERS, *FEW_STEPS, "vae", VIT3D), default="all", help="what to train"
    )
    parser.add_argument("--steps", type=int, help="training steps of each part, instead of the recipe's")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: CUDA when there is one"
    )
    parser.add_argument("--work", type=Path, default=WORK, metavar="DIR", help="checkpoints (%(default)s)")
    parser.add_argument("--output", type=Path, default=WEIGHTS, metavar="DIR", help="weights (%(default)s)")
    parser.add_argument("--evaluate-only", action="store_true", help="only measure the VAE weights")
    own = parser.add_argument_group("vit3d, one's own model of pixels")
    own.add_argument("--clips", type=Path, metavar="FOLDER", help="videos, animations or folders of pictures")
    own.add_argument("--frames", type=int, default=28, help="of a training clip (%(default)s)")
    own.add_argument("--side", type=int, default=128, help="of its frames in pixels (%(default)s)")
    own.add_argument("--backbone", type=Path, metavar="FILE", help="torchvision's vit_b_16 to begin with")
    options = parser.parse_args(arguments)
    if options.evaluate_only and options.part not in ("all", "vae"):
        parser.error("--evaluate-only measures the VAE; generated videos are measured by the bench, not here")
    if options.clips is not None and options.part != VIT3D:
        parser.error("--clips is for vit3d")
    if options.frames < 1 or options.side < 8 or options.side % 8:
        parser.error("--frames must be at least 1 and --side a multiple of 8")
    return options


def train_vit3d(options: argparse.Namespace, device: torch.device) -> None:
    """Trains a ViT3D of the scenes, or of the user's clips, and writes the one file that Load Video DiT loads. Raises
    ValueError, naming the option, for clips or a backbone that cannot be used."""
    steps: int | None = options.steps
    if options.clips is None:
        recipe = vit3d.ViT3DRecipe()
        recipe = replace(recipe, steps=steps or recipe.steps)
        material: vit3d.Material = vit3d.SceneMaterial(recipe, recipe.seed)
        checkpoint = options.work / f"{VIT3D}.pt"
    else:
        recipe = vit3d.recipe_for_clips(options.side, options.frames, options.backbone, steps)
        clips = read_clips(options.clips, options.side, options.frames)
        material = vit3d.ClipMaterial(clips, recipe, recipe.seed)
        checkpoint = options.work / f"{VIT3D}_{options.clips.resolve().name}.pt"
    model = vit3d.train_vit3d(recipe, material, checkpoint, device, Progress(VIT3D), options.backbone)
    if options.clips is None:
        file, results = options.output / VIT3D_FILE, options.output / RESULTS_FILE
    else:
        file = options.work / f"{checkpoint.stem}.safetensors"
        results = file.with_suffix(".json")
    vit3d.save_trained(model, recipe, material.words, file)
    entry = {"recipe": asdict(recipe), "parameters": parameter_count(model), "loss": checkpoint_loss(checkpoint)}
    record(results, VIT3D, {**entry, **versions(device)})
    sys.stdout.write(f"{file}: put it into ComfyUI's models/checkpoints\n")


def train_denoiser(part: str, steps: int | None, work: Path, output: Path, device: torch.device) -> dict[str, Any]:
    """Trains one of DENOISERS with its text encoder, writes both and returns their entry in the results."""
    recipe, transformer_file, text_file = DENOISERS[part]
    recipe = replace(recipe, steps=steps or recipe.steps)
    checkpoint = work / f"{part}.pt"
    model = denoiser.train_denoiser(recipe, checkpoint, device, Progress(part), output)
    denoiser.save_weights(model.cpu(), output / transformer_file, output / text_file if text_file else None)
    loss = checkpoint_loss(checkpoint)
    return {"recipe": asdict(recipe), "parameters": parameter_count(model), "loss": loss, **versions(device)}


def train_few_steps(part: str, steps: int | None, work: Path, output: Path, device: torch.device) -> dict[str, Any]:
    """Distils one of FEW_STEPS from the model in `output`, writes its LoRA and returns its entry in the results."""
    name, recipe, file = FEW_STEPS[part]
    original, transformer_file, text_file = DENOISERS[name]
    recipe = replace(recipe, steps=steps or recipe.steps)
    files = (output / transformer_file, output / (text_file or TEXT_ENCODER_FILE))
    checkpoint = work / f"{part}.pt"
    model = few_steps.train_few_steps(recipe, original, files, checkpoint, device, Progress(part))
    few_steps.save_few_steps(model.cpu(), output / file)
    return {"recipe": asdict(recipe), "loss": checkpoint_loss(checkpoint), **versions(device)}


def train_vae(steps: int | None, basis: LatentBasis, work: Path, output: Path, device: torch.device) -> dict[str, Any]:
    """Trains both halves of the VAE, writes it and returns its entry in the results."""
    recipe = vae.AutoencoderRecipe()
    if steps:
        recipe = replace(recipe, decoder_steps=steps, encoder_steps=steps)
    halves = {
        half: vae.train_half(half, recipe, basis, work / f"{half}.pt", device, Progress(half)).cpu()
        for half in vae.HALVES
    }
    autoencoder = vae.assemble(recipe, halves)
    vae.save_weights(autoencoder, output / VAE_FILE)
    loss = {half: checkpoint_loss(work / f"{half}.pt") for half in vae.HALVES}
    return {"recipe": asdict(recipe), "parameters": parameter_count(autoencoder), "loss": loss, **versions(device)}


def evaluate_vae(basis: LatentBasis, output: Path) -> dict[str, Any]:
    """Measures the VAE file in `output` and returns the figures for the results."""
    quality = asdict(evaluate(vae.load_weights(weight_file(output, VAE_FILE)), basis))
    figures = {name: round(value, 4) for name, value in quality.items()}
    sys.stdout.write("".join(f"vae {name}: {value}\n" for name, value in figures.items()))
    return {"quality": figures}


def versions(device: torch.device) -> dict[str, str]:
    """What the figures of a run depend on besides its recipe."""
    return {"device": device.type, "torch": torch.__version__, "python": platform.python_version()}


def record(file: Path, part: str, entry: dict[str, Any]) -> None:
    """Updates one part's entry in the results file and leaves everything else in it as it is."""
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    results[part] = {**results.get(part, {}), **entry}
    file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
