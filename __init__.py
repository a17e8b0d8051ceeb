"""KV Share: long videos from several prompts, with a consistent subject."""

from .nodes import KVShareExtension
from .nodes.plan_route import add_route

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> KVShareExtension:
    """Called by ComfyUI when it loads the pack."""
    add_route()
    return KVShareExtension()
