"""Maps from video to text tokens and the masks made of them, against the same thing written out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.maps import (
    mask_to_tokens,
    normalise_over_clip,
    spread_over_latent_frames,
    subject_score,
    text_probabilities,
    threshold_mask,
)
from kvshare_core.words import SubjectTokens
from tests.dense_reference import heads_apart


@given(st.integers(1, 2), st.integers(1, 3), st.sampled_from([1, 2]), st.sets(st.integers(0, 6), min_size=1))
def test_text_probabilities_are_a_softmax_over_the_real_tokens_only(
    rows: int, heads: int, token_dim: int, chosen: set[int]
) -> None:
    generator = torch.Generator().manual_seed(rows + 10 * heads)

    def tensor(tokens: int) -> torch.Tensor:
        shape = (rows, tokens, heads * 4) if token_dim == 1 else (rows, heads, tokens, 4)
        return torch.randn(shape, generator=generator)

    query, key, tokens = tensor(5), tensor(7), tuple(sorted(chosen))
    found = text_probabilities(query, key, tokens, heads, token_dim)
    scores = heads_apart(query, heads, token_dim) @ heads_apart(key, heads, token_dim).transpose(-1, -2) / 2
    expected = scores[..., list(tokens)].softmax(-1).mean(1)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


def test_the_subject_is_contrasted_with_the_mean_of_the_other_words() -> None:
    probabilities = torch.tensor([[[0.5, 0.1, 0.1, 0.3], [0.1, 0.2, 0.6, 0.1]]])
    tokens = (2, 4, 5, 9)
    score = subject_score(probabilities, tokens, SubjectTokens((2,), (4, 5)))
    torch.testing.assert_close(score, torch.tensor([[0.4, -0.3]]))
    alone = subject_score(probabilities, tokens, SubjectTokens((4, 9), ()))
    torch.testing.assert_close(alone, torch.tensor([[0.2, 0.15]]))


@given(st.integers(2, 200), st.floats(-50, 50), st.floats(0.01, 100), st.integers(0, 99))
def test_normalised_maps_do_not_depend_on_offset_and_scale(count: int, offset: float, scale: float, seed: int) -> None:
    score = torch.randn(2, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    normalised = normalise_over_clip(score)
    assert normalised.min() == 0
    assert normalised.max() == 1
    torch.testing.assert_close(normalise_over_clip(score * scale + offset), normalised, rtol=0, atol=1e-3)


def test_a_flat_map_has_no_subject() -> None:
    normalised = normalise_over_clip(torch.full((1, 9), 0.3))
    assert not threshold_mask(normalised, 0.5).any()


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 4), st.integers(1, 3))
def test_a_token_gets_the_mean_of_the_pictures_and_pixels_it_covers(
    scale: int, frames: int, start: int, side: int
) -> None:
    pixels = 4
    stop = start + frames
    pictures = scale * (stop - 1) + 1
    mask = torch.rand(pictures, side * pixels, 2 * pixels, generator=torch.Generator().manual_seed(frames))
    found = mask_to_tokens(mask, start, stop, (frames, side, 2), scale).reshape(frames, side, 2)
    for place, frame in enumerate(range(start, stop)):
        covered = range(1) if frame == 0 else range(scale * (frame - 1) + 1, scale * frame + 1)
        for row in range(side):
            for column in range(2):
                cut = mask[list(covered), row * pixels : (row + 1) * pixels, column * pixels : (column + 1) * pixels]
                assert float(found[place, row, column]) == pytest.approx(float(cut.mean()), abs=1e-5)


@given(st.integers(1, 3), st.integers(1, 7), st.integers(0, 4), st.integers(1, 4))
def test_a_token_of_several_latent_frames_gets_their_mean(scale: int, length: int, start: int, patch: int) -> None:
    stop = start + length
    mask = torch.rand(scale * (stop - 1) + 1, 4, 4, generator=torch.Generator().manual_seed(length))
    frames = -(-length // patch)
    each = mask_to_tokens(mask, start, stop, (length, 2, 2), scale).reshape(length, 4)
    found = mask_to_tokens(mask, start, stop, (frames, 2, 2), scale, patch).reshape(frames, 4)
    for place in range(frames):
        torch.testing.assert_close(found[place], each[patch * place : patch * (place + 1)].mean(0))
    spread = spread_over_latent_frames(found.reshape(frames, 2, 2), length, patch)
    assert torch.equal(spread.reshape(length, 4), torch.stack([found[frame // patch] for frame in range(length)]))


def test_one_picture_stands_for_every_frame() -> None:
    mask = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    assert mask_to_tokens(mask, 3, 5, (2, 2, 2), 4).tolist() == [1, 0, 0, 0] * 2


def test_a_mask_with_too_few_pictures_is_an_error() -> None:
    with pytest.raises(ValueError, match="mask: 8 pictures, but the video has 9"):
        mask_to_tokens(torch.zeros(8, 4, 4), 0, 3, (3, 2, 2), 4)
