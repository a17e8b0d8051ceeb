"""Frozen values as plain JSON values and named tensors, and back. No pickle: a file can hold nothing that runs."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import torch

TENSOR = "tensor"
"""The only key of what stands for a tensor; its value is the tensor's name."""

Value = TypeVar("Value")


def to_plain(value: Any, tensors: dict[str, torch.Tensor], name: str = "") -> Any:
    """A dataclass of numbers, texts, tensors, tuples, sets, mappings and such dataclasses in plain values; its tensors
    are put in `tensors` under the names of their places."""
    if isinstance(value, torch.Tensor):
        tensors[name] = value.detach().contiguous()
        return {TENSOR: name}
    if is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: to_plain(getattr(value, item.name), tensors, f"{name}.{item.name}".lstrip("."))
            for item in fields(value)
        }
    if isinstance(value, Mapping):
        entries = cast("Mapping[Any, Any]", value)
        return [[key, to_plain(item, tensors, f"{name}.{key}")] for key, item in entries.items()]
    if isinstance(value, frozenset):
        return sorted(cast("frozenset[Any]", value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = cast("Sequence[Any]", value)
        return [to_plain(item, tensors, f"{name}.{place}") for place, item in enumerate(items)]
    return value


def from_plain(kind: type[Value], plain: Any, tensors: Mapping[str, torch.Tensor]) -> Value:
    """The value of type `kind` that `to_plain` was given. What a newer version has added gets its default.

    Raises ValueError for plain values that are none.
    """
    try:
        return _read(kind, plain, tensors)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"it does not hold a {kind.__name__}: {error}") from error


def _read(kind: Any, plain: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if kind is torch.Tensor:
        return tensors[plain[TENSOR]]
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        known = {item.name: hints[item.name] for item in fields(kind) if item.name in plain}
        return cast("type[Any]", kind)(**{name: _read(part, plain[name], tensors) for name, part in known.items()})
    if origin in (Union, UnionType):
        return _read_union(parts, plain, tensors)
    if origin is tuple:
        kinds = [parts[0]] * len(plain) if parts[-1] is Ellipsis else parts
        return tuple(_read(part, item, tensors) for part, item in zip(kinds, plain, strict=True))
    if origin is frozenset:
        return frozenset(_read(parts[0], item, tensors) for item in plain)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {_read(parts[0], key, tensors): _read(parts[1], item, tensors) for key, item in plain}
    if origin is Literal:
        fits = plain in parts
    else:
        fits = isinstance(plain, (int, float) if kind is float else kind)
    if not fits:
        raise TypeError(f"{plain!r} is no {kind}")
    return plain


def _read_union(kinds: Sequence[Any], plain: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if plain is None and NoneType in kinds:
        return None
    for kind in kinds:
        if kind is not NoneType:
            try:
                return _read(kind, plain, tensors)
            except (KeyError, TypeError, IndexError, ValueError):
                continue
    raise TypeError(f"{plain!r} is none of {kinds}")
