"""LoRAs that act on single beats, through the host's hooks."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import comfy.utils
import folder_paths
from comfy.hooks import HookGroup, create_hook_lora

from ...script.film import Lora
from ...timeline.timeline import Beat
from ..host_errors import host_errors

FOLDER = "loras"
MOST_NAMES = 20
"""How many file names an error lists."""


def lora_hooks(beats: Sequence[Beat]) -> list[Any]:
    """For every beat, the host's hooks for its LoRAs on the video model; None for a beat without any.

    A transition between two beats has those of the beat before it. Beats with the same LoRAs have the same hooks, so
    that the host prepares their weights once. Raises ValueError for a file that is missing or cannot be read, naming
    the beat and the files that exist.
    """

    @cache
    def weights(path: str) -> Any:
        return comfy.utils.load_torch_file(path, safe_load=True)

    made: dict[tuple[Lora, ...], Any] = {}
    for number, beat in enumerate(beats, start=1):
        loras = beat.script.loras
        if loras not in made:
            paths = [find_lora(number, lora) for lora in loras]
            hooks: list[Any] = []
            for lora, path in zip(loras, paths, strict=True):
                with host_errors(f"prompt {number}: the LoRA '{lora.file}' cannot be read"):
                    hooks.append(create_hook_lora(weights(path), lora.strength, 0.0))
            made[loras] = HookGroup.combine_all_hooks(hooks)
    return [made[beat.script.loras] for beat in beats]


def find_lora(number: int, lora: Lora) -> str:
    """The file of a LoRA of prompt `number`. Raises ValueError where it is missing, naming the files that exist."""
    path = folder_paths.get_full_path(FOLDER, lora.file)
    if path is not None:
        return path
    names = folder_paths.get_filename_list(FOLDER)
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    present = f"There are {', '.join(names[:MOST_NAMES])}{more}" if names else "There are none"
    raise ValueError(f"prompt {number}: the LoRA '{lora.file}' is not in models/{FOLDER}. {present}.")
