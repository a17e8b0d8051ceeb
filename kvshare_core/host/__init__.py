"""The only code that knows ComfyUI's sampling internals."""

from collections.abc import Mapping
from typing import Any

KEY = "kvshare"
"""Our name in the host's wrapper tables and transformer options."""

BEAT_TAG = "kvshare_beat"
"""Key in a conditioning's dictionary: the beat it belongs to. Conditioning without it belongs to every beat."""

NEGATIVE_TAG = "kvshare_negative"
"""Key in a conditioning's dictionary: it is a negative prompt."""

COMMON_TAG = "kvshare_common"
"""Key in a conditioning's dictionary: it stands for the prompts of all beats as long as it holds."""


def is_prompt(entry: Mapping[str, Any]) -> bool:
    """Whether a conditioning's dictionary is of a prompt of ours, a beat's own or the common one."""
    return COMMON_TAG in entry or (BEAT_TAG in entry and NEGATIVE_TAG not in entry)
