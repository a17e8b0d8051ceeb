"""What mask-guided sharing costs: plain attention, dense masked passes and the pack's engine in one run.

python3 dev.py bench attention [--device cpu] [--repeats 5] [--json FILE] [--quick]

One target segment attends to one source segment, at the head shapes of CogVideoX-2B (joint attention: text tokens
before the video's) and Wan 2.1 1.3B (video alone; its text has a cross-attention of its own). Full length and bfloat16
on CUDA; on a CPU float32 and a smaller grid, so that one plain attention takes about a second, with joint text scaled
in proportion to the video. One batch row: the maps are read from the conditional row only, so with guidance, where an
attention call has two rows, they cost half of what is shown.

Paths:
    replace   the paper's: subject queries see source text and source subject, background queries source text and source
              background, text queries all of the source. Dense: the released code's two passes over all source keys,
              each with an additive (length, length) mask, merged by the target's mask (DiTCtrl section 3.3).
    extend    every query sees its own segment, subject queries the source's subject as well. Dense: one pass over own
              and source keys with an additive (length, 2 x length) mask.
    swap      the pack's default: for subject queries the source's subject takes half of the own one's weight, and its
              keys are turned to where that is; parts of different weights are merged by their log-sum-exp. Dense: as
              for extend, with the weights in the mask and the source's subject turned too.

Columns, where p is the part of the video's tokens that is subject, in source and target alike:
    *_s                 seconds, medians over rounds in which all calls take turns. Ours counts everything from the two
                        masks to the output: token indices, the copies for the bank, gathering and scattering. Dense
                        counts the building of its masks, as the released code builds them in every call.
    bound               query-key pairs that the path must score, over those of plain attention; see `bound`.
    max_error           largest difference between ours and dense, over the largest value of dense.
    *_mib               peak of what one call allocates beyond its inputs, its output included. On a CPU these are the
                        tensors that PyTorch's operations return; what a fused kernel allocates inside, some hundred
                        KiB per thread, cannot be seen.
    *_mib_ratio         that, over the same at half the length: 2 is linear, 4 quadratic. Dense lies between, because
                        its masks, which all heads share, grow beside outputs that are linear.
    lse_over_plain      attention that also returns the log-sum-exp, which exact joint maps need, over plain.
    map_over_attention  the map of WORDS text tokens over the attention that it watches: the joint call, or the block's
                        self- and cross-attention together. WORDS is not scaled: on a CPU the share is overstated.
    map_over_cross      the same map over the cross-attention call alone; its CROSS_TEXT keys are not scaled either.
"""

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F

from kvshare_core.attention.groups import OwnTokens, sharing_groups
from kvshare_core.attention.log_sum_exp import LogSumExpAttention
from kvshare_core.attention.parts import attend_groups
from kvshare_core.attention.positions import PositionMover
from kvshare_core.attention.rope import RopeScheme, centred_offsets, embed_nd_scheme, rotate
from kvshare_core.attention.token_split import TokenSplit, split_tokens
from kvshare_core.bank.bank import BankEntry, StoredTokens
from kvshare_core.config import DITCTRL, KVShareConfig
from kvshare_core.subject.maps import text_probabilities

from .form import Row, make_result, publish, show_progress
from .meters import Call, median_seconds, peak_extra_bytes

Grid = tuple[int, int, int]

FRACTIONS = (0.1, 0.3, 0.5)
WORDS = 20
"""Real text tokens of an ordinary prompt."""
CROSS_TEXT = 512
ROPE_THETA = 10000.0
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
MIB = 1 << 20


@dataclass(frozen=True)
class Shape:
    """One model's attention: `grid` is its video in latent tokens (frames, height, width), `cpu_grid` and `quick_grid`
    stand for it where time is short; `rope_axes` channels carry positions along (frame, height, width); `text` tokens
    take part beside `grid` in joint attention."""

    name: str
    heads: int
    head_dim: int
    rope_axes: tuple[int, int, int]
    grid: Grid
    cpu_grid: Grid
    quick_grid: Grid
    text: int = 0

    def text_beside(self, grid: Grid) -> int:
        """Text tokens beside a video of `grid`, in proportion, and at least one in joint attention."""
        return max(round(self.text * volume(grid) / volume(self.grid)), min(1, self.text))


SHAPES = (
    Shape("CogVideoX-2B", 30, 64, (16, 24, 24), (13, 30, 45), (13, 18, 15), (4, 8, 10), text=226),
    Shape("Wan2.1-1.3B", 12, 128, (44, 42, 42), (21, 30, 52), (21, 12, 16), (4, 8, 12)),
)


