"""The host's server, where there is one."""

import sys
from typing import Any


def running_server() -> Any:
    """The running PromptServer; None where the host's nodes are used without it."""
    module: Any = sys.modules.get("server")
    return module and getattr(module.PromptServer, "instance", None)
