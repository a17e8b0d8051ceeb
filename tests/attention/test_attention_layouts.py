"""Shared attention in every layout is dense attention over a segment's own keys and those of its sources."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from comfy.patcher_extension import WrappersMP

from kvshare_core.config import KVShareConfig
from tests.support.family_cases import model_of
from tests.support.present import present
from tests.support.windows import share, tiny_timeline
from tests.tiny.models import Sampling

TOKENS = 27

LAYOUTS = {
    "wan t2v": (False, False),
    "ltxv": (False, False),
    "ltx-2": (False, False),
    "ltx-2.3": (False, False),
    "ltx-2.3 i2v": (False, False),
    "ltx-2.5": (False, False),
    "cosmos predict2": (True, False),
    "kandinsky 5": (True, False),
    "cosmos 1": (True, True),
}
"""Cases whose video attends to itself alone, and whether their heads stand apart in what goes in and comes out."""


@dataclass(frozen=True)
class SeenCall:
    """A self-attention over the video with heads apart [rows, heads, tokens, head_dim]; its layout and output."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    layout: tuple[bool, bool]
    output: torch.Tensor


@pytest.mark.parametrize("name", LAYOUTS)
def test_shared_attention_is_dense_attention_over_own_and_source_keys(name: str) -> None:
    case, timeline = present(name), tiny_timeline(2)
    model = model_of(name)
    forwards: list[list[SeenCall]] = []

    def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
        options = dict(args[5])
        inner = options["optimized_attention_override"]
        forwards.append([])

        def override(function: Any, *tensors: Any, **settings: Any) -> torch.Tensor:
            output = inner(function, *tensors, **settings)
            heads = tensors[3] if len(tensors) > 3 else settings["heads"]
            layout = bool(settings.get("skip_reshape")), bool(settings.get("skip_output_reshape"))
            parts = [part if layout[0] else part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in tensors[:3]]
            if parts[0].shape[2] == parts[1].shape[2] == TOKENS:
                apart = output if layout[1] else output.unflatten(-1, (heads, -1)).transpose(1, 2)
                forwards[-1].append(SeenCall(*(part.clone() for part in parts), layout, apart.clone()))
            return output

        options["optimized_attention_override"] = override
        return executor(*args[:5], options, *args[6:], **kwargs)

    patched, _ = share(model, timeline, KVShareConfig(mode="extend", strength=1.0), subject="")
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    case.run(
        Sampling(steps=1, cfg=1.0), patched, case.positive(timeline), case.negative(timeline), case.shape(timeline)
    )
    source, target = forwards
    assert len(source) == len(target) >= 2
    for before, here in zip(source, target, strict=True):
        assert here.layout == LAYOUTS[name]
        torch.testing.assert_close(before.output, dense(before.query, before.key, before.value), rtol=0, atol=2e-5)
        keys, values = torch.cat([here.key, before.key], 2), torch.cat([here.value, before.value], 2)
        torch.testing.assert_close(here.output, dense(here.query, keys, values), rtol=0, atol=2e-5)
        assert (here.output - dense(here.query, here.key, here.value)).abs().max() > 1e-2


def dense(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention with all scores at once, in float64."""
    scores = query.double() @ key.double().transpose(-1, -2) * query.shape[-1] ** -0.5
    return (scores.softmax(-1) @ value.double()).float()
