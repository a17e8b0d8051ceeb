"""Trains the embedded transformers, each with its word embedding, by flow matching on generated scenes.

x_sigma = sigma * noise + (1 - sigma) * latents; the model learns the velocity noise - latents, which is what ComfyUI's
Wan and HunyuanVideo models predict. CogVideoX's predict something else, but the host lets a model say how it is
sampled, so the model of that layout learns the same. Sigmas follow a shifted schedule, as the host's do.
"""

import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file

from ...prompt_words import split_words
from ..files import TEXT_ENCODER_FILE, TRANSFORMER_FILE, WEIGHTS, weight_file
from ..latents import BLOCK_SIDE, CHANNELS, NATIVE_LATENT_FRAMES, LatentBasis, fit_basis
from ..layouts import SIGMA_SHIFT as ONE_STREAM_SHIFT
from ..layouts import with_unread_inputs, without_unread_inputs
from ..scenes import (
    ATTRIBUTES,
    FRAME_SIDE,
    Scenes,
    caption,
    pair_caption,
    render,
    render_pairs,
    sample_pairs,
    sample_scenes,
)
from ..text import WordEmbedding
from ..vocabulary import CHUNK_TOKENS, PAD, PAIR_CHUNK_TOKENS, PAIR_WORDS, UNKNOWN, WORD_IDS, word_id
from .image_scenes import CONDITION_CHANNELS, condition, grey_latents, last_frame_latents, render_changing
from .joint_transformer import JointShape, JointTransformer
from .loop import Report, Schedule, TrainingRun
from .one_stream_transformer import OneStreamShape, OneStreamTransformer
from .transformer import TransformerShape, WanTransformer

SAID_PROBABILITY = {"size": 0.6, "colour": 0.6, "pattern": 0.5, "shape": 0.9, "direction": 0.85, "background": 0.85}
EMPTY_PROBABILITY = 0.1
UNKNOWN_PROBABILITY = 0.1

Shape = TransformerShape | JointShape | OneStreamShape


@dataclass(frozen=True)
class DenoiserRecipe:
    """Everything that decides the result of a training run besides the machine's rounding.

    `pair_fraction` is the share of scenes with two subjects; `text_tokens` is the length of every caption in tokens;
    `known_words` is the number of words that have a vector. A recipe that `begins_with_text_to_video` goes on
    from the weights of the cross-attention model and leaves its text encoder as it is.
    """

    seed: int = 0
    steps: int = 9_000
    batch: int = 32
    learning_rate: float = 4e-3
    warmup_steps: int = 100
    decay_fraction: float = 0.35
    sigma_shift: float = 5.0
    ema_decay: float = 0.999
    pool_scenes: int = 16_384
    first_scenes: int = 4_096
    fresh_per_step: int = 4
    pair_fraction: float = 0.0
    text_tokens: int = CHUNK_TOKENS
    known_words: int = len(PAIR_WORDS)
    shape: Shape = field(default_factory=TransformerShape)
    begins_with_text_to_video: bool = False

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.steps, self.learning_rate, self.warmup_steps, self.decay_fraction, self.ema_decay)


JOINT_RECIPE = DenoiserRecipe(
    steps=12_000,
    sigma_shift=7.0,
    pair_fraction=0.3,
    text_tokens=PAIR_CHUNK_TOKENS,
    shape=JointShape(),
)
"""What the joint-attention model is trained with, in the layout and by the schedule of HunyuanVideo."""

ONE_STREAM_RECIPE = replace(
    JOINT_RECIPE, steps=8_000, batch=16, learning_rate=3e-3, sigma_shift=ONE_STREAM_SHIFT, shape=OneStreamShape()
)
"""The same for the one-stream model, in the layout of CogVideoX: four times the tokens, so half the batch."""

IMAGE_RECIPE = DenoiserRecipe(
    steps=4_000,
    learning_rate=2e-3,
    decay_fraction=0.5,
    shape=TransformerShape(condition_channels=CONDITION_CHANNELS),
    begins_with_text_to_video=True,
)
"""What the image-to-video model is trained with: like Wan's own, it goes on from the text-to-video model."""

SubjectWords = tuple[dict[str, str], ...]
"""The six words of each subject of a scene."""


class Drawn(NamedTuple):
    """Scenes of a batch: latents [n, 16, t, h, w], what the model reads beside the noise [n, c, t, h, w], and the token
    ids [n, text_tokens] of their captions."""

    latents: torch.Tensor
    condition: torch.Tensor
    ids: torch.Tensor


