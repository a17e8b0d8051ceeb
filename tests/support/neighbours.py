"""Stand-ins for what other packs put on a MODEL, written from their public behaviour. Each returns a clone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrappersMP
from comfy.samplers import CFGGuider, calc_cond_batch

OVERRIDE = "optimized_attention_override"
"""Transformer option in which the host is given another attention function."""

NAG_SHARE = 0.5
"""Part of normalised attention guidance in a block's attention to the text."""


def with_negative_guidance(model: Any, negative: torch.Tensor, scale: float, share: float = NAG_SHARE) -> Any:
    """Normalised attention guidance on a Wan model: every block attends to a negative text [1, tokens, width] too, from
    the rows of the prompt alone, and goes `scale` times away from it. Object patches on the blocks' cross-attention.
    With `share` 0 nothing changes."""
    clone = model.clone()
    module = clone.get_model_object("diffusion_model")
    with torch.inference_mode():
        foreign = module.text_embedding(negative)
    for number, block in enumerate(module.blocks):
        clone.add_object_patch(
            f"diffusion_model.blocks.{number}.cross_attn.forward", _guided(block.cross_attn, foreign, scale, share)
        )
    return clone


def _guided(attention: Any, foreign: torch.Tensor, scale: float, share: float) -> Any:
    def attend(query: torch.Tensor, text: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        key, value = attention.norm_k(attention.k(text)), attention.v(text)
        return optimized_attention(query, key, value, heads=attention.num_heads, transformer_options=options)

    def forward(
        x: torch.Tensor, context: torch.Tensor, transformer_options: dict[str, Any] | None = None, **_: Any
    ) -> torch.Tensor:
        options = transformer_options or {}
        query = attention.norm_q(attention.q(x))
        rows = list(zip(query.split(1), context.split(1), strict=True))
        outputs = [attend(one, text, options) for one, text in rows]
        away = attend(rows[0][0], foreign.to(query), options)
        guided = outputs[0] * scale - away * (scale - 1)
        guided = guided / guided.abs().sum(-1, keepdim=True) * outputs[0].abs().sum(-1, keepdim=True)
        outputs[0] = outputs[0] + (guided - outputs[0]) * share
        return attention.o(torch.cat(outputs))

    return forward


def with_cache_by_cond(model: Any, skips: Callable[[int], bool]) -> Any:
    """A step cache as TeaCache keeps it: one residual for each list of conditioning, in a forward of the model that is
    patched in. skips(call): whether a call of the model, counted from 0, is answered from the cache where there is
    something in it."""
    clone = model.clone()
    module = clone.get_model_object("diffusion_model")
    kept: dict[int, torch.Tensor] = {}
    calls: list[int] = []

    def teacache_forward(x: torch.Tensor, *args: Any, transformer_options: Any = None, **kwargs: Any) -> torch.Tensor:
        names, number = transformer_options["cond_or_uncond"], len(calls)
        calls.append(1)
        if skips(number) and all(name in kept for name in names):
            return x + torch.cat([kept[name] for name in names])
        output = type(module).forward(module, x, *args, transformer_options=transformer_options, **kwargs)
        for name, residual in zip(names, (output - x).chunk(len(names)), strict=True):
            kept[name] = residual
        return output

    clone.add_object_patch("diffusion_model.forward", teacache_forward)
    return clone


def with_cache_by_call(model: Any, skips: Callable[[int], bool]) -> Any:
    """A step cache that answers in place of `apply_model`, as a model function wrapper."""
    clone = model.clone()
    kept: list[torch.Tensor] = []
    calls: list[int] = []

    def wrapper(apply_model: Any, arguments: dict[str, Any]) -> torch.Tensor:
        number = len(calls)
        calls.append(1)
        if skips(number) and kept and kept[-1].shape == arguments["input"].shape:
            return kept[-1]
        kept.append(apply_model(arguments["input"], arguments["timestep"], **arguments["c"]))
        return kept[-1]

    clone.set_model_unet_function_wrapper(wrapper)
    return clone


@contextmanager
def left_cache_by_call(model: Any, skips: Callable[[int], bool]) -> Iterator[None]:
    """A step cache as CacheDiT leaves it behind: it replaces the network's `forward` in the loaded model itself, where
    it stays when its node is gone."""
    network = model.model.diffusion_model
    own, kept, calls = network.forward, list[torch.Tensor](), list[int]()

    def cached_forward(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(1)
        if not (kept and skips(len(calls) - 1)):
            kept.append(own(*args, **kwargs))
        return kept[-1]

    cached_forward.__module__ = "/home/me/ComfyUI/custom_nodes/ComfyUI-CacheDiT.nodes_wan"
    network.forward = cached_forward
    try:
        yield
    finally:
        network.forward = own


def with_cache_by_block(model: Any, blocks: range, skips: Callable[[int], bool]) -> Any:
    """A block cache: some blocks are left out in some calls of the first of them, and their last change is added."""
    clone = model.clone()
    kept: dict[int, torch.Tensor] = {}
    calls: list[int] = []

    def replaced(block: int) -> Any:
        def run(arguments: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
            if block == blocks[0]:
                calls.append(1)
            if skips(len(calls) - 1) and block in kept and kept[block].shape == arguments["img"].shape:
                return {"img": arguments["img"] + kept[block]}
            before = arguments["img"].clone()
            output = extra["original_block"](arguments)
            kept[block] = output["img"] - before
            return output

        return run

    for block in blocks:
        clone.set_model_patch_replace(replaced(block), "dit", "double_block", block)
    return clone


def with_dropped_options(model: Any) -> Any:
    """A forward that is patched in and forgets the transformer options, so that no other node sees its attention."""
    clone = model.clone()
    module = clone.get_model_object("diffusion_model")

    def forward(x: torch.Tensor, *args: Any, transformer_options: Any = None, **kwargs: Any) -> torch.Tensor:
        return type(module).forward(module, x, *args, transformer_options={}, **kwargs)

    clone.add_object_patch("diffusion_model.forward", forward)
    return clone


def with_sampler_wrapper(model: Any, seen: list[int]) -> Any:
    """A wrapper of the sampler and of every model call, which counts."""
    clone = model.clone()

    def count(executor: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        return executor(*args, **kwargs)

    for kind in (WrappersMP.OUTER_SAMPLE, WrappersMP.SAMPLER_SAMPLE, WrappersMP.PREDICT_NOISE):
        clone.add_wrapper_with_key(kind, "counting pack", count)
    return clone


def with_own_attention(model: Any, seen: list[int]) -> Any:
    """An attention override set by a node."""
    clone = model.clone()

    def attend(function: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append(1)
        return function(*args, **kwargs)

    clone.model_options["transformer_options"][OVERRIDE] = attend
    return clone


def with_changed_calls(model: Any, change: Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]) -> Any:
    """Self-attention of a Wan model in a form of its own: each call is handed to whatever override is there with other
    arguments, and with a function that understands them. change(query, key, value, heads, **options): those arguments,
    positional and by name."""
    clone = model.clone()

    def understands(function: Any, query: Any, key: Any, value: Any, **named: Any) -> Any:
        return lambda *_changed, **_named: function(query, key, value, **named)

    def forward_of(attention: Any) -> Any:
        def forward(x: torch.Tensor, freqs: torch.Tensor, transformer_options: dict[str, Any] | None = None) -> Any:
            options = transformer_options or {}
            given = options.get(OVERRIDE)

            def override(function: Any, query: Any, key: Any, value: Any, **named: Any) -> Any:
                args, kwargs = change(query, key, value, **named)
                return given(understands(function, query, key, value, **named), *args, **kwargs)

            options = options if given is None else {**options, OVERRIDE: override}
            return type(attention).forward(attention, x, freqs, transformer_options=options)

        return forward

    for number, block in enumerate(clone.get_model_object("diffusion_model").blocks):
        clone.add_object_patch(f"diffusion_model.blocks.{number}.self_attn.forward", forward_of(block.self_attn))
    return clone


def with_replaced_blocks(model: Any, seen: list[int]) -> Any:
    """Every block replaced by itself."""
    clone = model.clone()

    def run(arguments: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        seen.append(1)
        return extra["original_block"](arguments)

    for block in range(len(clone.get_model_object("diffusion_model").blocks)):
        clone.set_model_patch_replace(run, "dit", "double_block", block)
    return clone


def with_function_wrapper(model: Any, seen: list[int]) -> Any:
    """A model function wrapper that only looks."""
    clone = model.clone()

    def wrapper(apply_model: Any, arguments: dict[str, Any]) -> torch.Tensor:
        seen.append(1)
        return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

    clone.set_model_unet_function_wrapper(wrapper)
    return clone


def with_patched_forward(model: Any, seen: list[int]) -> Any:
    """A forward that is patched in and calls the model's own."""
    clone = model.clone()
    module = clone.get_model_object("diffusion_model")

    def forward(*args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append(1)
        return type(module).forward(module, *args, **kwargs)

    clone.add_object_patch("diffusion_model.forward", forward)
    return clone


class TurnedGuider(CFGGuider):
    """A guider that evaluates the negative list in front of the prompt, and leaves it out below a noise level."""

    def __init__(self, model: Any, drops_below: float = 0.0):
        super().__init__(model)
        self.drops_below = drops_below

    def predict_noise(
        self, x: Any, timestep: Any, model_options: dict[str, Any] | None = None, seed: int | None = None
    ) -> Any:
        prompt, negative = self.conds["positive"], self.conds["negative"]
        options = model_options or {}
        if float(timestep[0]) < self.drops_below:
            return calc_cond_batch(self.inner_model, [prompt], x, timestep, options)[0]
        away, towards = calc_cond_batch(self.inner_model, [negative, prompt], x, timestep, options)
        return away + (towards - away) * self.cfg
