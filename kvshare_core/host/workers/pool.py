"""Worker processes on Ray. The only module that imports ray, and only when a film is sampled with workers."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from comfy.cli_args import args

from .actor import worker_class
from .boot import start_values
from .settings import LOCAL, Patience, WorkerSettings
from .travel import NODE

log = logging.getLogger("kvshare")

CONTROL = "control"
"""Calls of this group are answered while a worker evaluates."""

NO_STATISTICS = "RAY_USAGE_STATS_ENABLED"
"""Environment variable that keeps Ray from sending statistics of its use."""


class LostWorkerError(RuntimeError):
    """A worker is gone."""


class Pool:
    """Workers of one address, numbered from 0."""

    def __init__(self, settings: WorkerSettings):
        """Starts them, without waiting for them. Raises ValueError, naming the input and the fix, where Ray or the
        cluster is missing."""
        self.settings = settings
        self._ray = _connected(settings.address)
        gpus = 0.0 if args.cpu else float(self._ray.cluster_resources().get("GPU", 0))
        if not settings.workers and gpus < 1:
            raise ValueError(f"{NODE}: workers is 0, one for each GPU, but there is no GPU. Set workers to a number.")
        self.count = settings.workers or int(gpus)
        options: dict[str, Any] = {
            "num_cpus": 0,
            "num_gpus": min(1.0, int(gpus / self.count * 1000) / 1000) if gpus else 0,
            "max_restarts": 0,
            "concurrency_groups": {CONTROL: 1},
            "scheduling_strategy": "SPREAD",
        }
        if settings.memory_gib:
            options["memory"] = int(settings.memory_gib * 2**30)
        self._class = self._ray.remote(**options)(worker_class())
        self._start = start_values()
        self._workers = [self._class.remote(self._start) for _ in range(self.count)]

    @property
    def is_open(self) -> bool:
        """Whether Ray still runs, which another pack may have ended."""
        return bool(self._ray.is_initialized())

    def put(self, value: Any) -> Any:
        """A reference to a value that several workers get. Raises ValueError for what cannot be sent."""
        try:
            return self._ray.put(value)
        except TypeError as reason:
            raise ValueError(f"{NODE}: something on the model cannot be sent to the workers: {reason}") from reason

    def call(self, number: int, method: str, *arguments: Any) -> Any:
        """Asks a worker for something; a reference to its answer. Calls are done one after another."""
        return self._workers[number].call.remote(method, *arguments)

    def interrupt(self, run: int) -> None:
        """Stops a run on all workers within one segment, without waiting."""
        for worker in self._workers:
            worker.call.options(concurrency_group=CONTROL).remote("interrupt", run)

    def finished(self, references: Sequence[Any], seconds: float) -> list[Any]:
        """Those of the references that have an answer, after so many seconds at most."""
        return self._ray.wait(list(references), num_returns=len(references), timeout=seconds)[0]

    def any_finished(self, references: Sequence[Any], seconds: float) -> list[Any]:
        """At least one of the references that have an answer; none after so many seconds."""
        return self._ray.wait(list(references), num_returns=1, timeout=seconds)[0]

    def answer(self, reference: Any) -> Any:
        """An answer that is there. Raises LostWorkerError where the worker is gone."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as reason:
            lines = [line for line in str(reason).strip().splitlines() if line.strip()]
            raise LostWorkerError(lines[-1].strip() if lines else type(reason).__name__) from reason

    def restart(self, number: int) -> None:
        """Ends a worker, whatever it does, and starts another in its place."""
        self._ray.kill(self._workers[number])
        self._workers[number] = self._class.remote(self._start)

    def close(self) -> None:
        """Ends all workers."""
        if self.is_open:
            for worker in self._workers:
                self._ray.kill(worker)
        self._workers.clear()


@dataclass
class _Open:
    pool: Pool | None = None


_OPEN = _Open()


def pool_of(settings: WorkerSettings) -> Pool:
    """The workers of these settings: those of the film before, with the models that they have loaded, where the
    settings are the same."""
    settings = replace(settings, patience=Patience())
    pool = _OPEN.pool
    if pool is not None and (pool.settings != settings or not pool.is_open):
        close_pool()
        pool = None
    if pool is None:
        pool = _OPEN.pool = Pool(settings)
    return pool


def close_pool() -> None:
    """Ends all workers."""
    if _OPEN.pool is not None:
        _OPEN.pool.close()
        _OPEN.pool = None


def require_ray() -> Any:
    """The module ray. Raises ValueError, saying how to install it, without it."""
    try:
        return import_module("ray")
    except ImportError as reason:
        raise ValueError(
            f"{NODE}: it needs the package Ray, which is not installed. Install it into the Python that runs ComfyUI, "
            "with: python -m pip install ray"
        ) from reason


def _connected(address: str) -> Any:
    """Ray, connected to a cluster, or started on this machine."""
    ray = require_ray()
    if ray.is_initialized():
        return ray
    os.environ.setdefault(NO_STATISTICS, "0")
    try:
        ray.init(
            address=LOCAL if address == LOCAL else address,
            include_dashboard=False if address == LOCAL else None,
            configure_logging=False,
            log_to_driver=False,
        )
    except (ConnectionError, RuntimeError, ValueError) as reason:
        raise ValueError(
            f"{NODE}: no Ray cluster answers at address '{address}' ({reason}). Write '{LOCAL}' for this machine, or "
            "the address that 'ray start --head' shows."
        ) from reason
    return ray
