"""The class that Ray starts in every worker. Ray sends it as it is written here, since a worker cannot import the pack
before this class has told it where the pack is."""

from typing import Any


def worker_class() -> type[Any]:
    """A class within a function, which Ray sends with its code."""

    class KVShareWorker:
        """One process with the user's own ComfyUI, without a server."""

        def __init__(self, start: dict[str, Any]) -> None:
            import os
            import sys
            import types
            from importlib import import_module

            folder = next(
                (one for one in (start["comfy"], os.environ.get("COMFYUI_PATH")) if one and os.path.isdir(one)), None
            )
            pack = next(
                (
                    one
                    for one in (start["pack"], os.environ.get("KV_SHARE_PATH"))
                    if one and os.path.isdir(os.path.join(one, "kvshare_core"))
                ),
                None,
            )
            if folder is None or pack is None:
                what, path, name = (
                    ("ComfyUI", start["comfy"], "COMFYUI_PATH")
                    if folder is None
                    else ("KV Share", start["pack"], "KV_SHARE_PATH")
                )
                raise RuntimeError(
                    f"this machine has no {what} in {path}. Install it there, or set {name} where Ray is started."
                )
            sys.path.insert(0, folder)
            root = types.ModuleType(start["package"])
            root.__path__ = [pack]
            sys.modules[start["package"]] = root
            boot = import_module(f"{start['package']}.kvshare_core.host.workers.boot")
            self._worker = boot.start(start)

        def call(self, method: str, *arguments: Any) -> Any:
            """What a method of the worker returns."""
            return self._worker.call(method, *arguments)

    return KVShareWorker
