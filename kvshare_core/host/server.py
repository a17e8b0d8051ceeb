"""The host's server, if it runs."""

import sys
from typing import Any


def running_server() -> Any:
    """The running PromptServer; None when the host's nodes are used without it."""
    module: Any = sys.modules.get("server")
    return module and getattr(module.PromptServer, "instance", None)
