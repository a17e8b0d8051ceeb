"""Saves frozen dataclasses as plain JSON values and named tensors, and loads them again. No pickle: loading a file runs
no code.

What a file stores stays readable when the code changes:

- A field is stored under its name. A field that is renamed keeps its old name in files:
  `relevance: torch.Tensor = field(metadata={"stored": "heat"})`. Names of classes are not stored.
- A field that a file lacks gets its default, and names that no field has are ignored. So a field may be added, with a
  default, or removed.
- Any other change raises the number of the file's format, and the loader converts files of the earlier one.
"""

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import torch

FORMAT = "format"
"""The key of a document's format number."""

FIRST_FORMAT = 1
"""The format of documents without a number, which were written before formats had any."""

TENSOR = "tensor"
"""The only key of the mapping that stands for a tensor; its value is the tensor's name."""

Value = TypeVar("Value")


class NewerFormatError(ValueError):
    """A document whose format is newer than this code."""


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError for any other text, and for brackets nested too deep to read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its JSON has too many nested brackets") from None


def to_document(value: Any, tensors: dict[str, torch.Tensor], number: int) -> dict[str, Any]:
    """A dataclass as `to_plain` makes it, with the number of its format."""
    return {FORMAT: number, **to_plain(value, tensors)}


def from_document(kind: type[Value], document: Any, tensors: Mapping[str, torch.Tensor], newest: int) -> Value:
    """The value of type `kind` that `to_document` was given, from a document of format `newest` or earlier.

    Raises NewerFormatError for a later format, ValueError for anything else that is no such document.
    """
    number = document.get(FORMAT, FIRST_FORMAT) if isinstance(document, dict) else FIRST_FORMAT
    if isinstance(number, bool) or not isinstance(number, int) or number < FIRST_FORMAT:
        raise ValueError(f"its format is {number!r}, not a number from {FIRST_FORMAT}")
    if number > newest:
        raise NewerFormatError(f"its format is {number}; this version loads formats up to {newest}")
    return from_plain(kind, document, tensors)


def to_plain(value: Any, tensors: dict[str, torch.Tensor], path: str = "") -> Any:
    """Plain values for a dataclass of numbers, strings, tensors, tuples, sets, mappings and such dataclasses.

    Adds the value's tensors to `tensors`, each named after its path in the value, such as `masks.subjects.0.heat`.
    """
    if isinstance(value, torch.Tensor):
        tensors[path] = value.detach().contiguous()
        return {TENSOR: path}
    if is_dataclass(value) and not isinstance(value, type):
        return {
            stored_name(item): to_plain(
                getattr(value, item.name), tensors, f"{path}.{stored_name(item)}".removeprefix(".")
            )
            for item in fields(value)
        }
    if isinstance(value, Mapping):
        entries = cast("Mapping[Any, Any]", value)
        return [[key, to_plain(item, tensors, f"{path}.{key}")] for key, item in entries.items()]
    if isinstance(value, frozenset):
        return sorted(cast("frozenset[Any]", value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = cast("Sequence[Any]", value)
        return [to_plain(item, tensors, f"{path}.{index}") for index, item in enumerate(items)]
    return value


def from_plain(kind: type[Value], plain: Any, tensors: Mapping[str, torch.Tensor]) -> Value:
    """The value of type `kind` that `to_plain` was given. Fields that `plain` lacks get their defaults.

    Raises ValueError for plain values that do not fit `kind`, and what the dataclasses raise on values out of range.
    """
    try:
        return _load(kind, plain, tensors)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"it does not hold a {kind.__name__}: {error}") from error
    except RecursionError:
        raise ValueError(f"it does not hold a {kind.__name__}: its values are nested too deep") from None


def stored_name(item: Field[Any]) -> str:
    """The name of a dataclass field in files."""
    return item.metadata.get("stored", item.name)


def _load(kind: Any, plain: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if kind is torch.Tensor:
        return tensors[plain[TENSOR]]
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        stored = {item.name: stored_name(item) for item in fields(kind)}
        values = {
            name: _load(hints[name], plain[name_in_file], tensors)
            for name, name_in_file in stored.items()
            if name_in_file in plain
        }
        return cast("type[Any]", kind)(**values)
    if origin in (Union, UnionType):
        return _load_union(parts, plain, tensors)
    if origin is tuple:
        kinds = [parts[0]] * len(plain) if parts[-1] is Ellipsis else parts
        return tuple(_load(part, item, tensors) for part, item in zip(kinds, plain, strict=True))
    if origin is frozenset:
        return frozenset(_load(parts[0], item, tensors) for item in plain)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {_load(parts[0], key, tensors): _load(parts[1], item, tensors) for key, item in plain}
    if origin is Literal:
        fits = plain in parts
    else:
        fits = isinstance(plain, (int, float) if kind is float else kind)
    if not fits:
        raise TypeError(f"{reprlib.repr(plain)} is no {kind}")
    return plain


def _load_union(kinds: Sequence[Any], plain: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if plain is None and NoneType in kinds:
        return None
    for kind in kinds:
        if kind is not NoneType:
            try:
                return _load(kind, plain, tensors)
            except (KeyError, TypeError, IndexError, ValueError):
                continue
    raise TypeError(f"{reprlib.repr(plain)} is none of {kinds}")
