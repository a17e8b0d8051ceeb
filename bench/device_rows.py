"""The rows of the benchmark of a device."""

from .form import Row


def row_of(part: str, case: str, figure: str, value: float | None, **further: str | float | bool | None) -> Row:
    """A row; further: dtype, bound, ok, note. Where a bound is given `ok` follows from it."""
    bound = further.get("bound")
    holds = None if value is None or not isinstance(bound, int | float) else bool(value <= bound)
    return {
        "part": part,
        "case": case,
        "dtype": further.get("dtype"),
        "figure": figure,
        "value": value,
        "bound": bound,
        "ok": further.get("ok", holds),
        "note": further.get("note"),
    }
