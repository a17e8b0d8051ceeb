"""Scenes with one word changed, and what an edit of a video shows beside the video itself."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from kvshare_core.embedded.detector import Detection, core_colours, detect
from kvshare_core.embedded.scenes import COLOUR_VALUES, Scenes, caption, render, sample_scenes
from kvshare_core.embedded.vocabulary import COLOURS, SHAPES

SAID = ("size", "colour", "shape", "direction", "background")
SWAPPED = ("colour", "shape")
"""What is changed, in turns from scene to scene."""
RIM = 4
"""Pixels around a subject that count neither as subject nor as background."""
FIRST_SEED = 5000


@dataclass(frozen=True)
class Edit:
    """A scene and the word that is changed. words: of the scene; swapped: the attribute, to be `wanted`; seed: of the
    noise; place: of the scene among those that are rendered together."""

    words: dict[str, str]
    swapped: str
    wanted: str
    seed: int
    place: int

    @property
    def prompts(self) -> tuple[str, str]:
        """What describes the scene, and its edit."""
        return caption(self.words, set(SAID)), caption({**self.words, self.swapped: self.wanted}, set(SAID))

    def script(self, guided: bool, weight: float = 1.0) -> str:
        """A film of both; guided: whether it names the subject in each; weight: what the changed word counts for."""
        shapes = self.words["shape"], self.wanted if self.swapped == "shape" else self.words["shape"]
        named = [f" | subject: it = {shape}" if guided else "" for shape in shapes]
        weighed = f" | weight: {self.wanted} {weight:g}" if weight != 1 else ""
        return "\n[cut]\n".join(prompt + subject for prompt, subject in zip(self.prompts, named, strict=True)) + weighed


def make_edits(count: int) -> tuple[list[Edit], Scenes]:
    """That many edits, and their scenes."""
    scenes = sample_scenes(count, torch.Generator().manual_seed(FIRST_SEED))
    edits: list[Edit] = []
    for place in range(count):
        words, swapped = scenes.attribute_words(place), SWAPPED[place % len(SWAPPED)]
        choices = COLOURS if swapped == "colour" else SHAPES
        others = [word for word in choices if word != words[swapped]]
        edits.append(Edit(words, swapped, others[place // len(SWAPPED) % len(others)], FIRST_SEED + place, place))
    return edits, scenes


def originals(scenes: Scenes) -> tuple[torch.Tensor, torch.Tensor]:
    """The scenes as videos [n, f, 3, h, w] and where their subjects and the rim around them are [n, f, h, w], both in
    0..1."""
    videos, masks = render(scenes)
    return videos, grown(masks > 0.5).float()


def grown(masks: torch.Tensor) -> torch.Tensor:
    """Boolean masks [..., f, h, w] with a rim."""
    flat = masks.float().reshape(-1, 1, *masks.shape[-2:])
    return F.max_pool2d(flat, 2 * RIM + 1, 1, RIM).reshape(masks.shape) > 0


@dataclass(frozen=True)
class Seen:
    """What one edit gives to each figure: a number, or none where one of the videos shows no subject. done: whether it
    shows the word; kept: the share of the other words that are as in the original; moved: mean distance of the subject
    from the original's, in frame sides; background: mean difference beside both subjects, in 0..1."""

    done: list[float]
    kept: list[float]
    moved: list[float]
    background: list[float]


def look_at(edit: Edit, original: torch.Tensor, edited: torch.Tensor) -> Seen:
    """Compares two videos [f, 3, h, w]."""
    before, after = detect(original), detect(edited)
    others = [name for name in SAID if name != edit.swapped]
    kept = sum(getattr(after, name) == getattr(before, name) for name in others) / len(others)
    done = float(getattr(after, edit.swapped) == edit.wanted)
    return Seen([done], [kept], distance(before, after), background(original, edited, before, after))


def distance(before: Detection, after: Detection) -> list[float]:
    """Mean distance of the subject's centres over the frames in which both show one; nothing where none does."""
    away = (after.centres - before.centres).norm(dim=1)
    away = away[away.isfinite()]
    return [float(away.mean())] if len(away) else []


def background(original: torch.Tensor, edited: torch.Tensor, before: Detection, after: Detection) -> list[float]:
    """Mean difference of the pixels that are beside both subjects; nothing where there are none."""
    beside = ~grown((before.masks > 0.5) | (after.masks > 0.5))
    difference = (edited - original).abs().mean(1)
    return [float(difference[beside].mean())] if bool(beside.any()) else []


def weighed_prompt(edit: Edit, attribute: str, weight: float) -> str:
    """A scene's prompt with its colour or size weighed. The pattern is left open, and where the colour is weighed the
    size too."""
    said = {name for name in SAID if name != "size" or attribute == "size"}
    return f"{caption(edit.words, said)} | weight: {edit.words[attribute]} {weight:g}"


def look_at_weighed(video: torch.Tensor, attribute: str, word: str) -> dict[str, list[float]]:
    """Of a video [f, 3, h, w] whether its subject shows the word, how far it is from that colour in RGB, and for a size
    the side of a square as large, in frame sides; nothing without a subject."""
    seen = detect(video)
    found: dict[str, list[float]] = {"done": [float(getattr(seen, attribute) == word)], "far": [], "side": []}
    if not seen.found:
        return found
    masks = seen.masks > 0.5
    shown = masks.flatten(1).any(1)
    if attribute == "size":
        return {**found, "side": [float(masks[shown].float().mean((1, 2)).sqrt().mean())]}
    mean = core_colours(video[shown], masks[shown]).mean(0)
    return {**found, "far": [float((mean - COLOUR_VALUES[COLOURS.index(word)]).norm())]}
