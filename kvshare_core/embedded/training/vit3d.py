"""Trains a ViT3D with its word embedding, by flow matching on pixels: of generated scenes, or of a user's own clips.

x_sigma = sigma * noise + (1 - sigma) * video. The model predicts the clean video, whose error counts by 1 / sigma^2,
as that of the velocity would, but no more than at LEAST_SIGMA.
"""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from safetensors.torch import load_file

from ..scenes import render, sample_scenes
from ..text import TEXT_WIDTH, WordEmbedding
from ..vit3d import STEPS, BackboneShape, backbone_names
from ..vit3d_file import ViT3DFile, ViT3DShape, save_vit3d
from ..vocabulary import CHUNK_TOKENS, PAIR_WORDS, padded_length
from .clip_folder import UserClip, vocabulary_of
from .denoiser import EMPTY_PROBABILITY, training_ids, training_sigmas
from .loop import Report, Schedule, TrainingRun

LEAST_SIGMA = 0.2

SCENE_SHAPE = ViT3DShape(
    frames=8,
    height=32,
    width=32,
    text_dim=TEXT_WIDTH,
    embed_dim=128,
    num_temporal_heads=4,
    backbone=BackboneShape(image_size=32, patch_size=8, layers=6, heads=4, mlp_dim=512),
    patch_features=True,
    mixing_every=2,
)
"""The small model of the generated scenes."""


@dataclass(frozen=True)
class ViT3DRecipe:
    """Everything that decides the result of a training run besides the clips and the machine's rounding.

    `freeze_backbone` leaves the weights of the backbone as they are.
    """

    seed: int = 0
    steps: int = 8_000
    batch: int = 16
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    decay_fraction: float = 0.4
    sigma_shift: float = 3.0
    ema_decay: float = 0.998
    pool_scenes: int = 4_096
    first_scenes: int = 1_024
    fresh_per_step: int = 4
    freeze_backbone: bool = False
    shape: ViT3DShape = field(default_factory=lambda: SCENE_SHAPE)

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.steps, self.learning_rate, self.warmup_steps, self.decay_fraction, self.ema_decay)


class Batch(NamedTuple):
    """Videos [n, 3, frames, side, side] in -1..1 and the token ids [n, tokens] of their captions."""

    video: torch.Tensor
    ids: torch.Tensor


class Material(Protocol):
    """Where training videos come from."""

    @property
    def words(self) -> tuple[str, ...]:
        """The words that have a vector."""
        ...

    def draw(self, count: int) -> Batch:
        """`count` random videos with their captions."""
        ...


class SceneMaterial:
    """Generated scenes: a bounded pool, renewed a little in every draw."""

    words = PAIR_WORDS

    def __init__(self, recipe: ViT3DRecipe, seed: int):
        self.recipe = recipe
        self.generator = torch.Generator().manual_seed(seed)
        self.wording = random.Random(seed)
        shape = recipe.shape
        self.videos = torch.empty(recipe.pool_scenes, shape.frames, 3, shape.height, shape.width, dtype=torch.uint8)
        self.said: list[tuple[dict[str, str]]] = []
        self.oldest = 0
        while len(self.said) < recipe.first_scenes:
            self._add(64)

    def _add(self, count: int) -> None:
        """Renders fresh scenes; a full pool forgets its oldest."""
        scenes = sample_scenes(count, self.generator, patterned=True)
        video = render(scenes, self.recipe.shape.height, self.recipe.shape.frames)[0]
        for index in range(count):
            place = len(self.said)
            if place < len(self.videos):
                self.said.append((scenes.attribute_words(index),))
            else:
                place, self.oldest = self.oldest, (self.oldest + 1) % len(self.videos)
                self.said[place] = (scenes.attribute_words(index),)
            self.videos[place] = (video[index] * 255).round().byte()

    def draw(self, count: int) -> Batch:
        self._add(self.recipe.fresh_per_step)
        chosen = torch.randint(len(self.said), (count,), generator=self.generator).tolist()
        ids = torch.tensor([training_ids(self.said[index], self.wording, CHUNK_TOKENS) for index in chosen])
        return Batch(as_model_sees(self.videos[chosen]), ids)


class ClipMaterial:
    """A user's clips: any stretch of consecutive frames of any clip."""

    def __init__(self, clips: Sequence[UserClip], recipe: ViT3DRecipe, seed: int):
        self.clips = clips
        self.frames = recipe.shape.frames
        self.words = vocabulary_of(clips)
        self.length = padded_length(max(len(clip.words) for clip in clips), CHUNK_TOKENS)
        self.generator = torch.Generator().manual_seed(seed)
        self.choice = random.Random(seed)

    def draw(self, count: int) -> Batch:
        videos: list[torch.Tensor] = []
        ids: list[list[int]] = []
        for _ in range(count):
            clip = self.choice.choice(self.clips)
            start = self.choice.randrange(len(clip.frames) - self.frames + 1)
            videos.append(clip.frames[start : start + self.frames])
            said = () if self.choice.random() < EMPTY_PROBABILITY else clip.words
            known = [self.words.index(word) for word in said]
            ids.append(known + [0] * (self.length - len(known)))
        return Batch(as_model_sees(torch.stack(videos)), torch.tensor(ids))


