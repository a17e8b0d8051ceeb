"""Counts what would make the CPU wait for a device, with torch's `meta` device in its place."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class DeviceTraffic(TorchDispatchMode):
    """Takes `meta` for a device whose results take time. Counts what makes the CPU wait for it; anything that depends
    on data fails by itself there. What comes to the CPU is random."""

    def __init__(self) -> None:
        super().__init__()
        self.to_cpu = 0
        self.blocking_uploads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.name()
        if name == "aten::_to_copy":
            source, device = args[0].device.type, torch.device(kwargs.get("device") or args[0].device).type
            if (source, device) == ("meta", "cpu"):
                self.to_cpu += 1
                return torch.rand(args[0].shape).round().to(kwargs.get("dtype") or args[0].dtype)
            self.blocking_uploads += (source, device) == ("cpu", "meta") and not kwargs.get("non_blocking")
        return func(*args, **kwargs)


class FreshTensors(TorchFunctionMode):
    """Counts `torch.tensor(..., device=...)`, which uploads and waits where no operation can be seen."""

    uploads = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor):
            self.uploads += torch.device(kwargs.get("device") or "cpu").type == "meta"
        return func(*args, **kwargs)
