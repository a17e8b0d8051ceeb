"""The only code that knows ComfyUI's sampling internals."""

from collections.abc import Mapping
from typing import Any

KEY = "kvshare"
"""Our name in the host's wrapper tables and transformer options."""

BEAT_TAG = "kvshare_beat"
"""Key in a conditioning's dictionary: the beat it belongs to. Conditioning without it belongs to every beat."""

NEGATIVE_TAG = "kvshare_negative"
"""Key in a conditioning's dictionary that has BEAT_TAG: it is the beat's negative prompt."""


def is_prompt(entry: Mapping[str, Any]) -> bool:
    """Whether a conditioning's dictionary is of a beat's prompt."""
    return BEAT_TAG in entry and NEGATIVE_TAG not in entry
