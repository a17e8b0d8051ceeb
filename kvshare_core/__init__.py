"""The pack without ComfyUI, but for `host` and `embedded`."""

VERSION = "0.1.0"
"""The pack's version, as files that it writes name it."""
