"""Values of widgets that did not come from the host, checked as the host checks them before a run."""

import math
from typing import Any

LONGEST_QUOTE = 60


def widget_value(widget: Any, value: object) -> Any:
    """The value that a node's `execute` gets from one in a workflow; widget: the input in the node's schema. Values of
    inputs that are sockets stay as they are.

    Raises ValueError, naming the input, for a value of another kind or beyond the input's range.
    """
    kind = widget.get_io_type()
    if kind in ("INT", "FLOAT"):
        number = _number(widget.id, value, whole=kind == "INT")
        if not _at_least(widget.min, number) or not _at_least(number, widget.max):
            raise ValueError(f"{widget.id}: {quoted(value)}; it must be from {widget.min} to {widget.max}.")
        return number
    if kind == "STRING" and not isinstance(value, str):
        raise ValueError(f"{widget.id}: {quoted(value)}; it must be a text.")
    if kind == "BOOLEAN" and not isinstance(value, bool):
        raise ValueError(f"{widget.id}: {quoted(value)}; it must be true or false.")
    if kind == "COMBO" and value not in widget.options:
        raise ValueError(f"{widget.id}: {quoted(value)}; choose one of {', '.join(map(str, widget.options))}.")
    return value


def plain_number(value: object, lowest: float, highest: float) -> float | None:
    """A number of another pack's node, if it is one from `lowest` to `highest`."""
    try:
        number = _number("", value, whole=False)
    except ValueError:
        return None
    return number if lowest <= number <= highest else None


def quoted(value: object) -> str:
    """A value as a message shows it."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**LONGEST_QUOTE:
        return "a number of many digits"
    text = repr(value)
    return text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 3] + "..."


def _number(name: str, value: object, whole: bool) -> int | float:
    what = "whole number" if whole else "number"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{name}: {quoted(value)}; it must be a {what}.")
    try:
        number = int(value) if whole else float(value)
    except (ValueError, OverflowError) as reason:
        raise ValueError(f"{name}: {quoted(value)}; it must be a {what}.") from reason
    if not whole and not math.isfinite(number):
        raise ValueError(f"{name}: {quoted(value)}; it must be a {what}.")
    return number


def _at_least(one: float | None, other: float | None) -> bool:
    return one is None or other is None or one <= other
