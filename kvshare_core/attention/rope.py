"""Re-positioning of cached keys: rotary position embeddings turned further, and where the tokens should stand.

Cached keys are already rotated at the positions of their own segment, in which frames count from 0. Rotations compose,
so turning such a key by the angles of (new position - old position) gives the key that the model would have computed at
the new position, exact up to rounding (docs/architecture.md#positions-of-shared-keys). Of the position modes, "same"
and "frame" rotate nothing, "gap" moves all keys alike, "centred" uses `centred_offsets`, and "matched" uses
`match_tokens` and `matched_offsets`.

Keys have the layout [rows, heads, tokens, head_dim]. Places and offsets are (frame, height, width) in token steps. Most
models count positions in token steps too; what others make of them is in their scheme, and `position_offsets` turns the
one into the other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F

from ..devices import chunk_length, upload
from .log_sum_exp import working_dtype

FLOAT64_DEVICES = ("cpu", "cuda", "meta")
"""Device types on which float64 is always there; elsewhere angles are computed on the CPU, as the host does."""


@dataclass(frozen=True)
class RopeScheme:
    """How a model rotates its keys.

    frequencies: for each of the axes (frame, height, width) the angular frequency of each of its channel pairs, in
        radians per position; the axes' pairs follow one another in channel order.
    layout: pairs are the channels (2i, 2i + 1) for `interleaved`, (i, i + rotated channels / 2) for `halves`.
    frame_spans: positions from each token frame to the next one; they repeat.
    picture_side: positions along the side of a square picture, where they are spread evenly over the picture's area
        whatever its size; None where each token step in height and width is one position.
    """

    frequencies: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]
    layout: Literal["interleaved", "halves"]
    frame_spans: tuple[float, ...] = (1.0,)
    picture_side: float | None = None

    @cached_property
    def pairs(self) -> int:
        """Channel pairs that rotate; the first 2 * pairs channels of a head."""
        return sum(len(axis) for axis in self.frequencies)

    @property
    def counts_tokens(self) -> bool:
        """Whether a position is a token step on every axis."""
        return self.frame_spans == (1.0,) and self.picture_side is None


def embed_nd_scheme(
    axes_dim: Sequence[int], theta: float, scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> RopeScheme:
    """The scheme of the host's `EmbedND`, which Wan and HunyuanVideo use.

    axes_dim: channels of the axes (frame, height, width), even numbers. theta: the embedder's base; pair i of an axis
    with n channels turns by theta ** (-2i / n) per position. scale: positions per token step, where the model spreads
    its positions (Wan under the host's `rope_options`). Raises ValueError on other axes or a base that is not positive.
    """
    if len(axes_dim) != 3 or any(dim < 0 or dim % 2 for dim in axes_dim):
        raise ValueError(f"RoPE: axes_dim is {list(axes_dim)}; it must be three even numbers (frame, height, width).")
    if theta <= 0:
        raise ValueError(f"RoPE: theta is {theta}; it must be positive.")
    frame, height, width = (
        tuple(factor * theta ** (-channel / dim) for channel in range(0, dim, 2))
        for dim, factor in zip(axes_dim, scale, strict=True)
    )
    return RopeScheme((frame, height, width), "interleaved")


@dataclass(frozen=True)
class Rotation:
    """A rotation that many keys have in common: cosine and sine of the angle of every channel pair, [tokens, pairs], on
    the keys' device and in the precision of the products."""

    cosine: torch.Tensor
    sine: torch.Tensor


def rotation_of(key: torch.Tensor, scheme: RopeScheme, offset: torch.Tensor) -> Rotation:
    """How `rotate` turns keys like `key` by `offset`; arguments and errors as there."""
    if key.ndim != 4:
        raise ValueError(f"RoPE: key has shape {tuple(key.shape)}; it must be [rows, heads, tokens, head_dim].")
    tokens, head_dim = key.shape[2:]
    if 2 * scheme.pairs > head_dim:
        raise ValueError(
            f"RoPE: the scheme rotates {2 * scheme.pairs} channels, but the keys have head_dim {head_dim}."
        )
    if offset.shape not in ((3,), (tokens, 3)):
        raise ValueError(f"RoPE: offset has shape {tuple(offset.shape)}; it must be [3] or [{tokens}, 3].")
    angles, working = _angles(scheme, offset), working_dtype(key)
    return Rotation(
        *(upload(table.to(working), key.device).expand(tokens, scheme.pairs) for table in (angles.cos(), angles.sin()))
    )


def rotate(key: torch.Tensor, scheme: RopeScheme, offset: torch.Tensor) -> torch.Tensor:
    """The keys as they would be had their tokens stood `offset` further; a new tensor in the dtype of `key`.

    key: [rows, heads, tokens, head_dim], already rotated at its own position. offset: [3] for all tokens or
    [tokens, 3], positions along (frame, height, width), whole or not; 0 leaves a key as it is. Angles are float64 as
    in the host, products float32 or better. Channels beyond the rotated ones stay. Raises ValueError when the shapes do
    not fit each other or the scheme is wider than head_dim.
    """
    return apply_rotation(key, scheme, rotation_of(key, scheme, offset))


def apply_rotation(key: torch.Tensor, scheme: RopeScheme, rotation: Rotation) -> torch.Tensor:
    """The same by a rotation that `rotation_of` gives for keys of that many tokens, device and dtype."""
    rows, heads, tokens, head_dim = key.shape
    cosine, sine, working = rotation.cosine, rotation.sine, working_dtype(key)
    rotated = 2 * scheme.pairs
    firsts, seconds = _channel_pairs(scheme)
    result = torch.empty_like(key)
    if rotated < head_dim:
        result[..., rotated:] = key[..., rotated:]
    chunk = chunk_length(rows * heads * rotated)
    for start in range(0, tokens, chunk):
        here = slice(start, start + chunk)
        first, second = key[:, :, here, firsts].to(working), key[:, :, here, seconds].to(working)
        along, across = cosine[here], sine[here]
        result[:, :, here, firsts] = (first * along).addcmul_(second, across, value=-1)
        result[:, :, here, seconds] = (first * across).addcmul_(second, along)
    return result


def _angles(scheme: RopeScheme, offset: torch.Tensor) -> torch.Tensor:
    """Radians that each pair turns by, float64 [tokens or 1, pairs]."""
    device = offset.device if offset.device.type in FLOAT64_DEVICES else torch.device("cpu")
    steps = offset.to(device, torch.float64).reshape(-1, 3)
    return torch.cat(
        [
            steps[:, axis, None] * upload(torch.tensor(frequencies, dtype=torch.float64), device)
            for axis, frequencies in enumerate(scheme.frequencies)
        ],
        dim=-1,
    )


def _channel_pairs(scheme: RopeScheme) -> tuple[slice, slice]:
    """The first and the second channels of all pairs."""
    pairs = scheme.pairs
    if scheme.layout == "interleaved":
        return slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    return slice(0, pairs), slice(pairs, 2 * pairs)


def position_offsets(
    scheme: RopeScheme, offset: torch.Tensor, tokens: torch.Tensor, grid: tuple[int, int, int]
) -> torch.Tensor:
    """`offset` in the positions of `scheme`; itself where these are token steps, else float64 [tokens, 3].

    offset: token steps along (frame, height, width), [3] for all tokens or [tokens, 3]; tokens: flat places [tokens] in
    a token grid (frames, height, width). Between two frames positions rise evenly, and frames before the first are
    spaced as those of a whole number of repetitions later.
    """
    if scheme.counts_tokens:
        return offset
    device = offset.device if offset.device.type in FLOAT64_DEVICES else torch.device("cpu")
    steps = offset.to(device, torch.float64).expand(len(tokens), 3)
    frames = upload(grid_positions(tokens, grid)[:, 0].double(), device)
    side = scheme.picture_side
    along = 1.0 if side is None else side / math.sqrt(grid[1] * grid[2])
    there, here = (_frame_positions(scheme, places) for places in (frames + steps[:, 0], frames))
    return torch.cat([(there - here)[:, None], steps[:, 1:] * along], dim=1)


def _frame_positions(scheme: RopeScheme, frames: torch.Tensor) -> torch.Tensor:
    """Positions of token frames, whole or between two, counted from frame 0; float64 [tokens]."""
    spans = upload(torch.tensor(scheme.frame_spans, dtype=torch.float64), frames.device)
    before = spans.cumsum(0) - spans
    whole = frames.floor().long()
    place = whole % len(spans)
    rounds = (whole - place).double() / len(spans)
    return rounds * spans.sum() + before[place] + (frames - whole) * spans[place]


def grid_positions(tokens: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
    """Positions (frame, height, width), int64 [tokens, 3], of flat places in a token grid (frames, height, width).

    Places are not checked: that would make the CPU wait for the GPU.
    """
    _, height, width = grid
    places = tokens.long()
    return torch.stack([places // (height * width), places // width % height, places % width], dim=-1)


def match_tokens(
    source: torch.Tensor, target: torch.Tensor, threshold: float, places: torch.Tensor | None = None
) -> torch.Tensor:
    """For every source token the place of its most similar target token, int64 [source tokens]; -1 below `threshold`.

    source, target: features [heads, tokens, width of a head], such as value vectors, or [tokens, width]; similarity is
    the cosine over all heads, -1 to 1, in float32 or better (CharaConsist and BachVid match this way and keep what is
    above 0.5). places: indices of the target tokens that are looked through, on the device, None for all; the result
    counts in them. Both sides are taken in chunks, so neither all similarities nor copies of all features are ever
    held, and the CPU never waits for the GPU. Raises ValueError when the shapes do not fit.
    """
    one, other = ((features if features.ndim == 3 else features[None]) for features in (source, target))
    if source.ndim not in (2, 3) or source.ndim != target.ndim or one[:, 0:0].shape != other[:, 0:0].shape:
        raise ValueError(
            f"RoPE: features have shapes {tuple(source.shape)} and {tuple(target.shape)}; both must be [tokens, width] "
            "or [heads, tokens, width], with the same width and as many heads."
        )
    count = one.shape[1]
    best = torch.full((count,), -math.inf, dtype=working_dtype(source), device=source.device)
    found = torch.full((count,), -1, dtype=torch.int64, device=source.device)
    chunk = math.isqrt(chunk_length(4))
    for start in range(0, count, chunk):
        here = slice(start, start + chunk)
        seekers = _directions(one[:, here])
        for first in range(0, other.shape[1] if places is None else len(places), chunk):
            there = slice(first, first + chunk)
            candidates = _directions(other[:, there] if places is None else other.index_select(1, places[there]))
            similarity, place = (seekers @ candidates.T).max(dim=-1)
            better = similarity > best[here]
            best[here] = torch.where(better, similarity, best[here])
            found[here] = torch.where(better, place + first, found[here])
    return torch.where(best >= threshold, found, -1)


def _directions(features: torch.Tensor) -> torch.Tensor:
    """Features [heads, tokens, width of a head] as vectors [tokens, width] of length 1."""
    return F.normalize(features.transpose(0, 1).flatten(1).to(working_dtype(features)), dim=-1)


def matched_offsets(
    source_tokens: torch.Tensor, target_tokens: torch.Tensor, matches: torch.Tensor, grid: tuple[int, int, int]
) -> torch.Tensor:
    """Offsets, int64 [source tokens, 3], that put every source token where its match stands; 0 without a match.

    source_tokens, target_tokens: flat places [tokens] in grids of the same height and width. matches: for every source
    token an index into `target_tokens`, or a negative number, as `match_tokens` gives. Raises ValueError when there is
    not one match for each source token.
    """
    if source_tokens.ndim != 1 or matches.shape != source_tokens.shape:
        raise ValueError(
            f"RoPE: matches have shape {tuple(matches.shape)} for source tokens of shape "
            f"{tuple(source_tokens.shape)}; there must be one for each."
        )
    here = grid_positions(source_tokens, grid)
    if target_tokens.shape[0] == 0:
        return torch.zeros_like(here)
    there = grid_positions(target_tokens.index_select(0, matches.clamp(min=0)), grid)
    return torch.where(matches[:, None] >= 0, there - here, 0)


def centred_offsets(
    source_tokens: torch.Tensor, target_tokens: torch.Tensor, grid: tuple[int, int, int]
) -> torch.Tensor:
    """Offsets, float64 [source tokens, 3], that carry the source tokens of a frame together, so that their centre comes
    to stand where the target's centre is in that frame. They keep their frame and their places among each other.

    source_tokens, target_tokens: ascending flat places [tokens] in grids of the same height and width, on the CPU. In a
    frame without target tokens they go the way between the centres of all frames; without any target token they stay.
    """
    here, there = grid_positions(source_tokens, grid), grid_positions(target_tokens, grid)
    if len(here) == 0 or len(there) == 0:
        return torch.zeros(here.shape, dtype=torch.float64, device=here.device)
    frames = 1 + int(torch.maximum(here[-1, 0], there[-1, 0]))
    (source, _), (target, present) = _centres(here, frames), _centres(there, frames)
    whole = there[:, 1:].double().mean(0) - here[:, 1:].double().mean(0)
    return F.pad(torch.where(present[:, None], target - source, whole)[here[:, 0]], (1, 0))


def _centres(positions: torch.Tensor, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (height, width) of the positions of each frame, float64 [frames, 2], and which frames have any."""
    counts = torch.bincount(positions[:, 0], minlength=frames)
    sums = torch.zeros(frames, 2, dtype=torch.float64, device=positions.device)
    sums.index_add_(0, positions[:, 0], positions[:, 1:].double())
    return sums / counts.clamp(min=1)[:, None], counts > 0
