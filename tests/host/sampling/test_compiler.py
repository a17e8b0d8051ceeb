"""Newer hosts record the memory that a model's blocks take: their compiler is paused, or off, around the pack's work.

No host with that compiler runs here. A stand-in for its module takes its place, paused or not as the host's is.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import comfy.model_management
import pytest
import torch
from comfy.cli_args import args as host_options
from comfy.patcher_extension import WrappersMP

from kvshare_core.bank.bank import KeyValueBank
from kvshare_core.config import KVShareConfig
from kvshare_core.families.base import AttentionCall
from kvshare_core.host.sampling.compiler import SWITCH, CompilerOff, host_pause, outside_records
from tests.support.family_cases import model_of
from tests.support.family_contracts import SHARED, StoppedError, sample
from tests.support.present import present
from tests.support.windows import share, tiny_timeline

CASES = ("wan t2v", "hunyuan video", "ltx-2.3")


class Recording:
    """The host's record of one thread: paused or not, whoever paused it and however often."""

    def __init__(self) -> None:
        self.paused = False
        self.entered = self.left = 0

    @contextmanager
    def pause_malloc_graph(self, sync: bool = False) -> Iterator[None]:
        self.entered += 1
        self.paused = True
        try:
            yield
        finally:
            self.left += 1
            self.paused = False


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> Recording:
    """A host whose compiler can be paused."""
    found = Recording()
    stand_in = SimpleNamespace(pause_malloc_graph=found.pause_malloc_graph)
    monkeypatch.setitem(sys.modules, "comfy.model_prefetch", stand_in)
    return found


