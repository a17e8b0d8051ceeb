"""Workers that are killed, hang or are interrupted in the middle of a film, and what is left of them."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.model_management
import pytest
import torch

from devtools.environment import ROOT
from kvshare_core.config import KVShareConfig
from kvshare_core.host.workers.film_run import FilmRun
from kvshare_core.host.workers.messages import Done
from kvshare_core.host.workers.pool import pool_of
from kvshare_core.host.workers.settings import Patience, WorkerSettings
from kvshare_core.host.workers.workers import with_workers
from tests.support.worker_films import film, film_timeline, sample, tiny_model

SIX = film_timeline("fox runs\n" * 6)
SHARED = KVShareConfig(share_background=True)
TWO = WorkerSettings(workers=2)
LONGEST_END = 60.0
"""Seconds in which processes have to be gone."""


@pytest.fixture(scope="module")
def model(ray: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_model(tmp_path_factory.mktemp("diffusion_models"))


def workers() -> list[Done]:
    """What the two workers say of themselves."""
    pool = pool_of(TWO)
    hellos = [pool.call(number, "hello") for number in range(2)]
    assert len(pool.finished(hellos, LONGEST_END)) == 2
    return [pool.answer(hello) for hello in hellos]


def at_call(number: int, what: Callable[[], None]) -> Callable[..., None]:
    """A sampler's callback that does something after so many steps of the run."""
    seen: list[int] = []

    def callback(step: int, *_: Any) -> None:
        seen.append(step)
        if len(seen) == number:
            what()

    return callback


@pytest.mark.parametrize(("order", "after"), [("lockstep", 1), ("sources_first", 5)])
def test_a_worker_that_is_killed_is_replaced_and_the_film_is_the_same(model: Any, order: Any, after: int) -> None:
    patched, _ = film(model, SIX, replace(SHARED, order=order))
    expected = sample(patched, SIX)
    killed: list[int] = []

    def kill() -> None:
        killed.append(workers()[1].process)
        # In the middle of the next call rather than before it.
        threading.Timer(0.02, os.kill, (killed[0], signal.SIGKILL)).start()

    latent = sample(with_workers(patched, TWO), SIX, callback=at_call(after, kill))
    assert killed and killed[0] not in [worker.process for worker in workers()]
    assert torch.equal(latent, expected)


def test_a_worker_that_hangs_counts_as_lost(model: Any) -> None:
    patched, _ = film(model, SIX, SHARED)
    expected = sample(patched, SIX)
    stopped: list[int] = []

    def stop() -> None:
        stopped.append(workers()[0].process)
        os.kill(stopped[0], signal.SIGSTOP)

    hasty = replace(TWO, patience=Patience(least=3.0, factor=1.0))
    try:
        latent = sample(with_workers(patched, hasty), SIX, callback=at_call(2, stop))
    finally:
        for process in stopped:
            if Path(f"/proc/{process}").exists():
                os.kill(process, signal.SIGKILL)
    assert stopped and stopped[0] not in [worker.process for worker in workers()]
    assert torch.equal(latent, expected)


def test_an_interrupt_stops_all_workers_and_the_next_film_is_right(model: Any) -> None:
    patched, _ = film(model, SIX, SHARED)
    expected = sample(patched, SIX)
    divided = with_workers(patched, TWO)
    before = [worker.process for worker in workers()]
    interrupt = at_call(1, comfy.model_management.interrupt_current_processing)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample(divided, SIX, callback=interrupt)
    assert [worker.holds_run for worker in workers()] == [False, False]
    assert torch.equal(sample(divided, SIX), expected)
    assert [worker.process for worker in workers()] == before
    assert [worker.holds_run for worker in workers()] == [False, False]


def test_without_any_worker_left_the_run_ends_with_the_reason(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    patched, _ = film(model, SIX, SHARED)
    monkeypatch.setattr(FilmRun, "_started_again", lambda *_: False)

    def kill() -> None:
        for worker in workers():
            os.kill(worker.process, signal.SIGKILL)

    with pytest.raises(RuntimeError, match="KV Share Workers: no worker is left"):
        sample(with_workers(patched, TWO), SIX, callback=at_call(1, kill))


DRIVER = """
import sys, threading, time
sys.path.insert(0, {root!r})
from devtools.environment import find_host
from devtools.inprocess import enter_host, load_pack
enter_host(find_host())
load_pack()
from kvshare_core.host.workers.pool import pool_of
from kvshare_core.host.workers.settings import WorkerSettings

def start():
    pool = pool_of(WorkerSettings(workers=1))
    hello = pool.call(0, "hello")
    assert pool.finished([hello], 120)
    print(pool.answer(hello).process, flush=True)

# ComfyUI runs nodes in a thread of their own.
threading.Thread(target=start).start()
time.sleep(600)
"""


def test_no_worker_outlives_its_comfyui(ray: ModuleType) -> None:
    started = subprocess.Popen(
        [sys.executable, "-c", DRIVER.format(root=str(ROOT))], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert started.stdout is not None
    process = int(started.stdout.readline())
    assert Path(f"/proc/{process}").exists()
    started.kill()
    started.wait()
    until = time.monotonic() + LONGEST_END
    while Path(f"/proc/{process}").exists() and time.monotonic() < until:
        time.sleep(0.2)
    assert not Path(f"/proc/{process}").exists()
