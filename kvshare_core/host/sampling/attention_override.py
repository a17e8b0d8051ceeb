"""Lets KV Share compute the attention of one call of the model."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial
from types import FunctionType
from typing import Any

import comfy.ldm.modules.attention as host_attention
import torch
from comfy.cli_args import args as host_options

from ...families.base import BLOCK_INDEX, BLOCK_KIND, BLOCK_PART, BLOCK_SHAPE, AttentionCall, BlockName
from ...families.model_inputs import InputLayout
from ...forward.forward import Forward
from ...forward.view import Grid
from ...session.early_blocks import EarlyBlocks
from ..conditioning.mixing import TEXT
from .compiler import Attend, CompilerOff, outside_records
from .early_blocks import with_early_blocks

Shapes = dict[str, tuple[tuple[int, ...], ...]]
"""Shapes of a model's inputs, by their names."""

HostAttention = Callable[..., torch.Tensor]
"""An attention function of the host."""

POSITIONS = 6
"""Arguments without a name that the host's attention has been called with, at most; later ones change the layout."""

MASK_KINDS, SCALE_KINDS = (torch.Tensor, type(None)), (float, int, type(None))
"""What the arguments `mask` and `scale` of such a call may be."""

COMPILER_OFF = CompilerOff(host_options)
"""One for the process, as the switch is."""


@dataclass(frozen=True)
class ModelInputs:
    """What the host calls its model with."""

    latent: torch.Tensor
    text: torch.Tensor | None
    options: dict[str, Any]
    """Transformer options."""
    others: Mapping[str, Any]
    """Every other input, by name."""

    def text_tokens(self, family_inputs: Mapping[str, InputLayout]) -> int:
        """Text tokens that the model attends to; 0 without text."""
        if self.text is None:
            return 0
        lengths = (value for name, value in self.others.items() if family_inputs.get(name) == "text length")
        return min((self.text.shape[1], *lengths))


@dataclass(frozen=True)
class OpenedForward:
    """What replaces the attention of one call of the model."""

    attend: Attend
    """Computes each attention call."""
    region: AbstractContextManager[Any]
    """To run the model in."""
    unread: Callable[[str], None]
    """Is told of each call whose arguments are not known here: what is wrong with them."""
    forward: Forward
    """Is told which block the model enters, where the host does not tell its attention calls."""
    blocks: int
    """Number of the model's blocks."""
    early: EarlyBlocks | None = None
    """Keeps what the forward's first blocks make for another evaluation of the segment."""


