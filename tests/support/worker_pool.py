"""Workers in this process, which evaluate while they are asked: what they do is tested where there is no Ray too."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest

from kvshare_core.host.workers.pool import LostWorkerError
from kvshare_core.host.workers.worker import Worker


class PoolHere:
    """Stands for host/workers/pool.py. lost: the worker and the number of its model call, counted from 1, after which
    it is lost with all that it knows."""

    def __init__(self, count: int, lost: tuple[int, int] | None = None):
        self.count = count
        self.is_open = True
        self.restarts = 0
        self._workers = [Worker(1) for _ in range(count)]
        self._answers: dict[object, Any] = {}
        self._lost = lost
        self._calls = [0] * count

    def put(self, value: Any) -> Any:
        return value

    def call(self, number: int, method: str, *arguments: Any) -> object:
        reference = object()
        # Nothing is shared, as between processes.
        self._answers[reference] = self._workers[number].call(method, *copy.deepcopy(arguments))
        if method == "evaluate":
            self._calls[number] += 1
            if self._lost == (number, self._calls[number]):
                self._answers[reference] = LostWorkerError("it was lost")
        return reference

    def interrupt(self, run: int) -> None:
        for worker in self._workers:
            worker.interrupt(run)

    def any_finished(self, references: Sequence[Any], seconds: float) -> list[Any]:
        return list(references)[:1]

    def answer(self, reference: Any) -> Any:
        answer = self._answers.pop(reference)
        if isinstance(answer, LostWorkerError):
            raise answer
        return answer

    def restart(self, number: int) -> None:
        self.restarts += 1
        self._workers[number] = Worker(1)


def hire(monkeypatch: pytest.MonkeyPatch, count: int, lost: tuple[int, int] | None = None) -> list[PoolHere]:
    """Puts workers of this process in place of Ray's; gives those of every run."""
    pools: list[PoolHere] = []

    def pool_of(_: Any) -> PoolHere:
        pools.append(PoolHere(count, lost))
        return pools[-1]

    monkeypatch.setattr("kvshare_core.host.workers.workers.require_ray", lambda: None)
    monkeypatch.setattr("kvshare_core.host.workers.workers.pool_of", pool_of)
    return pools
