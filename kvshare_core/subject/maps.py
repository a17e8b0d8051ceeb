"""Locating the subject: attention maps from video queries to text tokens, and the masks made from them.

`text_probabilities` computes the columns of the given text tokens only, so its memory grows with video tokens x text
tokens, not with the square of the sequence. (DiTCtrl section 3.2 starts from the same maps; its min-max per frame finds
a subject in every frame, which the contrast with the other content words avoids.) Tensors of a call are [rows, heads,
tokens, head_dim].
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ..devices import chunk_length, upload
from ..prompt_words import SubjectTokens

Grid = tuple[int, int, int]

MAP_CHUNK_ELEMENTS = 1 << 22
"""Largest number of scores that `text_probabilities` holds at once, one head's at least."""


def text_probabilities(
    query: torch.Tensor,
    text_key: torch.Tensor,
    scale: float | None = None,
    log_sum_exp: torch.Tensor | None = None,
) -> torch.Tensor:
    """How much every video query attends to every given text token, mean over heads: float32 [rows, video, text].

    query: video queries; text_key: keys of the text tokens wanted. Without `log_sum_exp` the softmax runs over exactly
    these tokens: complete for cross-attention when they are all real ones, and in joint attention independent of how
    much the query attends to video. With the `log_sum_exp` [rows, heads, video] of the whole call the result is the
    exact probability in it (docs/ditctrl.md#what-is-the-same-but-cheaper).
    """
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    rows, heads, tokens, _ = query.shape
    words = text_key.shape[2]
    keys = text_key.float().repeat_interleave(heads // text_key.shape[1], dim=1) * factor
    # Words before tokens: the few words would make rows too short for fast arithmetic.
    total = torch.zeros(rows, words, tokens, device=query.device)
    # Several heads at once: on a GPU the start of a kernel costs more than one head's arithmetic.
    size = chunk_length(rows * tokens * words, MAP_CHUNK_ELEMENTS)
    for start in range(0, heads, size):
        part = slice(start, start + size)
        scores = keys[:, part] @ query[:, part].float().transpose(-1, -2)
        if log_sum_exp is None:
            probabilities = scores.softmax(dim=-2)
        else:
            probabilities = scores.sub_(log_sum_exp[:, part, None]).exp_()
        total += probabilities.sum(1)
    return (total / heads).transpose(-1, -2)


def attention_scores(
    query: torch.Tensor, key: torch.Tensor, scale: float | None = None, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Scores of a few queries before their softmax: float32 [rows, heads, queries, keys], multiplied in the precision
    of the call. mask: boolean or additive, as `mask_of_queries` gives it."""
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    keys = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1) if query.shape[1] != key.shape[1] else key
    # Keys first: they are many, and lie in memory as the product wants them.
    scores = (keys @ query.transpose(-1, -2)).transpose(-1, -2).float() * factor
    if mask is None:
        return scores
    return scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.float()


def mask_of_queries(mask: torch.Tensor | None, rows: slice, queries: slice | torch.Tensor) -> torch.Tensor | None:
    """The part of a call's own mask for some batch rows and queries, [rows or 1, heads or 1, queries or 1, keys]; never
    copied to the CPU.

    mask: of any shape that hosts broadcast to [rows, heads, queries, keys]; two dimensions mean [queries, keys], three
    [rows, queries, keys].
    """
    if mask is None:
        return None
    whole = mask[:, None] if mask.ndim == 3 else mask[(None,) * (4 - mask.ndim)]
    whole = whole if whole.shape[0] == 1 else whole[rows]
    return whole if whole.shape[2] == 1 else whole[:, :, queries]


def subject_score(probabilities: torch.Tensor, tokens: tuple[int, ...], subject: SubjectTokens) -> torch.Tensor:
    """How much more each video token attends to the subject than to the other content words, [rows, video tokens].

    probabilities: [rows, video tokens, len(tokens)], columns in the order of `tokens`. Means, not sums, so that long
    words and long prompts do not decide. Without other content words the subject's own probability is the score.
    """
    column = {token: place for place, token in enumerate(tokens)}
    score = _columns(probabilities, [column[token] for token in subject.subject]).mean(-1)
    if subject.others:
        score = score - _columns(probabilities, [column[token] for token in subject.others]).mean(-1)
    return score


def summed_probability(probabilities: torch.Tensor, tokens: tuple[int, ...], subject: SubjectTokens) -> torch.Tensor:
    """How much each video token attends to all words of the subject together, [rows, video tokens], as in DiTCtrl;
    probabilities, tokens: as for `subject_score`."""
    column = {token: place for place, token in enumerate(tokens)}
    return _columns(probabilities, [column[token] for token in subject.subject]).sum(-1)


def _columns(probabilities: torch.Tensor, columns: Sequence[int]) -> torch.Tensor:
    """Some columns of `probabilities` [..., columns]."""
    return probabilities.index_select(-1, upload(torch.tensor(columns), probabilities.device))


def standardised(score: torch.Tensor) -> torch.Tensor:
    """Scores [..., tokens] as deviations from the mean of their row in units of its spread, so that the maps of all
    blocks count alike when they are added up; a flat row becomes zero."""
    if score.numel() == 0:
        # A segment that shows no subject; torch would warn of a spread of nothing.
        return score
    spread, mean = torch.std_mean(score, dim=-1, correction=0, keepdim=True)
    return (score - mean) / spread.clamp_min_(1e-6)


def normalise_over_clip(score: torch.Tensor) -> torch.Tensor:
    """Scales every row to 0..1 between its 2 % and 98 % quantiles; a flat row becomes zero."""
    low, high = torch.quantile(score.float(), upload(torch.tensor([0.02, 0.98]), score.device), dim=-1)
    span = (high - low).clamp(min=1e-6)
    return ((score - low[..., None]) / span[..., None]).clamp(0, 1)


def normalise_over_frames(score: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Scales every latent frame of every row [rows, tokens] to 0..1 by its own minimum and maximum, as DiTCtrl does."""
    frames = score.unflatten(-1, (grid[0], -1))
    low, high = frames.amin(-1, keepdim=True), frames.amax(-1, keepdim=True)
    return ((frames - low) / (high - low + 1e-6)).flatten(-2)


def threshold_mask(
    normalised: torch.Tensor, threshold: float, before: torch.Tensor | None = None, hysteresis: float = 0.0
) -> torch.Tensor:
    """Boolean mask of the tokens whose normalised score reaches `threshold`; tokens that were in the mask `before`
    stay until they fall `hysteresis` below it."""
    mask = normalised >= threshold
    if before is not None:
        mask |= before & (normalised >= threshold - hysteresis)
    return mask


def divide_claims(masks: torch.Tensor, normalised: torch.Tensor) -> torch.Tensor:
    """Boolean masks [subjects, rows, tokens] without the tokens that another subject claims with more right: the one
    whose normalised score is higher, or that comes first."""
    if len(masks) < 2:
        return masks
    strongest = normalised.masked_fill(~masks, -1.0).argmax(0)
    return masks & torch.stack([strongest == number for number in range(len(masks))])


def drop_absent_frames(mask: torch.Tensor, score: torch.Tensor, presence: float, grid: Grid) -> torch.Tensor:
    """`mask` [rows, tokens] without the frames whose strongest score, between the clip's lowest and highest, is below
    `presence`."""
    low, high = score.amin(-1, keepdim=True), score.amax(-1, keepdim=True)
    strongest = score.unflatten(-1, (grid[0], -1)).amax(-1)
    present = (strongest - low) >= presence * (high - low)
    return (mask.unflatten(-1, (grid[0], -1)) & present[..., None]).flatten(-2)


def clean_mask(mask: torch.Tensor, grid: Grid) -> torch.Tensor:
    """`mask` [rows, tokens] without tokens that have no neighbour in it, and with tokens whose four direct neighbours
    are all in it; neighbours within a latent frame, and tokens at the border count what lies outside as not in it."""
    frames = mask.reshape(-1, 1, *grid[1:]).float()
    around = F.conv2d(frames, torch.ones(1, 1, 3, 3, device=mask.device), padding=1) - frames
    # Made where it is used: a list of numbers would be uploaded, for which the CPU waits.
    cross = torch.zeros(1, 1, 3, 3, device=mask.device)
    cross[..., 1, ::2] = cross[..., ::2, 1] = 1
    direct = F.conv2d(frames, cross, padding=1)
    cleaned = (frames > 0) & (around > 0) | (direct == 4)
    return cleaned.reshape(mask.shape)


def with_rim(masks: torch.Tensor, rim: int, grid: Grid) -> torch.Tensor:
    """Boolean masks [subjects, rows, tokens] grown by `rim` tokens to all four sides within their latent frames; what
    belongs to a subject stays its own, and what two reach goes to the first of them."""
    grown = masks
    for _ in range(rim):
        frames = grown.unflatten(-1, grid)
        wider = F.pad(frames, (1, 1, 1, 1))
        sides = wider[..., :-2, 1:-1] | wider[..., 2:, 1:-1] | wider[..., 1:-1, :-2] | wider[..., 1:-1, 2:]
        free = ~grown.any(0).unflatten(-1, grid)
        reached = (sides & free).int()
        first = reached.cumsum(0) == 1
        grown = (frames | (sides & free & first)).flatten(-3)
    return grown


def spread_over_latent_frames(tokens: torch.Tensor, length: int, patch: int) -> torch.Tensor:
    """Values of token frames [..., frames, h, w] for each of `length` latent frames [..., length, h, w]; a token frame
    stands for `patch` latent frames, the last one for those that are left."""
    return tokens.repeat_interleave(patch, dim=-3)[..., :length, :, :]


def mask_to_tokens(mask: torch.Tensor, pictures: Sequence[tuple[int, int]], grid: Grid, patch: int = 1) -> torch.Tensor:
    """A picture mask as token values of some latent frames: float [tokens] in 0..1.

    mask: [pictures, h, w] in 0..1, one picture for the whole video or one for each; pictures: first and stop of those
    of each latent frame; `patch` latent frames make one token frame. Each token gets the mean of the pictures and
    pixels it covers, latent frames weighing the same. Raises ValueError when the mask has too few pictures.
    """
    frames, height, width = grid
    shrunk = torch.nn.functional.adaptive_avg_pool2d(mask[None].float(), (height, width))[0]
    if shrunk.shape[0] == 1:
        return shrunk.expand(frames, -1, -1).reshape(-1)
    needed = max(stop for _, stop in pictures)
    if shrunk.shape[0] < needed:
        raise ValueError(f"mask: {shrunk.shape[0]} pictures, but the video has {needed} up to this segment.")
    latent = [shrunk[first:stop].mean(0) for first, stop in pictures]
    tokens = [torch.stack(latent[first : first + patch]).mean(0) for first in range(0, len(latent), patch)]
    return torch.stack(tokens).reshape(-1)
