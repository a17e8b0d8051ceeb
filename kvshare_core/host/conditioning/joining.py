"""The texts of a segment whose frames have several prompts, concatenated for one forward of the model."""

import uuid
from collections.abc import Sequence
from typing import Any

import torch

from .mixing import TEXT, TEXT_MASK, all_tokens_kept


def join_texts(own: dict[str, Any], entries: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], tuple[int, ...]]:
    """`own` with the texts of all `entries` in their order, and how many tokens each has. Everything else comes from
    `own`; the uuid is derived from all of them.

    Raises ValueError when the texts differ in more than their number of tokens.
    """
    conds = own["model_conds"]
    texts = [entry["model_conds"][TEXT].cond for entry in entries]
    if len({(text.shape[0], *text.shape[2:]) for text in texts}) > 1:
        raise ValueError(
            f"Mask-Guided KV Share: {TEXT} has the shapes {[list(text.shape) for text in texts]} in neighbouring "
            "prompts; only the number of tokens, the second size, may differ. Encode all prompts with the same text "
            "encoder."
        )
    joined = {**conds, TEXT: conds[TEXT]._copy_with(torch.cat([text.to(texts[0]) for text in texts], 1))}
    masked = next((entry["model_conds"][TEXT_MASK] for entry in entries if TEXT_MASK in entry["model_conds"]), None)
    if masked is not None:
        masks = [
            entry["model_conds"][TEXT_MASK].cond
            if TEXT_MASK in entry["model_conds"]
            else all_tokens_kept(masked.cond, text)
            for entry, text in zip(entries, texts, strict=True)
        ]
        joined[TEXT_MASK] = masked._copy_with(torch.cat(masks, 1))
    name = uuid.uuid5(own["uuid"], " ".join(str(entry["uuid"]) for entry in entries))
    return {**own, "model_conds": joined, "uuid": name}, tuple(text.shape[1] for text in texts)