class ScenePool:
    """A bounded pool of encoded scenes that is renewed a little every step, so that rendering never dominates."""

    def __init__(self, basis: LatentBasis, recipe: DenoiserRecipe, seed: int):
        self.basis = basis
        self.capacity = recipe.pool_scenes
        self.pair_fraction = recipe.pair_fraction
        self.text_tokens = recipe.text_tokens
        self.generator = torch.Generator().manual_seed(seed)
        self.wording = random.Random(seed)
        # One block for all: single tensors, freed one by one between large temporary ones, would fragment the heap.
        self.latents = torch.empty(
            self.capacity, CHANNELS, NATIVE_LATENT_FRAMES, *[FRAME_SIDE // BLOCK_SIDE] * 2, dtype=torch.float16
        )
        self.words: list[SubjectWords] = []
        self.oldest = 0
        while len(self.words) < recipe.first_scenes:
            self.add(64)

    def add(self, count: int) -> None:
        """Renders `count` fresh scenes; a full pool forgets its oldest."""
        pairs = 0
        if self.pair_fraction:
            pairs = int((torch.rand(count, generator=self.generator) < self.pair_fraction).sum())
            two = sample_pairs(pairs, self.generator, patterned=True)
            self._store_all(render_pairs(two)[0], [two.attribute_words(index) for index in range(pairs)])
        one = sample_scenes(count - pairs, self.generator, patterned=True)
        self._store_all(self.render(one), [(one.attribute_words(index),) for index in range(count - pairs)])

    def render(self, scenes: Scenes) -> torch.Tensor:
        """Video [n, frames, 3, side, side] of scenes with one subject."""
        return render(scenes)[0]

    def _store_all(self, video: torch.Tensor, words: list[SubjectWords]) -> list[int]:
        return [self._store(*scene) for scene in zip(self.basis.encode(video), words, strict=True)]

    def _store(self, latents: torch.Tensor, words: SubjectWords) -> int:
        place = len(self.words)
        if place < self.capacity:
            self.words.append(words)
        else:
            place = self.oldest
            self.words[place] = words
            self.oldest = (place + 1) % self.capacity
        self.latents[place] = latents
        return place

    def draw(self, count: int) -> Drawn:
        """`count` random scenes with fresh captions."""
        chosen = torch.randint(len(self.words), (count,), generator=self.generator).tolist()
        ids = torch.tensor([training_ids(self.words[index], self.wording, self.text_tokens) for index in chosen])
        latents = self.latents[chosen].float()
        return Drawn(latents, self.condition(latents, chosen), ids)

    def condition(self, latents: torch.Tensor, places: list[int]) -> torch.Tensor:
        """What a model that is given no image reads beside the noise: no channel, [n, 0, t, h, w]."""
        return latents[:, :0]


class ImageScenePool(ScenePool):
    """The pool of the image-to-video model, which also keeps what the last frame of every scene looks like."""

    def __init__(self, basis: LatentBasis, recipe: DenoiserRecipe, seed: int):
        self.last = torch.empty(recipe.pool_scenes, CHANNELS, *[FRAME_SIDE // BLOCK_SIDE] * 2, dtype=torch.float16)
        self.grey = grey_latents(basis)
        super().__init__(basis, recipe, seed)

    def render(self, scenes: Scenes) -> torch.Tensor:
        return render_changing(scenes, self.wording, self.generator)

    def _store_all(self, video: torch.Tensor, words: list[SubjectWords]) -> list[int]:
        places = super()._store_all(video, words)
        self.last[places] = last_frame_latents(video, self.basis).half()
        return places

    def condition(self, latents: torch.Tensor, places: list[int]) -> torch.Tensor:
        return condition(latents, self.last[places].float(), self.grey, self.wording, self.generator)


def make_pool(recipe: DenoiserRecipe, basis: LatentBasis, seed: int) -> ScenePool:
    """The pool of a model: one with given frames where the model reads a condition."""
    conditioned = isinstance(recipe.shape, TransformerShape) and recipe.shape.condition_channels > 0
    return (ImageScenePool if conditioned else ScenePool)(basis, recipe, seed)


def training_ids(words: SubjectWords, wording: random.Random, tokens: int) -> list[int]:
    """Token ids, `tokens` of them, of a random caption of a scene of one subject or two: some attributes unsaid,
    sometimes nothing said at all."""
    if wording.random() < EMPTY_PROBABILITY:
        ids = []
    else:
        said = [{name for name in ATTRIBUTES if wording.random() < SAID_PROBABILITY[name]} for _ in words]
        if len(words) == 1:
            text = caption(words[0], said[0], wording)
        else:
            text = pair_caption((words[0], words[1]), (said[0], said[1]), wording)
        ids = [word_id(word, PAIR_WORDS) for word in split_words(text)]
        if wording.random() < UNKNOWN_PROBABILITY:
            ids.insert(wording.randrange(len(ids) + 1), WORD_IDS[UNKNOWN])
    return ids + [WORD_IDS[PAD]] * (tokens - len(ids))


def make_transformer(shape: Shape) -> WanTransformer | JointTransformer | OneStreamTransformer:
    """A fresh transformer of the layout that `shape` belongs to."""
    if isinstance(shape, TransformerShape):
        return WanTransformer(shape)
    return JointTransformer(shape) if isinstance(shape, JointShape) else OneStreamTransformer(shape)


class Denoiser(torch.nn.Module):
    """A transformer with its text encoder, as one trainable module."""

    def __init__(self, shape: Shape, known_words: int):
        super().__init__()
        self.transformer = make_transformer(shape)
        self.text = WordEmbedding(known_words)

    def begin_with_text_to_video(self, weights: Path) -> None:
        """Takes the weights of the cross-attention model, reads the condition with weight zero, freezes the text."""
        state = with_unread_inputs(load_file(weight_file(weights, TRANSFORMER_FILE)))
        read = self.transformer.state_dict()["patch_embedding.weight"]
        known = state["patch_embedding.weight"]
        state["patch_embedding.weight"] = torch.cat([known, torch.zeros_like(read[:, known.shape[1] :])], dim=1)
        self.transformer.load_state_dict(state)
        self.text.load_state_dict(load_file(weight_file(weights, TEXT_ENCODER_FILE)))
        self.text.requires_grad_(False)

    def forward(self, noisy: torch.Tensor, sigma: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return self.transformer(noisy, sigma * 1000, self.text(ids))


def training_sigmas(count: int, shift: float, generator: torch.Generator) -> torch.Tensor:
    """`count` stratified noise levels in (0, 1), shifted towards noise as the host's schedule is."""
    level = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return shift * level / (1 + (shift - 1) * level)


def make_optimizers(model: Denoiser, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for everything else, modulation included."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        modulates = "mod" in name or "norm" in name
        inside = "blocks." in name and not modulates and parameter.ndim == 2
        (matrices if inside else others).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.01),
    ]


def train_denoiser(
    recipe: DenoiserRecipe, checkpoint: Path, device: torch.device, report: Report, weights: Path = WEIGHTS
) -> Denoiser:
    """Trains, or resumes from `checkpoint`, and returns the averaged weights. `weights` has those of the
    cross-attention model, for a recipe that begins with them."""
    torch.manual_seed(recipe.seed)
    model, average = (Denoiser(recipe.shape, recipe.known_words).to(device) for _ in range(2))
    if recipe.begins_with_text_to_video:
        model.begin_with_text_to_video(weights)
    optimizers = make_optimizers(model, recipe.learning_rate)
    run = TrainingRun(model, average, optimizers, recipe.schedule, checkpoint, save_every=250)
    if run.start >= recipe.steps:
        return average

    pool = make_pool(recipe, fit_basis(), recipe.seed + run.start)
    generator = torch.Generator().manual_seed(recipe.seed + run.start + 1)
    forward = torch.compile(model, dynamic=False)
    for step in range(run.start, recipe.steps):
        pool.add(recipe.fresh_per_step)
        latents, given, ids = (tensor.to(device) for tensor in pool.draw(recipe.batch))
        sigma = training_sigmas(recipe.batch, recipe.sigma_shift, generator).to(device)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        level = sigma.reshape(-1, 1, 1, 1, 1)
        with torch.autocast(device.type, torch.bfloat16):
            noisy = level * noise + (1 - level) * latents
            velocity = forward(torch.cat([noisy, given], dim=1), sigma, ids)
        run.update(step, (velocity.float() - (noise - latents)).square().mean(), report)
    return average


def save_weights(average: Denoiser, transformer_file: Path, text_file: Path | None) -> None:
    """Writes the transformer as half-precision safetensors, without the columns that only ever read zeros, and the
    text encoder unless it is another model's."""
    states = (without_unread_inputs(average.transformer.state_dict()), average.text.state_dict())
    for state, file in zip(states, (transformer_file, text_file), strict=True):
        if file:
            save_file({name: tensor.half().contiguous() for name, tensor in state.items()}, file)
