"""Errors while sampling: those of the pack name its node, all others stay as they are."""

from collections.abc import Callable
from typing import Any

import comfy.model_management
import pytest
import torch

from devtools.environment import ROOT
from kvshare_core.session.call_sharing import CallSharer
from tests.support.family_cases import CASES, model_of
from tests.support.family_contracts import patched, sample
from tests.support.windows import share

CASE = CASES["wan t2v"]
RAISED: list[tuple[Exception, type[Exception], str]] = [
    (RuntimeError("odd shapes"), RuntimeError, "Mask-Guided KV Share: odd shapes"),
    (KeyError(3), RuntimeError, "Mask-Guided KV Share: 3"),
    (AssertionError(), RuntimeError, "Mask-Guided KV Share: AssertionError"),
    (ValueError("mask: wrong size"), ValueError, "Mask-Guided KV Share: mask: wrong size"),
    (ValueError("KV Sharing Config: strength is 11"), ValueError, "KV Sharing Config: strength is 11"),
    (torch.OutOfMemoryError("no room"), torch.OutOfMemoryError, "Mask-Guided KV Share: "),
]


def raising(error: BaseException, file: str = str(ROOT / "kvshare_core" / "somewhere.py")) -> Callable[..., Any]:
    """A function that raises `error` as code in `file` does."""
    names: dict[str, Any] = {"error": error}
    exec(compile("def fail(*args, **kwargs):\n    raise error", file, "exec"), names)
    return names["fail"]


@pytest.mark.parametrize(("error", "kind", "message"), RAISED, ids=lambda value: repr(value))
def test_an_error_of_the_pack_names_its_node(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], message: str
) -> None:
    timeline = CASE.timeline(2)
    model = patched(CASE, timeline)
    monkeypatch.setattr(CallSharer, "_attend_heads", raising(error))
    with pytest.raises(kind) as found:
        sample(CASE, model, timeline)
    assert type(found.value) is kind
    assert str(found.value).startswith(message)
    assert not str(found.value).startswith("Mask-Guided KV Share: Mask-Guided KV Share")


def test_an_interrupt_stays_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    timeline = CASE.timeline(2)
    model = patched(CASE, timeline)
    monkeypatch.setattr(CallSharer, "_attend_heads", raising(comfy.model_management.InterruptProcessingException()))
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample(CASE, model, timeline)


def test_an_error_of_the_model_or_another_pack_stays_as_it_is() -> None:
    timeline = CASE.timeline(2)
    fail = raising(RuntimeError("theirs"), "/packs/other/nodes.py")
    model = model_of(CASE.name).clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = fail
    with pytest.raises(RuntimeError, match=r"^theirs$"):
        sample(CASE, share(model, timeline)[0], timeline)
