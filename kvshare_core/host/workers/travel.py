"""What can be sent to a worker, and what to say of the rest: values of the host as plain values and tensors on the CPU.

Workers load the model from its files and know the pack, but no node of other packs. What such a node puts on a MODEL is
refused by name, never left out.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from comfy.patcher_extension import WrappersMP

from ...session.neighbours import Neighbours
from .. import BEAT_TAG, COMMON_TAG, KEY, NEGATIVE_TAG, SEGMENTS_TAG
from ..loading.model_info import ModelSource
from .messages import ModelRecipe, Schedule

NODE = "KV Share Workers"

ENTRY_KEYS = (
    *("uuid", "area", "strength", "timestep_start", "timestep_end", "mask", "mask_strength", "default"),
    *(BEAT_TAG, NEGATIVE_TAG, COMMON_TAG, SEGMENTS_TAG),
)
"""What the host and the pack read of a conditioning besides its inputs of the model."""

HOLDS_MODELS = {
    "control": "a ControlNet",
    "gligen": "GLIGEN",
    "hooks": "a LoRA or another hook on the prompt",
    "additional_models": "a model of its own",
}
"""Parts of a conditioning that are models, or change the model."""

AROUND_THE_MODEL = (WrappersMP.APPLY_MODEL, WrappersMP.DIFFUSION_MODEL, WrappersMP.CALC_COND_BATCH)
"""Wrappers of the host that a worker would need too; those around the sampler stay in this process."""

SET_IN_CALLS = ("wrappers", "callbacks", "sample_sigmas", "cond_or_uncond", "uuids", "sigmas", KEY)
"""Transformer options that are looked at by themselves, or that every call sets anew."""

NOWHERE = torch.device("meta")
"""Where no tensor of a noise schedule is: the host moves it with the model."""


class CannotTravelError(ValueError):
    """Something cannot be sent to a worker."""


@dataclass(frozen=True)
class OnDevice:
    """A tensor that belongs where the model computes, on its way there."""

    tensor: torch.Tensor


def travelling(value: Any, device: torch.device) -> Any:
    """`value` with tensors on the CPU, those from `device`, where the model computes here, as OnDevice.

    Raises CannotTravelError for anything but plain values, collections of them, inputs of a model as the host wraps
    them, and what its networks keep of these.
    """
    if isinstance(value, torch.Tensor):
        tensor = value.detach().to("cpu", copy=True).contiguous()
        return OnDevice(tensor) if value.device == device else tensor
    found = _changed(value, partial(travelling, device=device))
    if found is not None:
        return found
    module = type(value).__module__
    if value is None or (module in ("builtins", "uuid", "torch") and not callable(value)):
        return value
    raise CannotTravelError(f"{module}.{type(value).__name__}")


def on_device(value: Any, device: torch.device) -> Any:
    """What arrived, with tensors on `device` that belong there."""
    if isinstance(value, OnDevice):
        return value.tensor.to(device)
    found = _changed(value, partial(on_device, device=device))
    return value if found is None else found


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """A collection, or an object of the host that holds inputs of a model, with its parts changed; None for anything
    else."""
    if isinstance(value, Mapping):
        return {name: change(one) for name, one in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        kind: Any = cast("type[Any]", type(value))  # pyright: ignore[reportUnknownMemberType]
        found = [change(one) for one in cast("Sequence[Any]", value)]
        return kind(*found) if hasattr(kind, "_fields") else kind(found)
    module = type(value).__module__
    if module.startswith("comfy.") and hasattr(value, "_copy_with"):
        return _rewrapped(value, change)
    if module.startswith("comfy.ldm.") and not isinstance(value, torch.nn.Module) and not callable(value):
        # What a network keeps of a sequence, such as MiniMax H3's layout.
        made = copy.copy(value)
        for name, one in vars(value).items():
            setattr(made, name, change(one))
        return made
    return None


def _rewrapped(wrapper: Any, change: Callable[[Any], Any]) -> Any:
    """An input of a model in the host's wrapper, with its content changed."""
    return wrapper._copy_with(change(wrapper.cond))


