"""What a probe of a model found, as a file keeps it: the blocks chosen, every figure, and what it was measured with."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .. import VERSION
from ..config import KVShareConfig, MeasuredModel, format_indices
from ..families.block_presets import BlockPreset, best_preset, for_model
from ..plain_values import from_document, parse_json, to_document
from .figures import BlockFigures, ProbeSettings, blocks_for_masks, blocks_for_sharing

CONTENT = "kvshare_preset"
"""The only key of a file's JSON."""

FORMAT = 1
"""The number of the format of what lies under it; see plain_values on when it rises."""

COLUMNS = ("agreement", "contrast", "alone", "moved", "within", "beside", "pull")
"""The figures of a table, as BlockFigures names them."""


@dataclass(frozen=True)
class MeasuredPreset:
    """Blocks of one model, chosen by a probe.

    model_class: the host's class of it; version: of the pack; prompt, subject, settings: what it was measured with.
    """

    model: MeasuredModel
    model_class: str
    version: str
    prompt: str
    subject: str
    settings: ProbeSettings
    figures: tuple[BlockFigures, ...]
    presets: tuple[BlockPreset, ...]

    def put_on(self, config: KVShareConfig) -> KVShareConfig:
        """`config` with the blocks of this preset in place of its own. Blocks for masks that it names stay, and so do
        those of `threshold` masks, as with the layer preset `family`."""
        chosen = for_model(replace(config, layer_preset="family"), self.presets)
        return replace(chosen, measured_on=self.model)

    def blocks(self, purpose: str) -> tuple[int, ...]:
        """The blocks chosen for `share` or `masks`."""
        return next(preset.blocks for preset in self.presets if preset.purpose == purpose)

    def to_json(self) -> str:
        """As `read_preset` takes it."""
        return json.dumps({CONTENT: to_document(self, {}, FORMAT)}, indent=1)

    def table(self) -> str:
        """What was chosen, and a line of figures for each block."""
        chosen = {purpose: set(self.blocks(purpose)) for purpose in ("masks", "share")}
        rows: list[tuple[str, ...]] = [("block", *COLUMNS, "masks", "share")]
        for found in self.figures:
            marks = ("x" if found.block in chosen[purpose] else "" for purpose in ("masks", "share"))
            rows.append((str(found.block), *(_written(getattr(found, name)) for name in COLUMNS), *marks))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        told = [f"{purpose}: blocks {format_indices(sorted(blocks))}" for purpose, blocks in chosen.items()]
        return "\n".join([f"{self.model_class}, {self.model}", *told, *lines])


def preset_of(
    model: MeasuredModel,
    model_class: str,
    prompt: str,
    subject: str,
    settings: ProbeSettings,
    figures: Sequence[BlockFigures],
) -> MeasuredPreset:
    """The choice that the figures of all blocks suggest."""
    source = f"KV Sharing Probe with '{subject}' in '{prompt}', seed {settings.seed}"
    maps = blocks_for_masks([sum(found.agreement) / len(found.agreement) for found in figures])
    shared = blocks_for_sharing([found.pull for found in figures])
    presets = (
        BlockPreset("share", shared, "measured", source),
        BlockPreset("masks", maps, "measured", source),
    )
    return MeasuredPreset(model, model_class, VERSION, prompt, subject, settings, tuple(figures), presets)


def read_preset(text: str) -> MeasuredPreset:
    """The preset that `to_json` wrote. Raises NewerFormatError for one that a newer version of the pack wrote,
    ValueError for any other text and for blocks that its model lacks."""
    try:
        preset = from_document(MeasuredPreset, parse_json(text)[CONTENT], {}, FORMAT)
    except (KeyError, TypeError) as error:
        raise ValueError(f"it does not hold a preset: {error}") from error
    for purpose in ("share", "masks"):
        chosen = best_preset(preset.presets, purpose)
        if chosen is None or not chosen.blocks or not set(chosen.blocks) <= set(range(preset.model.blocks)):
            raise ValueError(f"it has no blocks of {preset.model} for {purpose}")
    return preset


def _written(value: float | tuple[float, ...] | None) -> str:
    if value is None:
        return "-"
    values = value if isinstance(value, tuple) else (value,)
    return " ".join(f"{number:.3f}" for number in values)