def as_model_sees(videos: torch.Tensor) -> torch.Tensor:
    """uint8 [n, frames, 3, h, w] as float [n, 3, frames, h, w] in -1..1."""
    return videos.transpose(1, 2).float() / 127.5 - 1


class ViT3DTrainee(torch.nn.Module):
    """A ViT3D with its text encoder, as one trainable module."""

    def __init__(self, recipe: ViT3DRecipe, words: int):
        super().__init__()
        self.model = recipe.shape.model(freeze_backbone=recipe.freeze_backbone)
        self.model.reset_parameters()
        self.text = WordEmbedding(words)
        self.reads_text = recipe.shape.text_dim is not None

    def forward(self, noisy: torch.Tensor, sigma: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """The clean video that the model takes `noisy` for."""
        text = self.text(ids) if self.reads_text else None
        return self.model.clean(noisy, sigma * STEPS, text, {})


def recipe_for_clips(side: int, frames: int, backbone: Path | None, steps: int | None) -> ViT3DRecipe:
    """The recipe for a user's clips. With a file of torchvision's vit_b_16 the model has that backbone, else a small
    one of patches of an eighth of the side."""
    if backbone is None:
        small = BackboneShape(image_size=side, patch_size=side // 8, layers=6, heads=6, mlp_dim=768)
        sizes: dict[str, int] = {"embed_dim": 192, "num_temporal_heads": 6, "mixing_every": 2}
    else:
        small, sizes = BackboneShape(), {"mixing_every": 4}
    shape = ViT3DShape(
        frames=frames, height=side, width=side, text_dim=TEXT_WIDTH, backbone=small, patch_features=True, **sizes
    )
    recipe = ViT3DRecipe(shape=shape, batch=4, learning_rate=1e-3, sigma_shift=3.0 * side / 32)
    return replace(recipe, steps=steps or recipe.steps)


def read_backbone(file: Path) -> dict[str, torch.Tensor]:
    """The weights of torchvision's vit_b_16 in a safetensors file or in one of torch's own, as ViT3D names them.

    Raises ValueError for a file of another kind.
    """
    if file.suffix == ".safetensors":
        state = load_file(file)
    else:
        state = torch.load(file, map_location="cpu", weights_only=True)
    if "encoder.layers.encoder_layer_0.self_attention.in_proj_weight" not in state:
        raise ValueError(f"--backbone: {file} is no vision transformer of torchvision, such as vit_b_16.")
    return backbone_names(state)


def make_optimizers(model: ViT3DTrainee, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers and mixers, AdamW for everything else."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            inside = (".layers." in name or ".mixers." in name) and parameter.ndim == 2
            (matrices if inside else others).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.01),
    ]


def train_vit3d(
    recipe: ViT3DRecipe,
    material: Material,
    checkpoint: Path,
    device: torch.device,
    report: Report,
    backbone: Path | None = None,
) -> ViT3DTrainee:
    """Trains, or resumes from `checkpoint`, and returns the averaged weights. backbone: file of torchvision's weights
    to begin with."""
    torch.manual_seed(recipe.seed)
    model, average = (ViT3DTrainee(recipe, len(material.words)).to(device) for _ in range(2))
    if backbone is not None:
        model.model.load_state_dict(read_backbone(backbone), strict=False)
    run = TrainingRun(
        model, average, make_optimizers(model, recipe.learning_rate), recipe.schedule, checkpoint, save_every=100
    )
    generator = torch.Generator().manual_seed(recipe.seed + run.start + 1)
    forward = torch.compile(model, dynamic=False)
    for step in range(run.start, recipe.steps):
        video, ids = (tensor.to(device) for tensor in material.draw(recipe.batch))
        sigma = training_sigmas(recipe.batch, recipe.sigma_shift, generator).to(device)
        level = sigma.reshape(-1, 1, 1, 1, 1)
        noise = torch.randn(video.shape, generator=generator).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            clean = forward(level * noise + (1 - level) * video, sigma, ids)
        error = (clean.float() - video).square().mean(dim=(1, 2, 3, 4))
        run.update(step, (error / sigma.clamp(min=LEAST_SIGMA).square()).mean(), report)
    return average.eval()


def save_trained(average: ViT3DTrainee, recipe: ViT3DRecipe, words: tuple[str, ...], path: Path) -> None:
    """Writes the file that Load Video DiT loads."""
    content = ViT3DFile(recipe.shape, words, recipe.sigma_shift, asdict(recipe))
    save_vit3d(average.model, average.text.words, content, path)
