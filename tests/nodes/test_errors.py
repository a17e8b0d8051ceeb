"""Error messages of the nodes reach every console."""

import re
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import torch
from comfy.model_management import InterruptProcessingException

from devtools.environment import ROOT
from kv_share.kvshare_core.host import own_errors
from kv_share.nodes.errors import named_errors
from tests.support.node_calls import NODES, run_node, shown_name


@pytest.mark.parametrize("message", ["subject: 'a \ud83d fox' is not a word", "Node: it has \udc00"])
def test_half_a_character_in_a_message_is_escaped(message: str) -> None:
    with pytest.raises(ValueError) as error, named_errors("Node"):
        raise ValueError(message)
    str(error.value).encode("utf-8")
    assert str(error.value).startswith("Node: ") and "\\ud" in str(error.value)


def nested() -> None:
    nested()


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (lambda: object().samples, "AttributeError"),  # pyright: ignore[reportAttributeAccessIssue]
        (lambda: {}["samples"], "KeyError: 'samples'"),
        (lambda: [][0], "IndexError"),
        (lambda: len(None), "TypeError"),  # pyright: ignore[reportArgumentType]
        (lambda: 1 // 0, "ZeroDivisionError"),
        (nested, "RecursionError"),
    ],
)
def test_what_python_raises_is_named_by_the_node(wrong: Callable[[], Any], name: str) -> None:
    with pytest.raises(ValueError, match=rf"^Node: {name}.*see what is connected to it"), named_errors("Node"):
        wrong()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), InterruptProcessingException(), RuntimeError("x")])
def test_errors_of_the_host_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, named_errors("Node"):
        raise error
    assert raised.value is error


def test_an_error_of_the_system_keeps_its_number() -> None:
    with pytest.raises(OSError, match="Node: No space left on device") as raised, named_errors("Node"):
        raise OSError(28, "No space left on device", "film.safetensors")
    assert (raised.value.errno, raised.value.filename) == (28, "film.safetensors")


VALUES: dict[str, Any] = {
    "model": None,
    "clip": None,
    "vae": None,
    "latent": None,
    "samples": None,
    "images": None,
    "record": None,
    "timeline": None,
    "positive": None,
    "negative": None,
    "existing": {},
    "config": None,
    "file": "missing",
    "weight_dtype": "fp3",
    "hold": "middle",
    "show": "all",
}
"""Values that nodes cannot use, by the names of inputs: nothing, or a choice that there is not."""


@pytest.mark.parametrize("node", sorted(NODES))
def test_no_input_of_a_node_makes_an_error_without_its_name(node: str) -> None:
    inputs: dict[str, Any] = {}
    for item in NODES[node].GET_SCHEMA().inputs:
        if item.id in VALUES:
            inputs[item.id] = VALUES[item.id]
        elif not item.optional:
            inputs[item.id] = getattr(item, "default", None)
    if node in ("KVShareConfig", "DiTCtrlConfig"):
        inputs["step_idx"] = "x"
    with pytest.raises(ValueError, match=rf"^{re.escape(shown_name(node))}: \w+"):
        run_node(node, **inputs)


def test_no_cause_is_written_that_a_console_cannot_hold() -> None:
    """The host writes the whole chain of errors, and its worker does not survive a half character in it."""
    with pytest.raises(ValueError) as caught, named_errors("Node"):
        raise ValueError("subject: '\ud83d' is not a word")
    written = "".join(traceback.format_exception(caught.value))
    assert r"Node: subject: '\ud83d' is not a word" in written
    # The line of this file that raised it has the escape, not the character.
    assert written.encode()


def raising(error: Exception, file: str) -> Callable[[], None]:
    """A function that raises `error` as code in `file` does."""
    names: dict[str, Any] = {"error": error}
    exec(compile("def fail():\n    raise error", file, "exec"), names)
    return names["fail"]


OWN = str(ROOT / "kvshare_core" / "somewhere.py")


@pytest.mark.parametrize("kind", [RuntimeError, torch.OutOfMemoryError])
def test_what_torch_raises_in_the_packs_own_code_is_named_by_the_node(kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^Node: shapes differ") as found, named_errors("Node"):
        raising(kind("shapes differ"), OWN)()
    assert type(found.value) is kind


@pytest.mark.parametrize(
    ("message", "file"), [("shapes differ", "/packs/other.py"), ("Long Video Save: it is wrong", OWN)]
)
def test_what_others_raise_and_what_names_a_node_stays(message: str, file: str) -> None:
    with pytest.raises(RuntimeError) as found, named_errors("Node"):
        raising(RuntimeError(message), file)()
    assert str(found.value) == message


def test_names_that_begin_an_error_are_those_on_the_nodes() -> None:
    assert sorted(own_errors.NODES) == sorted(shown_name(node) for node in NODES)
