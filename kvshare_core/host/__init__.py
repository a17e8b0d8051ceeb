"""The only code that knows ComfyUI's sampling internals."""

KEY = "kvshare"
"""Our name in the host's wrapper tables and transformer options."""

BEAT_TAG = "kvshare_beat"
"""Key in a conditioning's dictionary: the beat it belongs to. Conditioning without it belongs to every beat."""
