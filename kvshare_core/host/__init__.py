"""The only code that knows ComfyUI's sampling internals."""

from collections.abc import Mapping
from typing import Any

KEY = "kvshare"
"""KV Share's name in the host's wrapper tables and transformer options."""

BEAT_TAG = "kvshare_beat"
"""Key in a conditioning's dictionary: the beat it belongs to. Conditioning without it belongs to every beat."""

NEGATIVE_TAG = "kvshare_negative"
"""Key in a conditioning's dictionary: it is a negative prompt."""

COMMON_TAG = "kvshare_common"
"""Key in a conditioning's dictionary: it replaces the prompts of all beats in its part of the noise schedule."""


def is_prompt(entry: Mapping[str, Any]) -> bool:
    """Whether a conditioning's dictionary belongs to a prompt of KV Share, a beat's own or the common one."""
    return COMMON_TAG in entry or (BEAT_TAG in entry and NEGATIVE_TAG not in entry)
