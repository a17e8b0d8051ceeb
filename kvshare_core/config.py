"""What a user decides about sharing, as one frozen value that travels from the node to the sampling run.

Errors name the value; the node in which the user set it puts its own name in front."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, get_args

from .choices import wrong_choice

Mode = Literal["off", "replace", "extend", "swap"]
Sources = Literal["first", "previous", "first and previous"]
Order = Literal["lockstep", "sources_first", "ditctrl", "chain"]
Position = Literal["same", "gap", "matched", "frame", "centred"]
MaskKind = Literal["contrast", "threshold", "appearance"]
MaskStart = Literal["effect", "maps"]
KeepMaps = Literal["none", "words", "video", "all"]
StorePlace = Literal["auto", "device", "cpu"]
StoreDtype = Literal["model", "fp8"]
WhenOutOfMemory = Literal["stop", "save_memory"]
LayerPreset = Literal["custom", "late", "middle", "family"]
ReweightForm = Literal["normalised", "paper"]

MODES: tuple[str, ...] = get_args(Mode)
SOURCES: tuple[str, ...] = get_args(Sources)
ORDERS: tuple[str, ...] = get_args(Order)
LAYER_PRESETS: tuple[str, ...] = get_args(LayerPreset)
POSITIONS: tuple[str, ...] = get_args(Position)
MASK_KINDS: tuple[str, ...] = get_args(MaskKind)
MASK_STARTS: tuple[str, ...] = get_args(MaskStart)
KEEP_MAPS: tuple[str, ...] = get_args(KeepMaps)
STORE_PLACES: tuple[str, ...] = get_args(StorePlace)
STORE_DTYPES: tuple[str, ...] = get_args(StoreDtype)
WHEN_OUT_OF_MEMORY: tuple[str, ...] = get_args(WhenOutOfMemory)
REWEIGHT_FORMS: tuple[str, ...] = get_args(ReweightForm)
MAX_STRENGTH = 10.0
MAX_CONTRAST = 2.0
"""Highest contrast of source keys."""
MAX_INDEX = 10_000
"""Largest step or block that can be named."""
_LONGEST_INDEX = 1000
"""Digits of a number in a list, of which most may be zeros."""
MAX_RIM = 16
"""Widest rim of a subject in tokens."""


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(wrong_choice(name, value, choices))


def _check_range(name: str, value: float, highest: float) -> None:
    if not 0.0 <= value <= highest:
        raise ValueError(f"{name} is {value}; it must be between 0 and {highest:g}.")


def _check_indices(name: str, indices: tuple[int, ...]) -> None:
    if any(index < 0 for index in indices):
        raise ValueError(f"{name} has a negative number; counts start at 0.")


@dataclass(frozen=True)
class MemorySettings:
    """Where and how the keys and values of source segments are kept.

    place: `device` keeps them where the model computes, `cpu` in the computer's own memory, fetched while the block
        before computes; `auto` keeps them on the device up to `budget_mib` and the rest on the CPU.
    budget_mib: MiB for `auto`; 0 lets the host layer choose by the size of the device's memory.
    dtype: `model` keeps them as the model produced them, `fp8` as e4m3 with one scale per head.
    out_of_memory: `stop` ends a run whose sharing finds no memory; `save_memory` lets it go on with less: keys and
        values off the device, then in fp8, then attention in smaller pieces.

    Raises ValueError on values outside these.
    """

    place: StorePlace = "auto"
    budget_mib: int = 0
    dtype: StoreDtype = "model"
    out_of_memory: WhenOutOfMemory = "stop"

    def __post_init__(self) -> None:
        _check_choice("place", self.place, STORE_PLACES)
        _check_choice("dtype", self.dtype, STORE_DTYPES)
        _check_choice("out_of_memory", self.out_of_memory, WHEN_OUT_OF_MEMORY)
        if self.budget_mib < 0:
            raise ValueError(f"budget_mib is {self.budget_mib}; it cannot be negative.")


@dataclass(frozen=True)
class MaskSettings:
    """How the subject is found.

    kind: `appearance` begins with `start` and then follows what the subject's tokens look like (appearance.py);
        `contrast` compares the subject's words with the other content words over the clip; both are found in one model
        call and used from the next on; `threshold` is DiTCtrl's: per-frame minimum to maximum of the attention to the
        subject's words, averaged over the blocks so far of the same forward.
    start: what `appearance` begins with: `effect` is where the prediction changes when the subject's words are hidden,
        for which the first segment that shows a subject is evaluated once more, once in a run (hidden_words.py), and by
        what it looks like there it is found in the other segments (first_look.py); where a run holds frames, and with
        `maps`, it is `contrast`.
    thres: threshold on the normalised map, 0 to 1.
    presence: a frame whose strongest response is less than this part of the clip's has no subject; 0 does not ask.
    rim: tokens around the subject that are shared with it; the mask that is recorded has none.
    clean: takes in holes of one token and drops single tokens.
    hysteresis: a token that was subject stays so until its map falls this far below `thres` (not with `threshold`).
    freeze_after: part of the steps after which masks no longer change, 0 to 1 (not with `threshold`); 1 never freezes.
    attn_map_step_idx, attn_map_layer_idx: steps and blocks whose maps of words are read. Empty means all steps, and the
        blocks that are known to be good for it (presets.for_model), all where nothing is known. The start
        `effect` reads maps only of segments with frames that a run holds. With `threshold`, steps
        without maps have no mask and share nothing, and empty means all blocks.
    ref_token_idx, cur_token_idx: places of the subject among the text tokens of source and target segments, instead of
        words; both or neither.

    Raises ValueError on values outside these ranges.
    """

    kind: MaskKind = "appearance"
    thres: float = 0.8
    presence: float = 0.0
    clean: bool = False
    hysteresis: float = 0.0
    freeze_after: float = 1.0
    attn_map_step_idx: tuple[int, ...] = ()
    attn_map_layer_idx: tuple[int, ...] = ()
    ref_token_idx: tuple[int, ...] = ()
    cur_token_idx: tuple[int, ...] = ()
    rim: int = 1
    start: MaskStart = "effect"

    def __post_init__(self) -> None:
        _check_choice("mask_kind", self.kind, MASK_KINDS)
        _check_choice("mask_start", self.start, MASK_STARTS)
        for name in ("thres", "presence", "hysteresis", "freeze_after"):
            _check_range(name, getattr(self, name), 1.0)
        for name in ("attn_map_step_idx", "attn_map_layer_idx", "ref_token_idx", "cur_token_idx"):
            _check_indices(name, getattr(self, name))
        if not 0 <= self.rim <= MAX_RIM:
            raise ValueError(f"rim is {self.rim}; it must be between 0 and {MAX_RIM}.")
        if bool(self.ref_token_idx) != bool(self.cur_token_idx):
            raise ValueError("give both ref_token_idx and cur_token_idx, or neither.")

    @property
    def by_effect(self) -> bool:
        """Whether subjects are first looked for by what hiding their words changes."""
        return self.kind == "appearance" and self.start == "effect"


@dataclass(frozen=True)
class MapSettings:
    """Which attention maps of a run are kept as numbers, for files.

    keep: `words` what the video and the words attend to of the words; `video` what frames and places attend to of each
        other; `all` both.
    step_idx, layer_idx: steps and blocks whose maps are kept. Empty means every fifth, and the last.

    Raises ValueError on values outside these.
    """

    keep: KeepMaps = "none"
    step_idx: tuple[int, ...] = ()
    layer_idx: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_choice("keep_maps", self.keep, KEEP_MAPS)
        _check_indices("map_step_idx", self.step_idx)
        _check_indices("map_layer_idx", self.layer_idx)

    @property
    def of_words(self) -> bool:
        """Whether maps of words are kept."""
        return self.keep in ("words", "all")

    @property
    def over_video(self) -> bool:
        """Whether maps over frames and places are kept."""
        return self.keep in ("video", "all")


@dataclass(frozen=True)
class MeasuredModel:
    """The kind of model that a choice of blocks was measured on: its family and number of blocks."""

    family: str
    blocks: int

    def __str__(self) -> str:
        return f"{self.family} with {self.blocks} blocks"


@dataclass(frozen=True)
class SharingRules:
    """How one segment attends to its sources in one sampler step: the part of a configuration that attention needs,
    with the strength that holds there."""

    mode: Mode
    strength: float
    """Weight of the source keys besides own keys of weight 1, more than 0."""
    share_background: bool = False
    share_text: bool = False
    frame_locked: bool = False
    """Whether every latent frame attends only to the source's same frame."""

    @property
    def own_weight(self) -> float:
        """Weight of the own keys that source keys stand in for."""
        return 1.0 if self.mode == "extend" else max(0.0, 1.0 - self.strength)