@pytest.fixture
def without_pause(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A host with a compiler that has no pause; its options."""
    monkeypatch.setitem(sys.modules, "comfy.model_prefetch", SimpleNamespace())
    monkeypatch.setattr(host_options, SWITCH, False, raising=False)
    return host_options


@pytest.mark.parametrize("name", CASES)
def test_what_the_pack_keeps_is_made_in_a_pause_and_what_it_passes_on_is_not(
    name: str, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, timeline = present(name), tiny_timeline(2)
    put, kept, calls = KeyValueBank.put, [], []

    def spied_put(self: KeyValueBank, *args: Any) -> None:
        kept.append(recording.paused)
        put(self, *args)

    def backend(function: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(recording.paused)
        return function(*args, **kwargs)

    monkeypatch.setattr(KeyValueBank, "put", spied_put)
    other = model_of(name).clone()
    other.model_options["transformer_options"]["optimized_attention_override"] = backend
    # Without a subject, calls to the text are passed on; block 0 shares and the others do not.
    config = KVShareConfig(layer_idx=(0,))
    found = sample(case, share(other, timeline, config, subject="")[0], timeline)
    assert kept and all(kept)
    assert set(calls) == {True, False}
    assert recording.entered == recording.left > 0 and not recording.paused
    monkeypatch.undo()
    assert torch.equal(found, sample(case, share(model_of(name), timeline, config, subject="")[0], timeline))


@pytest.mark.parametrize("stop", ["error", "interrupt", "error in attention"])
def test_every_pause_ends_however_a_run_ends(stop: str, recording: Recording) -> None:
    case, timeline = present("wan t2v"), tiny_timeline(2)
    paused: list[bool] = []

    def backend(function: Any, *args: Any, **kwargs: Any) -> Any:
        paused.append(recording.paused)
        if stop == "error in attention" and recording.paused and len(paused) > 4:
            raise StoppedError
        return function(*args, **kwargs)

    def spy(executor: Any, *args: Any, **kwargs: Any) -> Any:
        output = executor(*args, **kwargs)
        if stop == "error":
            raise StoppedError
        if stop == "interrupt":
            comfy.model_management.interrupt_current_processing()
        return output

    other = model_of("wan t2v").clone()
    other.model_options["transformer_options"]["optimized_attention_override"] = backend
    model, _ = share(other, timeline, SHARED)
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "spy", spy)
    try:
        with pytest.raises((StoppedError, comfy.model_management.InterruptProcessingException)):
            sample(case, model, timeline)
    finally:
        comfy.model_management.interrupt_current_processing(False)
    assert recording.entered == recording.left > 0 and not recording.paused
    assert (True in paused) == (stop == "error in attention")


def test_a_backend_that_pauses_too_does_not_end_the_pause(recording: Recording) -> None:
    tensor = torch.zeros(1, 1, 2, 4)
    seen: list[bool] = []

    def backend(*tensors: torch.Tensor) -> torch.Tensor:
        with recording.pause_malloc_graph():
            seen.append(recording.paused)
        seen.append(recording.paused)
        return tensors[0]

    def attend(call: AttentionCall, backend: Any) -> torch.Tensor:
        first = backend(call.query, call.key, call.value)
        seen.append(recording.paused)
        backend(first, call.key, call.value)
        seen.append(recording.paused)
        return first

    outside_records(attend)(AttentionCall(tensor, tensor, tensor), backend)
    assert seen == [True, False, True, True, False, True]
    assert recording.entered == recording.left == 5 and not recording.paused


def test_a_host_without_a_compiler_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "comfy.model_prefetch", SimpleNamespace())
    assert host_pause() is None

    def attend(call: AttentionCall, backend: Any) -> None:
        return None

    assert outside_records(attend) is attend
    options = SimpleNamespace()
    with CompilerOff(options):
        assert not hasattr(options, SWITCH)
    assert not hasattr(options, SWITCH)


def test_a_compiler_that_can_be_paused_stays_on(recording: Recording) -> None:
    options = SimpleNamespace(**{SWITCH: False})
    with CompilerOff(options):
        assert getattr(options, SWITCH) is False


@pytest.mark.parametrize("before", [False, True])
def test_the_compiler_is_off_from_the_first_forward_in_to_the_last_one_out(before: bool, without_pause: Any) -> None:
    options = SimpleNamespace(**{SWITCH: before})
    off = CompilerOff(options)
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with off:
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other, daemon=True)
    with pytest.raises(StoppedError), off:
        thread.start()
        inside.wait()
        with off:
            assert getattr(options, SWITCH) is True
        assert getattr(options, SWITCH) is True
        raise StoppedError
    # The other thread is still inside.
    assert getattr(options, SWITCH) is True
    leave.set()
    thread.join()
    assert getattr(options, SWITCH) is before
    with off:
        assert getattr(options, SWITCH) is True
    assert getattr(options, SWITCH) is before


def test_only_forwards_of_a_run_that_shares_have_the_compiler_off(without_pause: Any) -> None:
    case, timeline = present("wan t2v"), tiny_timeline(2)
    inside: list[bool] = []

    def backend(function: Any, *args: Any, **kwargs: Any) -> Any:
        inside.append(getattr(without_pause, SWITCH))
        return function(*args, **kwargs)

    other = model_of("wan t2v").clone()
    other.model_options["transformer_options"]["optimized_attention_override"] = backend
    for config, expected in ((SHARED, True), (KVShareConfig(mode="off"), False)):
        inside.clear()
        sample(case, share(other, timeline, config, subject="")[0], timeline)
        assert inside and set(inside) == {expected}
        assert getattr(without_pause, SWITCH) is False


def test_an_interrupt_leaves_the_compiler_as_it_was(without_pause: Any) -> None:
    case, timeline = present("wan t2v"), tiny_timeline(2)

    def backend(function: Any, *args: Any, **kwargs: Any) -> Any:
        raise comfy.model_management.InterruptProcessingException

    other = model_of("wan t2v").clone()
    other.model_options["transformer_options"]["optimized_attention_override"] = backend
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample(case, share(other, timeline, SHARED)[0], timeline)
    assert getattr(without_pause, SWITCH) is False
