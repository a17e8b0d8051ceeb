"""Where the subject is: maps from video queries to text tokens, and masks made of them.

Only the columns of real text tokens are ever computed: memory is video tokens x text tokens. (DiTCtrl section 3.2 uses
the same cue; the contrast with the other content words replaces its per-frame min-max, which sees a subject in every
frame.)
"""

import torch

from .attention import split_heads
from .words import SubjectTokens


def text_probabilities(
    query: torch.Tensor, key: torch.Tensor, tokens: tuple[int, ...], heads: int, token_dim: int
) -> torch.Tensor:
    """Mean over heads of the softmax over the text tokens `tokens`: float32 [rows, video tokens, len(tokens)].

    query: video queries; key: text keys, both as the cross-attention received them.
    """
    index = torch.tensor(tokens, device=key.device)
    selected = split_heads(key.index_select(token_dim, index), heads, token_dim).float()
    queries = split_heads(query, heads, token_dim)
    total: torch.Tensor | None = None
    for head in range(heads):
        scores = queries[:, head].float() @ selected[:, head].transpose(-1, -2) * queries.shape[-1] ** -0.5
        probabilities = scores.softmax(dim=-1)
        total = probabilities if total is None else total.add_(probabilities)
    assert total is not None
    return total / heads


def subject_score(probabilities: torch.Tensor, tokens: tuple[int, ...], subject: SubjectTokens) -> torch.Tensor:
    """How much more each video token looks at the subject than at the other content words, [rows, video tokens].

    probabilities: [rows, video tokens, len(tokens)], columns in the order of `tokens`. Means, not sums, so that long
    words and long prompts do not decide. Without other content words the subject's own probability is the score.
    """
    column = {token: place for place, token in enumerate(tokens)}
    score = probabilities[..., [column[token] for token in subject.subject]].mean(-1)
    if subject.others:
        score = score - probabilities[..., [column[token] for token in subject.others]].mean(-1)
    return score


def normalise_over_clip(score: torch.Tensor) -> torch.Tensor:
    """Scales every row to 0..1 between its 2 % and 98 % quantiles; a flat row becomes zero."""
    low, high = torch.quantile(score.float(), torch.tensor([0.02, 0.98], device=score.device), dim=-1)
    span = (high - low).clamp(min=1e-6)
    return ((score - low[..., None]) / span[..., None]).clamp(0, 1)


def threshold_mask(normalised: torch.Tensor, threshold: float) -> torch.Tensor:
    """Boolean mask of the tokens whose normalised score reaches `threshold`."""
    return normalised >= threshold


def mask_to_tokens(mask: torch.Tensor, start: int, stop: int, grid: tuple[int, int, int], scale: int) -> torch.Tensor:
    """A picture mask as token values of latent frames [start, stop): float [tokens] in 0..1.

    mask: [pictures, h, w] in 0..1, one picture for the whole video or one for each; `scale` pictures make one latent
    frame after the first. Each token gets the mean of the pictures and pixels it covers. Raises ValueError when the
    mask has too few pictures.
    """
    frames, height, width = grid
    shrunk = torch.nn.functional.adaptive_avg_pool2d(mask[None].float(), (height, width))[0]
    if shrunk.shape[0] == 1:
        return shrunk.expand(frames, -1, -1).reshape(-1)
    needed = scale * (stop - 1) + 1
    if shrunk.shape[0] < needed:
        raise ValueError(f"mask: {shrunk.shape[0]} pictures, but the video has {needed} up to this segment.")
    latent: list[torch.Tensor] = []
    for frame in range(start, stop):
        first = 0 if frame == 0 else scale * (frame - 1) + 1
        latent.append(shrunk[first : scale * frame + 1].mean(0))
    return torch.stack(latent).reshape(-1)
