"""Which transformer blocks are good for what, how surely, and who says so."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..config import KVShareConfig, format_indices

Purpose = Literal["share", "masks", "matches", "prompts"]
Confidence = Literal["published", "inferred", "measured"]

PURPOSES: dict[Purpose, str] = {
    "share": "layer_preset family",
    "masks": "blocks for masks",
    "matches": "blocks whose tokens match",
    "prompts": "blocks that follow the prompt",
}
"""What a purpose is called where presets are listed."""


@dataclass(frozen=True)
class BlockPreset:
    """Blocks of one model that are good for one purpose.

    purpose: `share`: their keys and values carry the subject; `masks`: their maps show where it is; `matches`: tokens
        of the same thing are most alike there; `prompts`: there the text decides what happens.
    blocks: their numbers from 0, rising. percent: the part of the noise schedule it holds for, as start_percent and
        end_percent count it.
    confidence: `published`: the source uses them for this purpose in this very model; `inferred`: the source found
        something near to it, or in another model; `measured`: measured with this pack.
    source: where that is written, in one line.
    """

    purpose: Purpose
    blocks: tuple[int, ...]
    confidence: Confidence
    source: str
    percent: tuple[float, float] = (0.0, 1.0)

    def __str__(self) -> str:
        window = "" if self.percent == (0.0, 1.0) else f", from {self.percent[0]:.0%} to {self.percent[1]:.0%}"
        return f"{format_indices(self.blocks)}{window} ({self.confidence}: {self.source})"


@dataclass(frozen=True)
class DepthPreset:
    """A choice of blocks for a model of any depth: from and to which part of it, and every how manieth block."""

    start: float
    stop: float
    every: int
    source: str

    def of(self, blocks: int) -> BlockPreset:
        """The choice for a model of that many blocks; at least one."""
        chosen = range(min(round(self.start * blocks), blocks - 1), max(1, round(self.stop * blocks)), self.every)
        return BlockPreset("share", tuple(chosen), "inferred", self.source)


GENERAL = {
    "late": DepthPreset(25 / 30, 1.0, 1, "the last sixth, which DiTCtrl shares in CogVideoX-2B"),
    "middle": DepthPreset(0.35, 0.75, 2, "where identity and correspondence were found in several models"),
}
"""The choices of layer_preset that fit every model."""

FALLBACK = "middle"
"""What `family` means for a model of which nothing is known."""


def best_preset(presets: Sequence[BlockPreset], purpose: Purpose) -> BlockPreset | None:
    """The first of the presets for a purpose; families list the best first."""
    return next((preset for preset in presets if preset.purpose == purpose), None)


def for_model(config: KVShareConfig, presets: Sequence[BlockPreset]) -> KVShareConfig:
    """`config` with the layer preset `family` replaced by what is known of the model, or by FALLBACK.

    Blocks for masks are those that are known to be good for them, unless the configuration names some; `threshold`
    masks add up the blocks before the one that shares, so they keep theirs.
    """
    shared, maps = best_preset(presets, "share"), best_preset(presets, "masks")
    if maps is not None and config.masks.kind != "threshold" and not config.masks.attn_map_layer_idx:
        config = replace(config, masks=replace(config.masks, attn_map_layer_idx=maps.blocks))
    if config.layer_preset != "family":
        return config
    if shared is None:
        return replace(config, layer_preset=FALLBACK)
    return replace(config, layer_preset="custom", layer_idx=shared.blocks)


def preset_lines(presets: Sequence[BlockPreset], blocks: int) -> dict[str, str]:
    """What to tell of the presets of a model of that many blocks, by name."""
    lines: dict[str, str] = {}
    if best_preset(presets, "share") is None:
        lines[PURPOSES["share"]] = f"as {FALLBACK}; no source names blocks of this model to share"
    lines |= {PURPOSES[preset.purpose]: str(preset) for preset in presets}
    return lines | {f"layer_preset {name}": str(preset.of(blocks)) for name, preset in GENERAL.items()}
