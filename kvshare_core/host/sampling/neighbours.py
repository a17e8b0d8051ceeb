"""Recognises what other packs have put on a MODEL, to name it where it concerns a run."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from ...session.neighbours import Neighbours
from .. import KEY

CACHES = {
    "teacache": "TeaCache",
    "magcache": "MagCache",
    "cachedit": "CacheDiT",
    "wancache": "CacheDiT",
    "ltx2cache": "CacheDiT",
    "firstblockcache": "First Block Cache",
    "fbcache": "First Block Cache",
    "wavespeed": "WaveSpeed",
    "easycache": "EasyCache",
    "lazycache": "LazyCache",
}
"""Step caches by what is in the names of their functions, modules and options, in letters and digits alone."""

KEEPS_APART = ("EasyCache", "LazyCache")
"""Caches of the host that keep an answer for each conditioning or for the whole film, so that no segment is given what
another left."""

PACK = r"custom_nodes[./\\\\]+([^./\\\\]+)"
"""The folder of a pack in the name of a module that the host has loaded from it."""

OURS = "kvshare"

MIXED_UP = (
    "{who} keeps what the model returned last for the whole film, but a film is evaluated segment by segment, so that "
    "each segment is given what another left. Take it off the model; EasyCache and LazyCache of ComfyUI can stay."
)
"""What a film of several segments says of a cache that cannot serve it."""

MIXED_UP_BY_SEVERAL = (
    "{who} keep what the model returned last for the whole film, but a film is evaluated segment by segment, so that "
    "each segment is given what another left. Take them off the model; EasyCache and LazyCache of ComfyUI can stay."
)
"""The same of several."""

LEFT_BEHIND = (
    "{who} is still in the loaded model, where it replaced the model's own function when its node last ran. Remove "
    "that node if it is there, then restart ComfyUI."
)
"""What a run says of a node that patched the model for good."""

SEVERAL_LEFT_BEHIND = (
    "{who} are still in the loaded model, where they replaced the model's own functions when their nodes last ran. "
    "Remove those nodes if they are there, then restart ComfyUI."
)
"""The same of several."""

FUNCTIONS_OF_A_NETWORK = ("forward", "_forward", "forward_orig")
"""What packs replace in a network. The host's networks define them in their classes."""


def neighbours_of(model: Any, model_options: dict[str, Any]) -> Neighbours:
    """Other packs' nodes on the host's model patcher and in the options that it samples with."""
    caches, others = _recognised(_changes(model, model_options))
    left_caches, left_others = _recognised(_left_in_the_network(model))
    left = (left_caches - caches) | (left_others - others)
    return Neighbours(
        tuple(sorted(caches | left_caches)), tuple(sorted(others | left_others)), left_behind=tuple(sorted(left))
    )


def _recognised(changes: Iterable[tuple[str, Any]]) -> tuple[set[str], set[str]]:
    """Step caches and other packs that named functions belong to."""
    caches, others = set[str](), set[str]()
    for name, function in changes:
        module = str(getattr(function, "__module__", "") or "")
        described = "".join((name, module, str(getattr(function, "__qualname__", "")), type(function).__name__))
        letters = re.sub("[^a-z0-9]", "", described.lower())
        if OURS in letters:
            continue
        own_name = getattr(function, "name", None)
        cache = next((shown for part, shown in CACHES.items() if part in letters), None)
        pack = re.search(PACK, module)
        if cache is not None:
            # LazyCache keeps its state under the name of EasyCache, but says what it is.
            caches.add(own_name if own_name in KEEPS_APART else cache)
        elif pack is not None:
            others.add(pack.group(1))
    if "LazyCache" in caches:
        caches.discard("EasyCache")
    return caches, others


def mixed_up_by(neighbours: Neighbours) -> str | None:
    """What to say of caches that give a segment what another left; None where there is none."""
    names = [name for name in neighbours.caches if name not in KEEPS_APART]
    left = [name for name in names if name in neighbours.left_behind]
    if len(left) > 1:
        return SEVERAL_LEFT_BEHIND.format(who=" and ".join(left))
    if left:
        return LEFT_BEHIND.format(who=left[0])
    if len(names) > 1:
        return MIXED_UP_BY_SEVERAL.format(who=" and ".join(names))
    return MIXED_UP.format(who=names[0]) if names else None


def _left_in_the_network(model: Any) -> Iterator[tuple[str, Any]]:
    """What nodes have put in place of a network's own functions without the host's patcher."""
    network = vars(model.model.diffusion_model)
    for name in FUNCTIONS_OF_A_NETWORK:
        # Where the host has put a patch of an earlier run, it keeps what it will put back.
        value = model.object_patches_backup.get(f"diffusion_model.{name}", network.get(name))
        if value is not None:
            yield name, value


def _changes(model: Any, model_options: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What nodes have put there, each with the name under which it is there."""
    transformer_options = model_options.get("transformer_options", {})
    for options in (model_options, transformer_options):
        yield from ((name, value) for name, value in options.items() if name not in ("transformer_options", KEY))
    wrappers = (model.wrappers, model.callbacks, transformer_options.get("wrappers", {}))
    for kinds in wrappers:
        for by_key in kinds.values():
            for key, functions in by_key.items():
                yield from ((str(key), function) for function in functions)
    yield from model.object_patches.items()
    for patches in transformer_options.get("patches", {}).values():
        yield from (("", patch) for patch in patches)
    for replaced in transformer_options.get("patches_replace", {}).values():
        yield from (("", patch) for patch in replaced.values())