@dataclass(frozen=True)
class KVShareConfig:
    """How, how strongly, when and where keys and values of earlier segments are shared.

    mode: `extend` lets subject tokens attend to the source's subject beside everything of their own; `replace` hides
        their own video tokens from them (MasaCtrl, DiTCtrl); `swap` lets the source's subject stand in for a part of
        their own subject, token for token, so that subject and background keep their balance; `off` evaluates the
        segments without sharing.
    strength, end_strength: weight of the source keys beside own keys of weight 1, 0 to MAX_STRENGTH, in the first and
        the last shared step, linear in between; None as end keeps it. In `replace` and `swap`, the own keys that they
        stand in for keep the weight 1 - strength, nothing from 1 on.
    sources: which earlier segments are attended to.
    order: `lockstep` evaluates every segment once, each reading what earlier ones wrote in the same model call;
        `sources_first` finishes segments that others look at before those begin, so that they see it as it ends
        up; `chain` finishes one segment after the other, each going on from the last frames of the one before;
        `ditctrl` is the paper's: neighbours in pairs, sources unshared, inner segments counted twice.
    start_step, end_step: sampler steps [start, end), counted in each sampler; -1 as end means the last step.
    start_percent, end_percent: part of the noise schedule that shares, as ComfyUI counts it: 0 is pure noise.
    start_layer, end_layer: transformer blocks [start, end); -1 as end means the last block.
    step_idx, layer_idx: explicit steps or blocks; when given they replace the ranges (names of the paper's code).
    layer_preset: a named choice of blocks that replaces start_layer, end_layer and layer_idx: presets.GENERAL has
        those for every model, `family` is what is known of the model at hand (presets.for_model).
    share_background: background tokens also attend to the source's background.
    share_subject: subject tokens attend to the source's subject; without it everything but the subject is shared.
    share_uncond: the unconditional rows share among themselves too.
    share_text: in `replace`, the source's keys outside the video stand in for the segment's own as its video does, and
        queries outside the video see the source too (joint attention only); the paper does so, and it costs adherence
        to the prompt.
    position: where source keys seem to stand: `same` keeps their place, `gap` moves them position_gap latent frames
        earlier, `matched` puts each where the most similar subject token of the target is, `frame` keeps their place
        and lets every latent frame see the source's same frame only, `centred` carries each frame's source subject to
        where the target's subject is in that frame, or keeps its place in models whose keys carry no positions.
    token_dropout: part of the source's subject tokens that is left out, another choice in every step, 0 to below 1.
    drift_control: how far the colours of later segments are moved to the first segment's, 0 to 1, in any mode; see
        drift.match_to_anchor.
    carry_image: in image-to-video models, a segment whose beginning has no image of its own is given the frames that
        it shares with the segments before it, as far as they are known: finished in `chain`, estimated elsewhere.
    is_edit: whether later beats are edits of the first (name of the paper's code): they begin with its noise, each of
        their segments attends to the first beat's at the same time, in place of `sources`, and the first beat's to
        none.
    reweight_form: what a weight of words does: `normalised` counts them so often among all that is attended to, `paper`
        multiplies their probabilities and leaves the sum as it comes out (weighed_words.py).
    reweight_token_idx, reweight_scale: text tokens by their places, and the weight that they have in all prompts but
        the first, or in the only one (names of the paper's code); the script's own weights are words.
    key_contrast: how far a source subject's keys are moved from their mean, as a factor, 0 to MAX_CONTRAST; 1 leaves
        them, more lets queries tell the source's parts apart more sharply (contrast.py).
    measured_on: what layer_idx and attn_map_layer_idx were measured on, None where they were not; other models refuse
        them.
    maps: which attention maps are kept for files.

    Raises ValueError on values outside these ranges.
    """

    mode: Mode = "swap"
    strength: float = 0.5
    end_strength: float | None = None
    sources: Sources = "first"
    order: Order = "lockstep"
    start_step: int = 0
    end_step: int = -1
    start_percent: float = 0.0
    end_percent: float = 1.0
    start_layer: int = 0
    end_layer: int = -1
    step_idx: tuple[int, ...] = ()
    layer_idx: tuple[int, ...] = ()
    layer_preset: LayerPreset = "custom"
    share_background: bool = False
    share_uncond: bool = True
    share_text: bool = False
    position: Position = "centred"
    position_gap: int = 0
    token_dropout: float = 0.0
    drift_control: float = 0.0
    masks: MaskSettings = MaskSettings()
    memory: MemorySettings = MemorySettings()
    measured_on: MeasuredModel | None = None
    carry_image: bool = True
    maps: MapSettings = MapSettings()
    share_subject: bool = True
    is_edit: bool = False
    reweight_form: ReweightForm = "normalised"
    reweight_token_idx: tuple[int, ...] = ()
    reweight_scale: float = 1.0
    key_contrast: float = 1.0

    def __post_init__(self) -> None:
        _check_choice("mode", self.mode, MODES)
        _check_choice("sources", self.sources, SOURCES)
        _check_choice("order", self.order, ORDERS)
        _check_choice("layer_preset", self.layer_preset, LAYER_PRESETS)
        _check_choice("position", self.position, POSITIONS)
        _check_range("strength", self.strength, MAX_STRENGTH)
        if self.end_strength is not None:
            _check_range("end_strength", self.end_strength, MAX_STRENGTH)
        for name in ("start_percent", "end_percent"):
            _check_range(name, getattr(self, name), 1.0)
        if self.start_percent >= self.end_percent:
            raise ValueError(
                f"end_percent ({self.end_percent:g}) must be larger than start_percent ({self.start_percent:g})."
            )
        _check_range("drift_control", self.drift_control, 1.0)
        _check_choice("reweight_form", self.reweight_form, REWEIGHT_FORMS)
        _check_range("reweight_scale", self.reweight_scale, MAX_STRENGTH)
        _check_range("key_contrast", self.key_contrast, MAX_CONTRAST)
        _check_indices("reweight_token_idx", self.reweight_token_idx)
        if self.drift_control > 0 and self.order == "chain":
            raise ValueError(
                "drift_control compares segments that are denoised together, but in order 'chain' one is finished "
                "after the other. Set drift_control to 0, or choose another order."
            )
        if not 0.0 <= self.token_dropout < 1.0:
            raise ValueError(f"token_dropout is {self.token_dropout}; it must be at least 0 and below 1.")
        for what in ("step", "layer"):
            start, end = getattr(self, f"start_{what}"), getattr(self, f"end_{what}")
            if start < 0 or end < -1:
                raise ValueError(f"start_{what} is {start} and end_{what} is {end}; counts start at 0.")
            if end != -1 and end <= start:
                raise ValueError(
                    f"end_{what} ({end}) must be larger than start_{what} ({start}); use -1 for the last {what}."
                )
            _check_indices(f"{what}_idx", getattr(self, f"{what}_idx"))
        if self.mode != "off" and not (self.share_subject or self.share_background):
            raise ValueError(
                "share_subject and share_background are both off, so nothing would be shared. Turn one on, or set mode "
                "to off."
            )
        if self.is_edit and self.order == "ditctrl":
            raise ValueError("is_edit pairs each later prompt with the first; choose order 'lockstep'.")
        if self.share_text and self.mode not in ("off", "replace"):
            raise ValueError("share_text works in mode 'replace' only; own and foreign text would mix.")

    def rules(self, strength: float) -> SharingRules:
        """How segments attend to their sources where the strength of the source keys is `strength`."""
        return SharingRules(self.mode, strength, self.share_background, self.share_text, self.position == "frame")


