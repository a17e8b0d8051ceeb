"""The ways to make a storyboard's video that are compared with each other."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kvshare_core.config import DITCTRL, KVShareConfig

OFF = KVShareConfig(mode="off")

SHARING = KVShareConfig()
"""The settings that the nodes begin with; docs/laboratory.md tells how they were chosen."""

PAPER = replace(
    DITCTRL,
    start_step=0,
    end_step=-1,
    start_percent=2 / 50,
    end_percent=25 / 50,
    start_layer=0,
    end_layer=-1,
    layer_preset="late",
)
"""The published method at the scale of another model: the same part of the noise schedule and of the depth."""

CONCAT = KVShareConfig(mode="extend", strength=1.0, sources="first and previous", position="same")
"""Plain concatenation: every token sees everything of its sources too."""


@dataclass(frozen=True)
class Method:
    """One way. config: what is shared; guided: whether the subject is named; overlaps: whether segments share frames
    where the join says so; freenoise: whether later segments start from the first one's noise, shuffled; host_windows:
    the host's own context windows in place of the timeline's segments."""

    config: KVShareConfig = OFF
    guided: bool = True
    overlaps: bool = True
    freenoise: bool = False
    host_windows: bool = False


METHODS: Mapping[str, Method] = {
    "isolated": Method(overlaps=False),
    "windows": Method(),
    "core_windows": Method(host_windows=True),
    "freenoise": Method(freenoise=True),
    "concat": Method(CONCAT, guided=False),
    "ditctrl_nomask": Method(PAPER, guided=False),
    "ditctrl": Method(PAPER),
    "kvshare_nomask": Method(SHARING, guided=False),
    "kvshare": Method(SHARING),
}
