"""The example that explains the idea computes what the pack computes."""

import runpy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from devtools.environment import ROOT
from kvshare_core.config import KVShareConfig
from tests.oracles.dense_reference import dense_attention, sharing_bias

EXAMPLE = ROOT / "examples" / "shared_attention.py"
shared_attention: Callable[..., torch.Tensor] = runpy.run_path(str(EXAMPLE))["shared_attention"]


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    st.lists(st.booleans(), min_size=7, max_size=7),
    st.lists(st.booleans(), min_size=7, max_size=7),
)
def test_it_equals_the_dense_reference(seed: int, strength: float, own: list[bool], shown: list[bool]) -> None:
    generator = torch.Generator().manual_seed(seed)
    q, k, v, source_k, source_v = torch.randn(5, 2, 3, 7, 4, generator=generator, dtype=torch.float64)
    mask, source_mask = torch.tensor(own), torch.tensor(shown)
    found = shared_attention(q, k, v, mask, (source_k, source_v, source_mask), strength)
    if strength == 0:
        expected = dense_attention(q, k, v)
    else:
        bias = sharing_bias(KVShareConfig(mode="swap", strength=strength), 7, mask, [source_mask])
        expected = dense_attention(q, torch.cat([k, source_k], 2), torch.cat([v, source_v], 2), bias=bias)
    torch.testing.assert_close(found.transpose(1, 2).flatten(2), expected)


def test_its_demonstration_shows_the_attention_moving_to_the_source(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    _, *rows = capsys.readouterr().out.splitlines()
    shares: list[list[Any]] = [[float(part.rstrip("%")) for part in row.split()] for row in rows]
    assert [row[0] for row in shares] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert all(abs(sum(row[1:]) - 100) <= 1.5 for row in shares)
    assert shares[0][3] == shares[-1][2] == 0
    assert [row[3] for row in shares] == sorted(row[3] for row in shares)