def apply_model_wrapper(opened: Callable[[ModelInputs], OpenedForward | None]) -> Callable[..., Any]:
    """A wrapper of the host's `apply_model`. `opened` receives the inputs of every call of the model; None leaves the
    call as it is."""

    def apply_model(
        executor: Any,
        x: torch.Tensor,
        t: torch.Tensor,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        options = transformer_options or {}
        found = opened(ModelInputs(x, c_crossattn, options, kwargs))
        if found is None:
            return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
        inputs = kwargs if c_crossattn is None else {**kwargs, TEXT: c_crossattn}
        diffusion_model = executor.class_obj.diffusion_model
        own_backend = layers_backend(diffusion_model)
        attend, grid = outside_records(found.attend), found.forward.grid
        override = attention_override(attend, found.unread, options, inputs, grid, own_backend)
        # What the host wrote there in an earlier call of the model must not pass for this one's.
        told = (BLOCK_INDEX, BLOCK_KIND, BLOCK_PART, BLOCK_SHAPE)
        options = {name: value for name, value in options.items() if name not in told}
        options["optimized_attention_override"] = override
        given = options.get("patches_replace") or {}
        replacements = given
        if found.early is not None:
            replacements = with_early_blocks(given, found.early, found.forward, diffusion_model)
        if not tells_blocks(type(diffusion_model)):
            replacements = telling_blocks(replacements, found)
        if replacements is not given:
            options["patches_replace"] = replacements
        with found.region, COMPILER_OFF:
            return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

    return apply_model


@cache
def tells_blocks(model: type) -> bool:
    """Whether a model class of the host names the block in the transformer options of its attention calls."""
    functions = (value for kind in model.__mro__ for value in vars(kind).values() if isinstance(value, FunctionType))
    return any(BLOCK_INDEX in function.__code__.co_consts for function in functions)


def telling_blocks(replacements: Mapping[str, Any], opened: OpenedForward) -> dict[str, Any]:
    """The host's block replacements, in which each block also tells an opened forward that it begins, and goes on as
    before: through what another pack replaces it with, or by itself."""
    cache, given = opened.forward.cache, replacements.get("dit") or {}

    def told(number: int) -> Callable[..., Any]:
        name = ("double_block", number)

        def run_block(arguments: dict[str, Any], extra: dict[str, Any]) -> Any:
            cache.block = BlockName(number)
            return given[name](arguments, extra) if name in given else extra["original_block"](arguments)

        return run_block

    tellers = {("double_block", number): told(number) for number in range(opened.blocks)}
    return {**replacements, "dit": {**given, **tellers}}


def input_shapes(inputs: Mapping[str, Any]) -> Shapes:
    """Shapes of the tensors among a model's inputs, in lists too; inputs that are shapes are taken as they are."""
    tensors = {
        name: value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]
        for name, value in inputs.items()
    }
    return {
        name: tuple(tuple(item.shape) if isinstance(item, torch.Tensor) else tuple(item) for item in items)
        for name, items in tensors.items()
        if items and all(isinstance(item, (torch.Tensor, torch.Size)) for item in items)
    }


def layers_backend(diffusion_model: torch.nn.Module) -> HostAttention | None:
    """The attention function that the layers of a model name, where all in its blocks name the same; None otherwise.

    Newer hosts (0.38) let a checkpoint name one for each layer. They take it away before they call an override, so that
    a call that an override passes on would miss it.
    """
    if not hasattr(host_attention, "ComfyAttention"):
        return None
    blocks = [child for child in diffusion_model.children() if isinstance(child, torch.nn.ModuleList)]
    layers = [getattr(module, "comfy_attention", None) for block in blocks for module in block.modules()]
    named = {getattr(layer, "function", None) for layer in layers if layer is not None}
    return named.pop() if len(named) == 1 else None


def attention_override(
    attend: Attend,
    unread: Callable[[str], None],
    options: dict[str, Any],
    inputs: Mapping[str, Any],
    grid: Grid,
    own_backend: HostAttention | None = None,
) -> HostAttention:
    """An override that calls `attend` for one forward, and otherwise the override that was there before; without one,
    calls go on to `own_backend`, or to the host's. unread: is told of calls that go on because their arguments are not
    known here; inputs: the model's, by name; grid: as in AttentionCall."""
    previous = options.get("optimized_attention_override")
    shapes = input_shapes(inputs)
    others = {name: value for name, value in inputs.items() if name not in shapes}

    def override(function: HostAttention, *args: Any, **kwargs: Any) -> torch.Tensor:
        following = (own_backend or function) if previous is None else partial(previous, function)
        unknown = _unknown_in(args, kwargs)
        if unknown is not None:
            unread(unknown)
            return following(*args, **kwargs)
        site = _HostCall(following, args, kwargs)
        output = attend(site.call(previous is not None, shapes, others, grid), site.attend)
        return following(*args, **kwargs) if output is None else site.laid_out(output)

    return override