@dataclass(frozen=True)
class SharingPath:
    """One way of sharing, as the pack's configuration says it."""

    name: str
    config: KVShareConfig

    def settings(self, text: int) -> KVShareConfig:
        """The configuration for a call with `text` joint text tokens."""
        return replace(self.config, share_text=self.config.share_text and text > 0)


PATHS = (
    SharingPath("replace", DITCTRL),
    SharingPath("extend", KVShareConfig(mode="extend", strength=1.0, position="same")),
    SharingPath("swap", KVShareConfig()),
)


@dataclass(frozen=True)
class Problem:
    """A target's and a source's attention call, tensors [1, heads, tokens, head_dim] with `text` tokens before the
    video, which has `grid`, the subject masks [video tokens] of both, on the CPU, and how keys are rotated."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    source_key: torch.Tensor
    source_value: torch.Tensor
    mask: torch.Tensor
    source_mask: torch.Tensor
    text: int
    grid: Grid
    scheme: RopeScheme

    @property
    def video(self) -> slice:
        return slice(self.text, self.query.shape[2])


def volume(grid: Grid) -> int:
    """Tokens of a grid."""
    frames, height, width = grid
    return frames * height * width


def blob_mask(grid: Grid, fraction: float, generator: torch.Generator) -> torch.Tensor:
    """Boolean mask [tokens] of a round subject with a ragged edge that crosses the clip; it has exactly the `fraction`
    of all tokens, rounded."""
    frames, height, width = grid
    start, end = torch.rand(2, 2, generator=generator)
    centres = start + (end - start) * torch.linspace(0, 1, frames)[:, None]
    rows, columns = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)
    squares = (rows - centres[:, 0, None, None]) ** 2 + (columns - centres[:, 1, None, None]) ** 2
    distance = (squares + 0.02 * torch.rand(grid, generator=generator)).flatten()
    mask = torch.zeros(volume(grid), dtype=torch.bool)
    mask[distance.argsort()[: round(fraction * volume(grid))]] = True
    return mask


def make_problem(shape: Shape, grid: Grid, fraction: float, device: torch.device, seed: int) -> Problem:
    """Random tensors in the memory layout in which models have them: tokens before heads."""
    generator = torch.Generator().manual_seed(seed)
    text = shape.text_beside(grid)
    random = torch.Generator(device).manual_seed(seed)
    query, key, value, source_key, source_value = (
        _random(text + volume(grid), shape, device, random) for _ in range(5)
    )
    mask, source_mask = (blob_mask(grid, fraction, generator) for _ in range(2))
    scheme = embed_nd_scheme(shape.rope_axes, ROPE_THETA)
    return Problem(query, key, value, source_key, source_value, mask, source_mask, text, grid, scheme)


def _random(tokens: int, shape: Shape, device: torch.device, generator: torch.Generator) -> torch.Tensor:
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    size = (1, tokens, shape.heads, shape.head_dim)
    return torch.randn(size, device=device, dtype=dtype, generator=generator).transpose(1, 2)


def plain(problem: Problem) -> torch.Tensor:
    """The target's ordinary attention."""
    return F.scaled_dot_product_attention(problem.query, problem.key, problem.value)


def ours(problem: Problem, path: SharingPath, lse_attention: LogSumExpAttention) -> torch.Tensor:
    """The target's shared attention by the pack's engine, from the masks to the output."""
    device = problem.query.device
    config = path.settings(problem.text)
    outside = torch.arange(problem.text, device=device) if problem.text else None
    own = OwnTokens(problem.key, problem.value, problem.video, outside)
    source = OwnTokens(problem.source_key, problem.source_value, problem.video, outside)
    entry = bank_entry(source, split_tokens(problem.source_mask, device), config)
    split = split_tokens(problem.mask, device)
    mover = PositionMover(config, problem.scheme)
    entry = mover.move(entry, mover.offsets(entry, own, split, problem.grid))
    groups = sharing_groups(own, split, [entry], config.rules(config.strength))
    if groups is None:
        return plain(problem)
    return attend_groups(problem.query, groups, F.scaled_dot_product_attention, lse_attention)


def bank_entry(source: OwnTokens, split: TokenSplit, config: KVShareConfig) -> BankEntry:
    """What a source leaves in the bank: copies of the tokens that the configuration shares."""
    background = source.stored(split.background) if config.share_background else None
    text = None
    outside = source.outside_part() if config.share_text else None
    if outside is not None:
        text = StoredTokens(outside.key, outside.value, torch.arange(outside.key.shape[2]))
    return BankEntry(tuple(source.stored(places) for places in split.subjects), background, text)


