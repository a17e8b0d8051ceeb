"""Stand-ins for what other packs put on a MODEL, written from their public behaviour. Each returns a clone."""

from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention

NAG_SHARE = 0.5
"""Part of normalised attention guidance in a block's attention to the text."""


def with_negative_guidance(model: Any, negative: torch.Tensor, scale: float, share: float = NAG_SHARE) -> Any:
    """Normalised attention guidance on a Wan model: every block attends to a negative text [1, tokens, width] too, from
    the rows of the prompt alone, and goes `scale` times away from it. Object patches on the blocks' cross-attention.
    With `share` 0 nothing changes."""
    clone = model.clone()
    module = clone.get_model_object("diffusion_model")
    with torch.inference_mode():
        foreign = module.text_embedding(negative)
    for number, block in enumerate(module.blocks):
        clone.add_object_patch(
            f"diffusion_model.blocks.{number}.cross_attn.forward", _guided(block.cross_attn, foreign, scale, share)
        )
    return clone


def _guided(attention: Any, foreign: torch.Tensor, scale: float, share: float) -> Any:
    def attend(query: torch.Tensor, text: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        key, value = attention.norm_k(attention.k(text)), attention.v(text)
        return optimized_attention(query, key, value, heads=attention.num_heads, transformer_options=options)

    def forward(
        x: torch.Tensor, context: torch.Tensor, transformer_options: dict[str, Any] | None = None, **_: Any
    ) -> torch.Tensor:
        options = transformer_options or {}
        query = attention.norm_q(attention.q(x))
        rows = list(zip(query.split(1), context.split(1), strict=True))
        outputs = [attend(one, text, options) for one, text in rows]
        away = attend(rows[0][0], foreign.to(query), options)
        guided = outputs[0] * scale - away * (scale - 1)
        guided = guided / guided.abs().sum(-1, keepdim=True) * outputs[0].abs().sum(-1, keepdim=True)
        outputs[0] = outputs[0] + (guided - outputs[0]) * share
        return attention.o(torch.cat(outputs))

    return forward
