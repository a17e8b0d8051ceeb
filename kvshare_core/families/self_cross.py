"""The plain sequence of calls: every block attends to the video, then to the text."""

from .base import AttentionCall, CallSite, UnexpectedCallError


def self_then_cross(call_index: int, call: AttentionCall, blocks: int, video_tokens: int, text_tokens: int) -> CallSite:
    """Self-attention at even, cross-attention to the text at odd `call_index`; checked by the call's shape.

    Raises UnexpectedCallError when there are fewer than that many `blocks` or the number of tokens is another.
    """
    block, step = divmod(call_index, 2)
    if block >= blocks:
        raise UnexpectedCallError("no block to belong to")
    if call.query_tokens != video_tokens:
        raise UnexpectedCallError(f"{call.query_tokens} query tokens where the video has {video_tokens}")
    if step == 0:
        if call.key_tokens != video_tokens:
            raise UnexpectedCallError(f"{call.key_tokens} key tokens in a self-attention over {video_tokens}")
        return CallSite(block, "self")
    if call.key_tokens != text_tokens:
        raise UnexpectedCallError(f"{call.key_tokens} key tokens in a cross-attention to {text_tokens} text tokens")
    return CallSite(block, "cross")