def dense(problem: Problem, path: SharingPath) -> torch.Tensor:
    """The same output by full attention under additive masks, one number per query and key."""
    return _two_passes(problem) if path.config.mode == "replace" else _one_wide_pass(problem, path.config)


def _two_passes(problem: Problem) -> torch.Tensor:
    """All queries over the source's subject, all over its background, and the target's mask chooses."""
    tokens, text, video = problem.query.shape[2], problem.text, problem.video
    source_mask, mask = problem.source_mask.to(problem.query.device), problem.mask.to(problem.query.device)
    outputs: list[torch.Tensor] = []
    for kept in (source_mask, ~source_mask):
        columns = problem.query.new_zeros(tokens)
        columns[video].masked_fill_(~kept, torch.finfo(columns.dtype).min)
        bias = columns.expand(tokens, tokens).clone()
        bias[:text] = 0
        outputs.append(
            F.scaled_dot_product_attention(problem.query, problem.source_key, problem.source_value, bias[None, None])
        )
    chosen = problem.query.new_ones(tokens, 1)
    chosen[video, 0] = mask.to(chosen.dtype)
    return outputs[0] * chosen + outputs[1] * (1 - chosen)


def _one_wide_pass(problem: Problem, config: KVShareConfig) -> torch.Tensor:
    """All queries over own and source keys side by side."""
    tokens, text = problem.query.shape[2], problem.text
    hidden = torch.finfo(problem.query.dtype).min
    bias = problem.query.new_full((tokens, 2 * tokens), hidden)
    bias[:, :tokens] = 0
    source_mask, mask = problem.source_mask.to(bias.device), problem.mask.to(bias.device)
    weight, source_key = config.strength, problem.source_key
    if config.mode == "swap":
        bias[text:, text:tokens].masked_fill_(mask[:, None] & mask, math.log1p(-config.strength))
        weight *= int(problem.mask.sum()) / max(1, int(problem.source_mask.sum()))
    if config.position == "centred":
        source_key = _centred(problem)
    bias[text:, tokens + text :].masked_fill_(mask[:, None] & source_mask, math.log(weight) if weight else hidden)
    key = torch.cat([problem.key, source_key], 2)
    value = torch.cat([problem.value, problem.source_value], 2)
    return F.scaled_dot_product_attention(problem.query, key, value, bias[None, None])


def _centred(problem: Problem) -> torch.Tensor:
    """The source's keys with its subject turned to where the target's is."""
    places, target = (mask.nonzero().squeeze(1) for mask in (problem.source_mask, problem.mask))
    index = (problem.text + places).to(problem.source_key.device)
    offsets = centred_offsets(places, target, problem.grid)
    turned = rotate(problem.source_key.index_select(2, index), problem.scheme, offsets)
    return problem.source_key.index_copy(2, index, turned)


def bound(problem: Problem, path: SharingPath) -> float:
    """Query-key pairs that `path` must score, over the length x length of plain attention.

    With V video and T text tokens, L = V + T, and s x S subject, b x B background pairs of target and source:

        replace            (s S + b B + T V + T L) / L^2; with masks of one fraction p this is
                           (p^2 + (1 - p)^2) (V / L)^2 + text share, the text share being (T V + T L) / L^2: video
                           queries over source text, and text queries over everything
        extend, swap       (L L + s S) / L^2, that is 1 + p^2 (V / L)^2
    """
    video, text = len(problem.mask), problem.text
    length = video + text
    subject, source_subject = int(problem.mask.sum()), int(problem.source_mask.sum())
    shared = subject * source_subject
    if path.config.mode != "replace":
        return (length * length + shared) / length**2
    background = (video - subject) * (video - source_subject)
    return (shared + background + text * video + text * length) / length**2


