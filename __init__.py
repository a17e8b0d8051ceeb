"""KV Share: long videos from several prompts, with one subject that stays itself."""

from .nodes import KVShareExtension


async def comfy_entrypoint() -> KVShareExtension:
    """Called by ComfyUI when it loads the pack."""
    return KVShareExtension()
