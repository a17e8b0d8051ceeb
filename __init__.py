"""KV Share: long videos from several prompts, with a consistent subject."""

import logging
from pathlib import Path

from comfy_api.latest import ComfyExtension

from .nodes import KVShareExtension, NoNodes
from .nodes.plan_route import add_route, has_route

WEB_DIRECTORY = None if has_route() else "./web"
"""Nothing for a second copy of the pack, as from a clone beside an install."""


async def comfy_entrypoint() -> ComfyExtension:
    """Called by ComfyUI when it loads the pack."""
    if has_route():
        logging.getLogger("kvshare").warning(
            "KV Share is in custom_nodes twice; the copy in '%s' is not used. Remove one of them.",
            Path(__file__).parent.name,
        )
        return NoNodes()
    add_route()
    return KVShareExtension()