def map_calls(problem: Problem, shape: Shape, lse_attention: LogSumExpAttention, seed: int) -> dict[str, Call]:
    """The reading of one call's maps (`map`), the attention with log-sum-exp (`lse`), and, where text is not part of
    the sequence, the cross-attention (`cross`)."""
    device = problem.query.device
    if problem.text:
        words = torch.arange(min(WORDS, problem.text), device=device)
        total = lse_attention(problem.query, problem.key, problem.value)[1][:, :, problem.video]
        query, text_key = problem.query[:, :, problem.video], problem.key
        cross: dict[str, Call] = {}
    else:
        words, total, query = torch.arange(WORDS, device=device), None, problem.query
        generator = torch.Generator(device).manual_seed(seed)
        text_key, text_value = (_random(CROSS_TEXT, shape, device, generator) for _ in range(2))
        cross = {"cross": lambda: F.scaled_dot_product_attention(query, text_key, text_value)}
    return {
        "lse": lambda: lse_attention(problem.query, problem.key, problem.value)[0],
        "map": lambda: text_probabilities(query, text_key.index_select(2, words), None, total),
        **cross,
    }


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference over the largest expected value.

    Raises RuntimeError when that is more than rounding: times of different results are not to be compared.
    """
    error = ((found.float() - expected.float()).abs().max() / expected.float().abs().max()).item()
    if not error <= TOLERANCE[expected.dtype]:
        raise RuntimeError(f"ours and the dense passes differ by {error:.1e} of the largest value")
    return error


def measure(
    shape: Shape, grid: Grid, path: SharingPath, fraction: float, device: torch.device, repeats: int, seed: int
) -> Row:
    """One row of the benchmark: one shape of `grid` tokens, one path, one mask fraction."""
    lse_attention = LogSumExpAttention()
    problem = make_problem(shape, grid, fraction, device, seed)
    calls = sharing_calls(problem, path, lse_attention)
    error = relative_error(calls["ours"](), calls["dense"]())
    mib = {name: peak_extra_bytes(call, device) / MIB for name, call in calls.items()}
    seconds = median_seconds({**calls, **map_calls(problem, shape, lse_attention, seed)}, repeats, device)
    frames, height, width = grid
    half = sharing_calls(make_problem(shape, (frames, height // 2, width), fraction, device, seed), path, lse_attention)
    half_mib = {name: peak_extra_bytes(call, device) / MIB for name, call in half.items()}
    floor = bound(problem, path)
    return {
        "shape": shape.name,
        "path": path.name,
        "p": fraction,
        "length": problem.query.shape[2],
        "text": problem.text,
        "device": device.type,
        "dtype": str(problem.query.dtype).removeprefix("torch."),
        "plain_s": seconds["plain"],
        "dense_s": seconds["dense"],
        "ours_s": seconds["ours"],
        "ours_over_plain": seconds["ours"] / seconds["plain"],
        "bound": floor,
        "ours_over_bound": seconds["ours"] / seconds["plain"] / floor,
        "dense_over_ours": seconds["dense"] / seconds["ours"],
        "max_error": error,
        "plain_mib": mib["plain"],
        "dense_mib": mib["dense"],
        "ours_mib": mib["ours"],
        "dense_mib_ratio": mib["dense"] / half_mib["dense"],
        "ours_mib_ratio": mib["ours"] / half_mib["ours"],
        "lse_over_plain": seconds["lse"] / seconds["plain"],
        "map_over_attention": seconds["map"] / (seconds["plain"] + seconds.get("cross", 0.0)),
        "map_over_cross": seconds["map"] / seconds["cross"] if "cross" in seconds else None,
    }


def sharing_calls(problem: Problem, path: SharingPath, lse_attention: LogSumExpAttention) -> dict[str, Call]:
    """The three that are compared."""
    return {
        "plain": lambda: plain(problem),
        "dense": lambda: dense(problem, path),
        "ours": lambda: ours(problem, path, lse_attention),
    }


def measure_all(device: torch.device, repeats: int, seed: int, quick: bool = False) -> list[Row]:
    """One row for every shape, path and mask fraction."""
    cases = [(shape, path, fraction) for shape in SHAPES for path in PATHS for fraction in FRACTIONS]
    rows: list[Row] = []
    for shape, path, fraction in cases:
        grid = shape.quick_grid if quick else shape.grid if device.type == "cuda" else shape.cpu_grid
        rows.append(measure(shape, grid, path, fraction, device, repeats, seed))
        show_progress(len(rows), len(cases), "rows")
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="time and memory of shared attention")
    parser.add_argument("--device", help="cuda or cpu; default: cuda where there is one")
    parser.add_argument("--repeats", type=int, default=5, help="rounds that count (default: 5)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--quick", action="store_true", help="few tokens and one round, to see that it runs")
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error(f"--repeats is {options.repeats}; it must be at least 1")
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    rows = measure_all(device, 1 if options.quick else options.repeats, options.seed, options.quick)
    publish(make_result("attention", options.seed, rows, None), options.json)


if __name__ == "__main__":
    main()