DITCTRL = KVShareConfig(
    mode="replace",
    strength=1.0,
    sources="previous",
    order="ditctrl",
    start_step=2,
    end_step=25,
    start_layer=25,
    end_layer=30,
    share_background=True,
    share_text=True,
    position="same",
    masks=MaskSettings(kind="threshold", thres=0.3, rim=0),
    reweight_form="paper",
)
"""The paper's method with the values of its released code (configs/inference.yaml)."""


def parse_indices(text: str, name: str) -> tuple[int, ...]:
    """Numbers and ranges such as "2, 5, 25-29" (both ends included), sorted; an empty text gives ().

    Raises ValueError naming `name` and the part that is neither, or a number beyond MAX_INDEX.
    """
    ranges: set[tuple[int, int]] = set()
    for part in (piece.strip() for piece in text.split(",")):
        if not part:
            continue
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        quoted = f"'{part[:60]}{'...' if len(part) > 60 else ''}'"
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"{name}: {quoted} is neither a number nor a range; write for example 2, 5, 25-29.")
        if max(len(first), len(last)) > _LONGEST_INDEX or int(last or first) > MAX_INDEX:
            raise ValueError(f"{name}: {quoted} goes beyond {MAX_INDEX}.")
        lower, upper = int(first), int(last or first)
        if upper < lower:
            raise ValueError(f"{name}: the range {quoted} runs backwards.")
        ranges.add((lower, upper))
    indices: list[int] = []
    for lower, upper in sorted(ranges):
        indices += range(max(lower, indices[-1] + 1 if indices else 0), upper + 1)
    return tuple(indices)


def format_indices(indices: Sequence[int]) -> str:
    """Rising numbers as `parse_indices` reads them, such as "2, 5, 25-29"."""
    parts: list[str] = []
    for _, run in groupby(enumerate(indices), lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in run]
        parts.append(str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}")
    return ", ".join(parts)
