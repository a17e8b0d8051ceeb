"""Runs a benchmark inside a host, with the tiny models and helpers of the tests."""

import importlib
import os
from pathlib import Path

import torch

from devtools.environment import find_host
from devtools.inprocess import enter_host, load_pack

from .form import ROOT


def start_host() -> Path:
    """Starts the host in this process, on one thread and without its progress bars; its folder. Call it before anything
    imports `comfy` or `tests`."""
    host = find_host()
    enter_host(host)
    load_pack()
    # Hosts have a package of that name too.
    importlib.import_module("tests").__path__.append(str(ROOT / "tests"))
    torch.set_num_threads(1)
    os.environ.setdefault("TQDM_DISABLE", "1")
    return host
