"""The attention call of models whose video and text are one sequence in which every token attends to every other."""

from collections.abc import Mapping

from .base import AttentionCall, CallSite, UnexpectedCallError


def joint_call(block: int, blocks: int, call: AttentionCall, parts: Mapping[str, int]) -> CallSite:
    """The call of `block`, checked by its shape.

    parts: number of tokens of every part of the sequence in its order, `video` and `text` among them. Raises
    UnexpectedCallError when there are fewer than that many `blocks` or the number of tokens is another.
    """
    if block >= blocks:
        raise UnexpectedCallError("no block to belong to")
    check_tokens(call, parts)
    names = list(parts)
    counts = list(parts.values())
    return CallSite(
        block,
        "joint",
        video_start=sum(counts[: names.index("video")]),
        text_start=sum(counts[: names.index("text")]),
    )


def check_tokens(call: AttentionCall, parts: Mapping[str, int]) -> None:
    """Raises UnexpectedCallError when queries or keys are not the tokens of all `parts`, by their names."""
    if call.query_tokens != call.key_tokens:
        raise UnexpectedCallError(f"{call.query_tokens} queries and {call.key_tokens} keys in a joint attention")
    if call.query_tokens != sum(parts.values()):
        counts = " + ".join(map(str, parts.values()))
        raise UnexpectedCallError(f"{call.query_tokens} tokens instead of {counts} ({' + '.join(parts)})")