def travelling_entry(entry: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """A conditioning of the running sampler. Raises ValueError, naming what to remove, for what holds a model.

    device: as in travelling.
    """
    for name, what in HOLDS_MODELS.items():
        if entry.get(name) is not None:
            raise ValueError(
                f"{NODE}: the conditioning has {what}, which the workers cannot load. Take it off the conditioning, or "
                f"remove {NODE}."
            )
    kept = {name: entry[name] for name in ENTRY_KEYS if name in entry}
    try:
        return {**travelling(kept, device), "model_conds": travelling(entry["model_conds"], device)}
    except CannotTravelError as reason:
        raise ValueError(
            f"{NODE}: the conditioning has {reason}, which cannot be sent to the workers. Remove the node that adds "
            f"it, or {NODE}."
        ) from reason


def travelling_options(model_options: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The transformer options of one model call that workers need. Raises ValueError, naming what to remove, for
    functions of other nodes. device: as in travelling."""
    for name in ("model_function_wrapper", "multigpu_clones"):
        if model_options.get(name) is not None:
            raise _refused(f"a node that wraps the model ({name})", ())
    options: Mapping[str, Any] = model_options.get("transformer_options") or {}
    foreign = [*_foreign(options.get("wrappers") or {})]
    if foreign:
        raise _refused(f"what other nodes wrap the model in ({', '.join(foreign)})", ())
    found: dict[str, Any] = {}
    for name, value in options.items():
        if name in SET_IN_CALLS or _is_empty(value):
            continue
        try:
            found[name] = travelling(value, device)
        except CannotTravelError as reason:
            raise _refused(f"a change of the model by another node ({name}: {reason})", ()) from reason
    return found


def recipe_of(patcher: Any, source: ModelSource | None, neighbours: Neighbours) -> tuple[ModelRecipe, Any]:
    """How workers make the MODEL of the host's `patcher`, and its patches of weights, None for none. Raises ValueError,
    naming what to remove, for a MODEL that they cannot make."""
    named = (*neighbours.caches, *neighbours.others)
    if source is None:
        raise ValueError(
            f"{NODE}: the workers cannot tell which file the model was loaded from. Load it with Load Video DiT, Load "
            "Diffusion Model or Load Checkpoint."
        )
    if neighbours.left_behind:
        raise _refused("functions that another node put into the loaded model", neighbours.left_behind)
    for name in ("injections", "additional_models", "hook_patches", "weight_wrapper_patches"):
        if any(vars(patcher).get(name, {}).values()):
            raise _refused(f"a change of the model by another node ({name})", named)
    foreign = [*_foreign(patcher.wrappers), *_names(patcher.callbacks)]
    if foreign:
        raise _refused(f"what other nodes wrap the model in ({', '.join(foreign)})", named)
    travelling_options(patcher.model_options, patcher.load_device)
    objects = dict(patcher.object_patches)
    schedule = objects.pop("model_sampling", None)
    if objects:
        raise _refused(f"parts of the model that other nodes replaced ({', '.join(sorted(objects))})", named)
    patches: Any = patcher.patches or None
    if patches is not None:
        unknown = next(_not_of_host(patches), None)
        if unknown is not None:
            raise _refused(f"weights that another node patched ({unknown})", named)
    name = None if patches is None else f"patches {patcher.patches_uuid}"
    return ModelRecipe(source, None if schedule is None else _schedule(schedule, named), name), patches


def _schedule(schedule: Any, named: Sequence[str]) -> Schedule:
    """A noise schedule by the classes of the host that it is made of."""
    kind = type(schedule)
    kinds = (kind,) if kind.__module__.startswith("comfy.") else kind.__bases__
    own = () if kinds == (kind,) else [name for name in vars(kind) if not name.startswith("__")]
    values = {name: value for name, value in vars(schedule).items() if not name.startswith("_") and name != "training"}
    if own or not all(one.__module__.startswith("comfy.") for one in kinds):
        raise _refused(f"a noise schedule of another node's own ({kind.__name__})", named)
    try:
        plain = travelling(values, NOWHERE)
    except CannotTravelError as reason:
        raise _refused(f"a noise schedule of another node's own ({kind.__name__}: {reason})", named) from reason
    buffers = {name: travelling(buffer, NOWHERE) for name, buffer in schedule.named_buffers()}
    return Schedule(tuple((one.__module__, one.__name__) for one in kinds), plain, buffers)


def _not_of_host(value: Any) -> Iterator[str]:
    """Names of what workers would not know in patches of weights."""
    if isinstance(value, torch.Tensor) or value is None:
        return
    if isinstance(value, Mapping):
        parts: Sequence[Any] = [*cast("Mapping[Any, Any]", value).values()]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = [*cast("Sequence[Any]", value)]
    elif type(value).__module__ in ("builtins", "torch") and not callable(value):
        return
    elif type(value).__module__.startswith("comfy."):
        parts = [*vars(value).values()]
    else:
        yield f"{type(value).__module__}.{getattr(value, '__name__', type(value).__name__)}"
        return
    for part in parts:
        yield from _not_of_host(part)


def _foreign(wrappers: Mapping[str, Any]) -> Iterator[str]:
    """Names of what other nodes put around the model."""
    for kind in AROUND_THE_MODEL:
        yield from (str(name) for name, found in (wrappers.get(kind) or {}).items() if name != KEY and found)


def _names(callbacks: Mapping[str, Any]) -> Iterator[str]:
    for kinds in callbacks.values():
        yield from (str(name) for name, found in kinds.items() if found)


def _is_empty(value: Any) -> bool:
    """Whether an option holds nothing, at whatever depth."""
    if isinstance(value, Mapping):
        return all(_is_empty(one) for one in cast("Mapping[Any, Any]", value).values())
    return isinstance(value, list | tuple) and not value


def _refused(what: str, named: Sequence[str]) -> ValueError:
    by = f" Found on the model: {', '.join(named)}." if named else ""
    return ValueError(
        f"{NODE}: the model has {what}, which the workers cannot make again.{by} Take that node off the model, or "
        f"remove {NODE}."
    )
