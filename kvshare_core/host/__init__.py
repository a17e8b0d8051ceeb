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

PROMPT_TAG = "kvshare_prompt"
"""Key in a conditioning's dictionary: the text that it was encoded from."""

HANDOVER_TAG = "kvshare_handover"
"""Key in a conditioning's dictionary: the `Handover` of its film, in which samplers leave masks to each other."""

SEGMENTS_TAG = "kvshare_segments"
"""Key in a conditioning's dictionary: the numbers of the segments it is for. Conditioning without it is for all."""


def is_for(entry: Mapping[str, Any], segment: int) -> bool:
    """Whether a conditioning's dictionary is for a segment, of whatever beat."""
    return segment in entry.get(SEGMENTS_TAG, (segment,))


def is_prompt(entry: Mapping[str, Any]) -> bool:
    """Whether a conditioning's dictionary belongs to a prompt of KV Share, a beat's own or the common one."""
    return COMMON_TAG in entry or (BEAT_TAG in entry and NEGATIVE_TAG not in entry)
