"""The embedded models' text encoder: one learned vector per word and a position code.

Each token becomes a row [word vector | position code]. Wan's text width of 4096 (which the oldest supported host
insists on) is reached by zeros, so only the first `TEXT_WIDTH` columns of that transformer's text projection carry
weights; the other layouts take the rows as they are.
"""

from collections.abc import Collection

import torch
from torch import nn

from ..prompt_words import split_words
from .vocabulary import CHUNK_TOKENS, PAD, PAIR_WORDS, WORD_IDS, WORDS, padded_length, word_id

WORD_WIDTH = 128
POSITION_WIDTH = 32
TEXT_WIDTH = WORD_WIDTH + POSITION_WIDTH


def token_ids(text: str, known: Collection[str] = WORDS, chunk_tokens: int = CHUNK_TOKENS) -> list[int]:
    """Ids of the words of `text` for a model that knows those of `known`, padded to a multiple of `chunk_tokens`."""
    ids = [word_id(word, known) for word in split_words(text)]
    return ids + [WORD_IDS[PAD]] * (padded_length(len(ids), chunk_tokens) - len(ids))


def position_code(length: int, width: int = POSITION_WIDTH) -> torch.Tensor:
    """Sines and cosines of token positions, [length, width]."""
    frequency = 0.5 ** torch.arange(width // 2, dtype=torch.float32).div(2)
    angle = torch.outer(torch.arange(length, dtype=torch.float32), frequency)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class WordEmbedding(nn.Module):
    """Token ids [n, tokens] to text [n, tokens, TEXT_WIDTH] by a table of that many `rows`."""

    def __init__(self, rows: int = len(PAIR_WORDS)) -> None:
        super().__init__()
        self.words = nn.Parameter(torch.randn(rows, WORD_WIDTH))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        vectors = self.words[ids]
        positions = position_code(ids.shape[1]).to(vectors).expand(ids.shape[0], -1, -1)
        return torch.cat([vectors, positions], dim=-1)
