"""A CUDA device without one: tensors that say they are on `cuda:0` and hold their values in the computer's memory.

Values are real, so that nothing that depends on them is lost. Every operation is held to CUDA's own rule of devices
(tensors of the CPU only without dimensions, or as indices), and what makes the CPU wait for the device is written down
with the line of the pack, or else of the host, that did it.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kvshare_core import devices

CUDA = torch.device("cuda", 0)
PACK = Path(__file__).parents[2] / "kvshare_core"
NO_PLACE = (str(PACK / "devices.py"), __file__, str(Path(torch.__file__).parent))
"""Files that only pass on what others asked for."""
aten = torch.ops.aten
READS = {aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default}
SIZED_BY_VALUES = {aten.nonzero.default, aten.masked_select.default, aten._unique2.default, aten.bincount.default}
ASKED = {
    getattr(torch.Tensor, name)
    for name in ("__float__", "__int__", "__bool__", "__index__", "item", "tolist", "numpy", "__contains__")
}
"""What Python asks of a tensor's values."""
INDEXED = ("aten.index.Tensor", "aten.index_put", "aten._index_put_impl")


@dataclass(frozen=True)
class Wait:
    """Something that a GPU would make the CPU wait for, or refuse. kind: `mixed devices`, `copy to the device`, `copy
    to the CPU`, `copy of ordinary memory` (which CUDA stages only while it is small), `value read back` or `size read
    back`; place: file and line, in the pack relative to it."""

    kind: str
    place: str

    @property
    def of_pack(self) -> bool:
        return self.place.startswith("kvshare_core/")


class PretendStream:
    """A stream or an event of that device, which waits for nothing."""

    def __init__(self, *arguments: Any):
        self.device = CUDA

    def wait_stream(self, stream: Any) -> None:
        pass

    def wait_event(self, event: Any) -> None:
        pass

    def record(self, stream: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass


class PretendRuntime:
    """CUDA's runtime, as far as the host pins memory with it. pinned: where pinned memory begins."""

    def __init__(self, pinned: set[int]):
        self._pinned = pinned

    def cudaHostRegister(self, pointer: int, size: int, flags: int) -> int:  # noqa: N802
        self._pinned.add(pointer)
        return 0

    def cudaHostUnregister(self, pointer: int) -> int:  # noqa: N802
        self._pinned.remove(pointer)
        return 0


class PretendTensor(torch.Tensor):
    """A tensor on the pretended device, whose values are in `held`."""

    held: torch.Tensor
    device_of: "PretendCuda"

    @staticmethod
    def __new__(cls, values: torch.Tensor, device: "PretendCuda") -> "PretendTensor":
        found = torch.Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            layout=values.layout,
            device=CUDA,
        )
        found.held, found.device_of = values, device
        return found

    def __repr__(self, **options: Any) -> str:
        return f"PretendTensor({tuple(self.shape)}, {self.dtype})"

    def untyped_storage(self) -> Any:
        return self.held.untyped_storage()

    def record_stream(self, stream: Any) -> None:
        pass

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Torch's own way to these asks the driver for the current device before any operation is seen.
        if func is torch.Tensor.__getitem__:
            return _at(*args)
        if func is torch.Tensor.__setitem__:
            return _put_at(*args)
        if func is torch.Tensor.copy_:
            device = next(one.device_of for one in args[:2] if isinstance(one, cls))
            waits = not (args[2] if len(args) > 2 else (kwargs or {}).get("non_blocking", False))
            return device.run(aten.copy_.default, (args[0], args[1], not waits), {})
        if func in (torch.Tensor.nonzero, torch.nonzero):
            return aten.nonzero.default(*args)
        if func is torch.Tensor.contiguous:
            return args[0] if args[0].is_contiguous() else args[0].clone(memory_format=torch.contiguous_format)
        if func is torch.Tensor.__invert__:
            return aten.bitwise_not.default(*args)
        if func in ASKED and isinstance(args[0], cls):
            args[0].device_of.note("value read back")
            return func(args[0].held)
        # Not as torch does it by itself: that takes every result, also one on the CPU, for one of this class.
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        (device,) = {tensor.device_of for tensor in _tensors((args, kwargs)) if isinstance(tensor, cls)}
        return device.run(func, args, kwargs)


