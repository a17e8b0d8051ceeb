"""Socket types of the pack. Their values are frozen, so ComfyUI may cache them and pass them by reference."""

from comfy_api.latest import io

TimelineSocket = io.Custom("KVSHARE_TIMELINE")
ConfigSocket = io.Custom("KVSHARE_CONFIG")
RecordSocket = io.Custom("KVSHARE_RECORD")

CATEGORY = "kvshare"
