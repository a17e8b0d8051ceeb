"""Starts ComfyUI in a worker as it runs in the process with the sampler: same options, same models folders.

What a worker is started with are plain values, because it can import nothing before it has them.
"""

import os
from enum import Enum
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .worker import Worker


def start_values() -> dict[str, Any]:
    """What a worker like this process is started with."""
    import folder_paths
    from comfy.cli_args import args

    from ..loading.model_source import FOLDERS

    here = os.path.abspath(__file__)
    pack = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(here))))
    options: dict[str, Any] = vars(args)
    return {
        "comfy": os.path.dirname(os.path.abspath(folder_paths.__file__)),
        "pack": pack,
        "package": __name__.removesuffix(".kvshare_core.host.workers.boot"),
        "options": {name: value for name, value in options.items() if isinstance(value, bool | int | float | str)},
        "fast": sorted(str(one.value) for one in options.get("fast") or () if isinstance(one, Enum)),
        "folders": {kind: list(folder_paths.get_folder_paths(kind)) for kind in FOLDERS},
        "threads": torch.get_num_threads(),
    }


def start(values: dict[str, Any]) -> "Worker":
    """Starts ComfyUI in this process; call it before anything imports `comfy`."""
    torch.set_num_threads(values["threads"])
    from comfy import cli_args

    vars(cli_args.args).update(values["options"])
    if values["fast"]:
        vars(cli_args.args)["fast"] = {cli_args.PerformanceFeature(name) for name in values["fast"]}
    import folder_paths

    for kind, folders in values["folders"].items():
        for folder in folders:
            if os.path.isdir(folder):
                folder_paths.add_model_folder_path(kind, folder)
    from .worker import Worker

    return Worker(values["threads"])