class PretendCuda(TorchDispatchMode):
    """While it is active, what is made on `cuda` is pretended to be there. `waits` counts what happened since it was
    last emptied."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[Wait] = Counter()
        self.pinned: set[int] = set()
        """Where pinned memory of the computer begins."""

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """`tensor` in pinned memory."""
        pinned = tensor.clone()
        self.pinned.add(pinned.untyped_storage().data_ptr())
        return pinned

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        """Whether the memory of a tensor is pinned."""
        return tensor.untyped_storage().data_ptr() in self.pinned

    def __enter__(self) -> Any:
        self._lifted = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *reason: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(self._lifted)
        super().__exit__(*reason)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def put(self, tensor: torch.Tensor) -> PretendTensor:
        """A copy of `tensor` on the device."""
        return PretendTensor(tensor.detach().clone(), self)

    def waits_of(self, act: Callable[[], Any]) -> Counter[str]:
        """What `act` makes the CPU wait for, by kind."""
        before = self.waits.copy()
        act()
        kinds: Counter[str] = Counter()
        for wait, count in (self.waits - before).items():
            kinds[wait.kind] += count
        return kinds

    def note(self, kind: str) -> None:
        """Writes down that the running line of the pack does this."""
        self.waits[Wait(kind, _place())] += 1

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The operation on the tensors' values, after a look at what it would do to a device."""
        if _is_composite(func):
            # In inference mode these arrive whole.
            with self:
                result = func.decompose(*_mapped(_numbered, args), **_mapped(_numbered, kwargs))
            if result is not NotImplemented:
                return result
        tensors = list(_tensors((args, kwargs)))
        ours = [tensor for tensor in tensors if isinstance(tensor, PretendTensor)]
        target = None if kwargs.get("device") is None else torch.device(kwargs["device"])
        self._look(func, args, kwargs, tensors, target)
        options = dict(kwargs)
        pins = bool(options.pop("pin_memory", None))
        there = bool(ours) if target is None else target.type == "cuda"
        if target is not None and there:
            options["device"] = torch.device("cpu")
        args_of_cpu, options = _mapped(_values, args), _mapped(_values, options)
        name = str(func)
        if name.startswith(("aten._scaled_dot_product_flash_attention.", "aten._scaled_dot_product_efficient")):
            return self._fused(name, args_of_cpu, options)
        result = func(*args_of_cpu, **options)
        if pins:
            self.pinned.add(result.untyped_storage().data_ptr())
        if func in READS or result is None:
            return result
        if name.split(".")[1].endswith("_") or kwargs.get("out") is not None:
            return args[0] if kwargs.get("out") is None else kwargs["out"]
        same = {id(tensor.held): tensor for tensor in ours}

        def wrapped(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or not there or isinstance(value, PretendTensor):
                return value
            known = same.get(id(value))
            return PretendTensor(value, self) if known is None else known

        return _mapped(wrapped, result)

    def _look(self, func: Any, args: Any, kwargs: Any, tensors: list[Any], target: torch.device | None) -> None:
        ours = [tensor for tensor in tensors if isinstance(tensor, PretendTensor)]
        plain = [tensor for tensor in tensors if not isinstance(tensor, PretendTensor)]
        if func is aten.copy_.default:
            waits = not (args[2] if len(args) > 2 else kwargs.get("non_blocking"))
            if len(ours) == 1 and (len(plain) == 1 and args[1].dim() > 0):
                if waits:
                    self.note("copy to the device" if isinstance(args[0], PretendTensor) else "copy to the CPU")
                else:
                    self._look_at_memory(plain[0])
        elif func is aten._to_copy.default:
            upload = bool(plain) and target is not None and target.type == "cuda"
            if upload and kwargs.get("non_blocking"):
                self._look_at_memory(plain[0])
            elif upload:
                self.note("copy to the device")
            elif ours and target is not None and target.type == "cpu" and not kwargs.get("non_blocking"):
                self.note("copy to the CPU")
        elif ours and any(tensor.dim() > 0 for tensor in plain):
            self.note("copy to the device" if str(func).startswith(INDEXED) else "mixed devices")
        if ours and func in READS:
            self.note("value read back")
        indices = args[1] if str(func).startswith(INDEXED) else ()
        by_mask = any(isinstance(one, torch.Tensor) and one.dtype in (torch.bool, torch.uint8) for one in indices)
        if ours and (func in SIZED_BY_VALUES or by_mask):
            self.note("size read back")

    def _look_at_memory(self, tensor: torch.Tensor) -> None:
        if tensor.nbytes > devices.STAGED_BYTES and not self.is_pinned(tensor):
            self.note("copy of ordinary memory")

    def _fused(self, name: str, args: Any, options: Any) -> Any:
        query, key, value = args[:3]
        scores = query.float() @ key.float().transpose(-1, -2) * (options.get("scale") or query.shape[-1] ** -0.5)
        output, total = (scores.softmax(-1) @ value.float()).to(query.dtype), scores.logsumexp(-1)
        found = (PretendTensor(output, self), PretendTensor(total, self))
        return (*found, None, None) if "efficient" in name else (*found, *[None] * 7)


@contextmanager
def pretending() -> Iterator[PretendCuda]:
    """The device, in a torch that takes it for one with a driver. To be entered where tensors are made on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(torch.cuda, "current_device", lambda: 0)
        patch.setattr(torch.cuda, "set_device", lambda device: None)
        patch.setattr(torch.cuda, "Stream", PretendStream)
        patch.setattr(torch.cuda, "Event", PretendStream)
        patch.setattr(torch.cuda, "current_stream", PretendStream)
        patch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
        device = PretendCuda()
        patch.setattr(torch.cuda, "cudart", lambda: PretendRuntime(device.pinned))
        patch.setattr(torch.Tensor, "pin_memory", lambda tensor: device.pin(tensor))
        patch.setattr(torch.Tensor, "is_pinned", lambda tensor: device.is_pinned(tensor))
        yield device


def _split(tensor: torch.Tensor, index: Any) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """The view of `tensor` that all of `index` but its tensors choose, and the tensors by dimension."""
    parts = list(index) if isinstance(index, tuple) else [index]
    used = sum(one is not None and one is not Ellipsis for one in parts)
    used += sum(one.dim() - 1 for one in parts if isinstance(one, torch.Tensor) and one.dtype == torch.bool)
    here = next((place for place, one in enumerate(parts) if one is Ellipsis), len(parts))
    parts[here : here + 1] = [slice(None)] * (tensor.dim() - used)
    indices: list[torch.Tensor | None] = []
    for one in parts:
        dim = len(indices)
        if one is None:
            tensor = tensor.unsqueeze(dim)
            indices.append(None)
        elif isinstance(one, slice):
            start, stop, step = one.indices(tensor.shape[dim])
            tensor = aten.slice.Tensor(tensor, dim, start, stop, step)
            indices.append(None)
        elif isinstance(one, (torch.Tensor, list)):
            one = torch.as_tensor(one)
            indices.append(one)
            indices += [None] * (one.dim() - 1 if one.dtype == torch.bool else 0)
        else:
            tensor = tensor.select(dim, int(one))
    return tensor, indices


def _at(tensor: torch.Tensor, index: Any) -> torch.Tensor:
    view, indices = _split(tensor, index)
    given = [one for one in indices if one is not None]
    return view if not given else aten.index.Tensor(view, _without_gaps(indices))


def _put_at(tensor: torch.Tensor, index: Any, value: Any) -> None:
    view, indices = _split(tensor, index)
    if not isinstance(value, torch.Tensor):
        value = torch.full((), value, dtype=tensor.dtype)
    if any(one is not None for one in indices):
        aten.index_put_.default(view, _without_gaps(indices), value.to(tensor.dtype))
    else:
        view.copy_(value)


def _without_gaps(indices: list[torch.Tensor | None]) -> list[torch.Tensor | None]:
    """The same without the dimensions that a mask of several dimensions takes beyond its own place."""
    found: list[torch.Tensor | None] = []
    skip = 0
    for one in indices:
        if skip:
            skip -= 1
            continue
        found.append(one)
        skip = one.dim() - 1 if one is not None and one.dtype == torch.bool else 0
    return found


@cache
def _is_composite(func: Any) -> bool:
    """Whether an operation is made of others, which show what it does. What torch writes in Python for it would ask the
    driver."""
    if (
        func is aten.scaled_dot_product_attention.default
        or torch._C.DispatchKey.CompositeImplicitAutograd in func.py_kernels
    ):
        return False
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """`value` with `function` of everything in its lists, tuples and dictionaries. torch's own way takes most of a
    test's time."""
    if isinstance(value, (tuple, list)):
        return type(value)([_mapped(function, one) for one in value])
    if isinstance(value, dict):
        return {name: _mapped(function, one) for name, one in value.items()}
    return function(value)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in lists, tuples and dictionaries."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _tensors(one)


def _numbered(value: Any) -> Any:
    """A device without a number as the pretended one: torch would ask the driver for the current device."""
    return CUDA if isinstance(value, torch.device) and value.type == "cuda" and value.index is None else value


def _values(tensor: Any) -> Any:
    return tensor.held if isinstance(tensor, PretendTensor) else tensor


def _place() -> str:
    """The innermost line outside of `NO_PLACE`, unless the pack has one: then that."""
    frame, host = sys._getframe(2), ""
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(NO_PLACE):
            if file.startswith(str(PACK)):
                return f"{Path(file).relative_to(PACK.parent)}:{frame.f_lineno}"
            host = host or f"{file}:{frame.f_lineno}"
            if "/comfy/" in file:
                return host
        frame = frame.f_back
    return host
