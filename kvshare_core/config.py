"""What a user decides about sharing, as one frozen value that travels from the node to the sampling run."""

from dataclasses import dataclass
from typing import Literal, get_args

Mode = Literal["off", "replace", "extend"]
Sources = Literal["first", "previous", "first and previous"]
Order = Literal["lockstep", "ditctrl"]
Position = Literal["same", "gap", "matched", "frame"]
MaskKind = Literal["contrast", "threshold"]
Place = Literal["auto", "device", "cpu"]
StoreDtype = Literal["model", "fp8"]

MODES: tuple[str, ...] = get_args(Mode)
SOURCES: tuple[str, ...] = get_args(Sources)
POSITIONS: tuple[str, ...] = get_args(Position)
MASK_KINDS: tuple[str, ...] = get_args(MaskKind)
PLACES: tuple[str, ...] = get_args(Place)
STORE_DTYPES: tuple[str, ...] = get_args(StoreDtype)
MAX_STRENGTH = 10.0
MAX_INDEX = 10_000
"""Largest step or block that can be named."""


@dataclass(frozen=True)
class MemorySettings:
    """Where and how the keys and values of source segments are kept.

    place: `device` keeps them where the model computes, `cpu` in the computer's own memory, fetched while the block
        before computes; `auto` keeps them on the device up to `budget_mib` and the rest on the CPU.
    budget_mib: MiB for `auto`; 0 lets the host layer choose from what is free.
    dtype: `model` keeps them as the model produced them, `fp8` as e4m3 with one scale per head.

    Raises ValueError on values outside these.
    """

    place: Place = "auto"
    budget_mib: int = 0
    dtype: StoreDtype = "model"

    def __post_init__(self) -> None:
        _check_choice("place", self.place, PLACES)
        _check_choice("dtype", self.dtype, STORE_DTYPES)
        if self.budget_mib < 0:
            raise ValueError(f"KVShareConfig: budget_mib is {self.budget_mib}; it cannot be negative.")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"KVShareConfig: {name} is '{value}'; choose one of {', '.join(choices)}.")


@dataclass(frozen=True)
class KVShareConfig:
    """How, how strongly, when and where keys and values of earlier segments are shared.

    mode: `extend` lets subject tokens attend to the source's subject beside everything of their own; `replace` hides
        their own video tokens from them (MasaCtrl, DiTCtrl); `off` evaluates the segments without sharing.
    strength: weight of the source keys beside own keys of weight 1, 0 to MAX_STRENGTH. In `replace`, own keys keep the
        weight 1 - strength, nothing from 1 on.
    sources: which earlier segments are attended to.
    start_step, end_step: sampler steps [start, end); -1 as end means the last step.
    start_layer, end_layer: transformer blocks [start, end); -1 as end means the last block.
    step_idx, layer_idx: explicit steps or blocks; when given they replace the ranges (names of the paper's code).
    share_background: background tokens also attend to the source's background.
    share_uncond: the unconditional rows share among themselves too.
    thres: threshold on the normalised subject map, 0 to 1.

    Raises ValueError on values outside these ranges.
    """

    mode: Mode = "extend"
    strength: float = 1.0
    sources: Sources = "first"
    start_step: int = 0
    end_step: int = -1
    start_layer: int = 0
    end_layer: int = -1
    step_idx: tuple[int, ...] = ()
    layer_idx: tuple[int, ...] = ()
    share_background: bool = False
    share_uncond: bool = True
    thres: float = 0.5

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"KVShareConfig: mode is '{self.mode}'; choose one of {', '.join(MODES)}.")
        if self.sources not in SOURCES:
            raise ValueError(f"KVShareConfig: sources is '{self.sources}'; choose one of {', '.join(SOURCES)}.")
        for name, highest in (("strength", MAX_STRENGTH), ("thres", 1.0)):
            value = getattr(self, name)
            if not 0.0 <= value <= highest:
                raise ValueError(f"KVShareConfig: {name} is {value}; it must lie between 0 and {highest:g}.")
        for what in ("step", "layer"):
            start, end = getattr(self, f"start_{what}"), getattr(self, f"end_{what}")
            if start < 0 or end < -1:
                raise ValueError(f"KVShareConfig: start_{what} is {start} and end_{what} is {end}; counts start at 0.")
            if end != -1 and end <= start:
                raise ValueError(
                    f"KVShareConfig: end_{what} ({end}) must be larger than start_{what} ({start}); "
                    f"use -1 for the last {what}."
                )
            if any(index < 0 for index in getattr(self, f"{what}_idx")):
                raise ValueError(f"KVShareConfig: {what}_idx has a negative number; counts start at 0.")

    @property
    def shares(self) -> bool:
        """Whether this configuration changes anything compared with plain windows."""
        return self.mode != "off" and self.strength > 0.0


def parse_indices(text: str, name: str) -> tuple[int, ...]:
    """Numbers and ranges such as "2, 5, 25-29" (both ends included), sorted; an empty text gives ().

    Raises ValueError naming `name` and the part that is neither.
    """
    indices: set[int] = set()
    for part in (piece.strip() for piece in text.split(",")):
        if not part:
            continue
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"{name}: '{part}' is neither a number nor a range; write for example 2, 5, 25-29.")
        upper = int(last) if dash else int(first)
        if upper < int(first):
            raise ValueError(f"{name}: the range '{part}' runs backwards.")
        indices.update(range(int(first), upper + 1))
    return tuple(sorted(indices))