def _unknown_in(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """What _HostCall cannot read of a call's arguments; None where it can read all of them."""
    count = len(args)
    if count < 3 or not _are_tensors(*args[:3]):
        return "does not begin with query, key and value"
    if count > POSITIONS:
        return f"has {count} arguments without a name"
    heads = args[3] if count > 3 else kwargs.get("heads")
    if not isinstance(heads, int) or heads < 1 or (count > 3 and "heads" in kwargs):
        return "does not say how many heads it has"
    mask = args[4] if count > 4 else kwargs.get("mask")
    if not isinstance(mask, MASK_KINDS) or (count > 4 and "mask" in kwargs):
        return "has a mask of another kind"
    if not isinstance(kwargs.get("scale"), SCALE_KINDS):
        return "has a scale of another kind"
    split = bool(kwargs.get("skip_reshape", False))
    return None if _fit(heads, split, *args[:3]) else "has tensors of other shapes"


def _are_tensors(query: Any, key: Any, value: Any) -> bool:
    tensor = torch.Tensor
    return isinstance(query, tensor) and isinstance(key, tensor) and isinstance(value, tensor)


def _fit(heads: int, split: bool, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether tensors have the shapes of one attention in _HostCall's flat or split layout."""
    queries, keys, values = query.shape, key.shape, value.shape
    if not len(queries) == len(keys) == len(values) == (4 if split else 3) or queries[0] != keys[0]:
        return False
    if split:
        there, width = keys[1], queries[-1]
        fits = queries[1] == heads and keys[-1] == width and keys[:3] == values[:3]
    else:
        width = queries[-1] // heads
        there = keys[-1] // max(width, 1)
        fits = queries[-1] == heads * width and keys[-1] == there * width and keys == values
    return fits and width > 0 and there > 0 and heads % there == 0


class _HostCall:
    """One attention call with the host's own arguments: (query, key, value, heads[, mask[, precision]]) and options, in
    flat [rows, tokens, heads * head_dim] or split [rows, heads, tokens, head_dim] layout. Keys may have fewer heads, of
    which the queries' are a multiple."""

    def __init__(self, function: HostAttention, args: tuple[Any, ...], kwargs: dict[str, Any]):
        """args, kwargs: with nothing unknown in them."""
        self.function = function
        self.tensors = args[:3]
        self.kwargs = dict(kwargs)
        self.heads: int = args[3] if len(args) > 3 else kwargs["heads"]
        self.mask: torch.Tensor | None = args[4] if len(args) > 4 else self.kwargs.pop("mask", None)
        self.rest = (*args[3:4], *([None] if len(args) > 4 else []), *args[5:])
        self.split_input = bool(self.kwargs.pop("skip_reshape", False))
        self.split_output = bool(self.kwargs.pop("skip_output_reshape", False))

    def call(self, overridden: bool, shapes: Shapes, others: Mapping[str, Any], grid: Grid) -> AttentionCall:
        """The call with split tensors; others: inputs of the model that have no shapes."""
        query, key, value = self.tensors
        if not self.split_input:
            width = query.shape[-1] // self.heads
            query, key, value = _split(query, width), _split(key, width), _split(value, width)
        options = {**others, **(self.kwargs.get("transformer_options") or {})}
        return AttentionCall(query, key, value, self.mask, self.kwargs.get("scale"), overridden, shapes, options, grid)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """The host's attention, without its mask, of other split tensors, with as many heads as these have; split
        output."""
        heads, rest, kwargs = query.shape[1], self.rest, self.kwargs
        if "heads" in kwargs:
            kwargs = {**kwargs, "heads": heads}
        else:
            rest = (heads, *rest[1:])
        output = self.function(query, key, value, *rest, **kwargs, skip_reshape=True)
        return _split(output, output.shape[-1] // heads)

    def laid_out(self, output: torch.Tensor) -> torch.Tensor:
        """A split output in the layout that the call asked for."""
        return output if self.split_output else output.transpose(1, 2).flatten(2)


def _split(tensor: torch.Tensor, width: int) -> torch.Tensor:
    """A flat tensor with its heads of that width apart."""
    rows, tokens, channels = tensor.shape
    return tensor.view(rows, tokens, channels // width, width).transpose(1, 2)
